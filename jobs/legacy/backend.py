"""What the legacy backends share: they live in an environment of their own and load their successor's checkpoints.

Why the same checkpoint: with equal weights a difference in perplexity is a bug, and one in speed is the package's own.
Their loaders were written for older packages and lose tensors beside today's: what they return is checked and mended.

    model = complete(model, folder)     # embeddings in place, every layer known by its size
"""

import contextlib
import io
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from farm.cells import Load
from farm.errors import Unsupported
from farm.quantization import Quantization
from jobs.legacy.environments import why_not_in
from jobs.models.random_codes import MIDDLE, fill_codes
from jobs.quantization.base import (
    Backend,
    backend_for,
    check_complete,
    load_random,
    replace_linears,
    why_not_here,
)
from jobs.quantization.gptq_awq import BITS

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from jobs.models.sources import Located


class LegacyBackend(Backend):
    """`package` is what its environment has and the farm's own has not. `stored_zero`: how its format writes a zero
    point of 8."""

    stored_zero = MIDDLE

    package: str

    def from_checkpoint(self, folder: Path, load: Load, dtype: torch.dtype) -> "PreTrainedModel":
        """What the package's own loader makes of it."""
        raise NotImplementedError

    def empty_layer(self, linear: nn.Linear, group_size: int) -> nn.Module:
        """The package's layer in the place of this one, without true codes."""
        raise NotImplementedError

    def load(self, wanted: Quantization, located: "Located", load: Load, seed: int = 0) -> "PreTrainedModel":
        from jobs.checkpoints import require_same

        dtype, group_size = self.dtype(wanted, load.device), wanted.group_size or 0
        with quietly(self.package):
            if located.random is not None:
                model = load_random(located, dtype, load.device, seed)
                model = replace_linears(model, lambda linear: self.empty_layer(linear, group_size))
                return fill_with_random_codes(model, group_size, seed, self.stored_zero)
            require_same(wanted, located, maker_of(wanted).name, BITS)
            folder = Path(located.name_or_path)
            return complete(self.from_checkpoint(folder, load, dtype), folder)

    def why_not(self, wanted: Quantization, device: str) -> str | None:
        return why_not_here(device) or why_not_in(wanted.name, self.package)

    def details(self, wanted: Quantization, model: "PreTrainedModel") -> dict[str, str]:
        """Of the weights, what their maker says; a backend adds its kernel."""
        maker = maker_of(wanted)
        return backend_for(maker).details(maker, model)

    def recipe(self, wanted: Quantization) -> dict[str, str]:
        maker = maker_of(wanted)
        return backend_for(maker).recipe(maker)

    def prepare(self, wanted: Quantization, located: "Located", load: Load, folder: Path, seed: int = 0) -> None:
        """Never here: the packages that make checkpoints are the farm's own, not this environment's."""
        raise Unsupported(
            f"{located.name_or_path} has no {maker_of(wanted)} checkpoint on this node yet, and {wanted.name} cannot "
            "make one; run farm prepare SWEEP.yaml"
        )


def maker_of(wanted: Quantization) -> Quantization:
    """The modern precision whose checkpoints it loads."""
    assert wanted.checkpoint is not None
    return wanted.checkpoint


def complete(model: "PreTrainedModel", folder: Path) -> "PreTrainedModel":
    """The model with its tied embeddings restored. Raises ModelUnavailable when the folder lacks any other tensor."""
    stored, tied = _stored(folder), _tied_names(model)
    biases = {f"{name}.bias" for name, module in model.named_modules() if hasattr(module, "qweight")}
    absent = set(model.state_dict()) - set(stored) - biases
    held = tied & set(stored)
    if held:
        _restore_tied(model, stored, min(held))
        absent -= tied
    check_complete({"missing_keys": absent}, str(folder))
    return model.requires_grad_(False).eval()


def _tied_names(model: "PreTrainedModel") -> set[str]:
    """Of the embeddings that are the head, too; nothing for a model that has both."""
    embeddings: Any = model.get_input_embeddings()
    head: Any = model.get_output_embeddings()
    if embeddings.weight is not head.weight:
        return set()
    return {name for name, found in model.named_parameters(remove_duplicate=False) if found is head.weight}


def _restore_tied(model: "PreTrainedModel", stored: dict[str, Path], name: str) -> None:
    """accelerate puts the checkpoint's embeddings in place and then ties them to the head, which comes first by name
    and which the checkpoint does not hold: zeros on both sides, no error, perplexity = size of the vocabulary."""
    embeddings: Any = model.get_input_embeddings()
    with torch.no_grad():
        embeddings.weight.copy_(_read(stored[name], name))


def _stored(folder: Path) -> dict[str, Path]:
    """Which file holds which tensor."""
    from safetensors import safe_open

    found: dict[str, Path] = {}
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, "pt") as tensors:
            found |= dict.fromkeys(tensors.keys(), file)
    return found


def _read(file: Path, name: str) -> torch.Tensor:
    from safetensors import safe_open

    with safe_open(file, "pt") as tensors:
        tensor: torch.Tensor = tensors.get_tensor(name)
    return tensor


def quantized_layers(model: nn.Module) -> list[Any]:
    return [module for module in model.modules() if hasattr(module, "qweight")]


def fill_with_random_codes(model: "PreTrainedModel", group_size: int, seed: int, stored_zero: int) -> "PreTrainedModel":
    """The speed and the memory of true weights."""
    generator = torch.Generator(device=model.device).manual_seed(seed)
    for layer in quantized_layers(model):
        fill_codes(layer, group_size, generator, stored_zero)
    return model.requires_grad_(False).eval()


@contextlib.contextmanager
def quietly(logger: str) -> Iterator[None]:
    """Its warnings are about kernels that the row names anyway."""
    logging.getLogger(logger).setLevel(logging.ERROR)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield
