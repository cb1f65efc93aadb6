"""What all backends share: the interface, the registry, and loading from a checkpoint without surprises.

Why so strict about loading: a model that loads without an error can still be garbage. A checkpoint with a missing
tensor gets random numbers in its place, a model too large for the GPUs is moved to the CPU in silence, and both would
be timed happily. Here both are failures.

    backend = usable_backend(wanted := parse_quantization("nf4?double_quant=on"), "cuda")
    model = backend.load(wanted, located, load, seed=0)
"""

import importlib
import logging
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from farm.cells import Load
from farm.errors import ModelUnavailable, Unsupported, unknown
from farm.quantization import Quantization
from jobs.models.transformers_4 import as_here

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from jobs.models.sources import Located

ATTENTION = "sdpa"
_PACKAGE = "jobs.quantization"
_NAMED_KEYS = 3  # a broken checkpoint may lack hundreds of tensors: three tell which layer it is


class Backend:
    """Loads models in the precisions it names. A backend overrides what differs; `why_not` is cheap and never raises.

    One that works on prepared weights (`checkpoint` in the catalog) also overrides `recipe` and `prepare`.
    """

    names: tuple[str, ...] = ()

    def why_not(self, wanted: Quantization, device: str) -> str | None:
        """One sentence when it cannot run here, None when it can."""
        return why_not_here(device)

    def dtype(self, wanted: Quantization, device: str) -> torch.dtype:
        """What the matrix products are computed in, and what the unquantized parameters are kept in."""
        raise NotImplementedError

    def linear_classes(self, wanted: Quantization, device: str) -> tuple[str, ...]:
        """What each linear layer but the head may turn out to be; anything else is told in the row."""
        raise NotImplementedError

    def load(self, wanted: Quantization, located: "Located", load: Load, seed: int = 0) -> "PreTrainedModel":
        """The model on its device, ready to run. `seed` makes the weights of a random model."""
        raise NotImplementedError

    def details(self, wanted: Quantization, model: "PreTrainedModel") -> dict[str, str]:
        """What is true of the loaded weights and worth a column: bits, group size, kernel, calibration text."""
        group = {} if wanted.group_size is None else {"group_size": str(wanted.group_size)}
        return {"bits": f"{wanted.precision.code_bits:g}", **group}

    def dequantized(self, layer: nn.Module) -> torch.Tensor | None:
        """The layer's weights, [out, in], as they are after quantization; None where the package cannot tell them."""
        return None

    def recipe(self, wanted: Quantization) -> dict[str, str]:
        """What makes a prepared checkpoint the one it is, beside the model and the calibration text."""
        raise NotImplementedError

    def prepare(self, wanted: Quantization, located: "Located", load: Load, folder: Path, seed: int = 0) -> None:
        """Write a checkpoint that `load` can read into an empty folder; random weights need no calibration."""
        raise NotImplementedError


@cache
def backends() -> tuple[Backend, ...]:
    """Every backend of the package, in the order of the file names."""
    package = importlib.import_module(_PACKAGE)
    names = [module.name for module in pkgutil.iter_modules(package.__path__) if module.name != "base"]
    return tuple(importlib.import_module(f"{_PACKAGE}.{name}").BACKEND for name in names)


def backend_for(wanted: Quantization) -> Backend:
    """The backend that serves a quantization. Raises Unsupported when none does."""
    for backend in backends():
        if wanted.name in backend.names:
            return backend
    served = [name for backend in backends() for name in backend.names]
    raise Unsupported(unknown("quantization", wanted.name, served, where="no backend loads it"))


def why_not(wanted: Quantization, device: str) -> str | None:
    """One sentence when this quantization cannot run on this device here, None when it can. Never raises."""
    try:
        return backend_for(wanted).why_not(wanted, device)
    except Unsupported as error:
        return str(error)


def usable_backend(wanted: Quantization, device: str) -> Backend:
    """The backend that serves a quantization, when it can run here. Raises Unsupported with the reason."""
    reason = why_not(wanted, device)
    if reason is not None:
        raise Unsupported(f"{wanted} cannot run on {device} here: {reason}")
    return backend_for(wanted)


def why_not_here(device: str, *packages: str, capability: tuple[int, int] = (0, 0)) -> str | None:
    """The usual reasons: a package is missing, there is no CUDA device, or it is too old."""
    absent = [package for package in ("transformers", "accelerate", *packages) if find_spec(package) is None]
    if absent:
        return f"it needs the Python package {absent[0]!r}, which is not installed; run: pip install {absent[0]}"
    return _why_no_cuda(capability) if device == "cuda" else None


def _why_no_cuda(capability: tuple[int, int]) -> str | None:
    if not torch.cuda.is_available():
        return "torch sees no CUDA device; check the driver and CUDA_VISIBLE_DEVICES, or use device cpu"
    here = torch.cuda.get_device_capability()
    if here < capability:
        needed = ".".join(map(str, capability))
        return f"it needs compute capability {needed}, this GPU has {'.'.join(map(str, here))}; use another precision"
    return None


def load_pretrained(located: "Located", load: Load, dtype: torch.dtype, quantization: Any = None) -> "PreTrainedModel":
    """A checkpoint on its device, complete. Raises ModelUnavailable or torch.OutOfMemoryError."""
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()  # a bar per tensor would write over the sweep's own display
    extra = {} if quantization is None else {"quantization_config": quantization}
    with _typed_errors(located.name_or_path):
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            located.name_or_path,
            revision=located.revision or "main",
            **as_here({"dtype": dtype}),
            device_map=_device_map(load.device),
            attn_implementation=ATTENTION,
            use_safetensors=True,
            trust_remote_code=load.trust_remote_code,
            output_loading_info=True,
            **extra,
        )
    model, report = loaded
    check_complete(report, located.name_or_path)
    _check_all_on_gpu(model, load.device)
    return model  # type: ignore[no-any-return]


def check_complete(report: Mapping[str, Any], name: str) -> None:
    """Raise ModelUnavailable when the loader filled tensors with random numbers because the checkpoint lacks them."""
    absent = sorted(map(str, [*report.get("missing_keys", ()), *report.get("mismatched_keys", ())]))
    if absent:
        named = ", ".join(absent[:_NAMED_KEYS]) + (", ..." if len(absent) > _NAMED_KEYS else "")
        raise ModelUnavailable(
            f"{name}: the checkpoint lacks {len(absent)} tensors or has them in another shape ({named}); they would be "
            "random numbers. Download it again, or check that config.json belongs to these weights"
        )


def load_dense(located: "Located", load: Load, dtype: torch.dtype, seed: int) -> "PreTrainedModel":
    """The unquantized model, from its checkpoint or made up. Raises what `load_pretrained` raises."""
    if located.random is not None:
        return load_random(located, dtype, load.device, seed)
    return load_pretrained(located, load, dtype)


def load_random(located: "Located", dtype: torch.dtype, device: str, seed: int) -> "PreTrainedModel":
    """A model of the true shape with made-up weights, in the dense dtype."""
    from jobs.models.random_weights import build_random  # imports transformers: seconds that `farm doctor` would pay

    assert located.random is not None
    return build_random(located.random, dtype, device, seed)


def replace_linears(model: "PreTrainedModel", make: Callable[[nn.Linear], nn.Module]) -> "PreTrainedModel":
    """Swap each linear layer but the head in place. The old one is freed before the next is made: one layer of extra
    memory, where a list of the modules would keep the whole 16-bit model alive."""
    head = model.get_output_embeddings()
    names = [name for name, module in model.named_modules() if type(module) is nn.Linear and module is not head]
    for name in names:
        model.set_submodule(name, make(model.get_submodule(name)))  # type: ignore[arg-type]
    return model


def _device_map(device: str) -> str | dict[str, str | int]:
    """One device is named outright: with "auto", a model that does not fit would move to the CPU instead of failing."""
    if device == "cpu":
        return {"": "cpu"}
    return "auto" if torch.cuda.device_count() > 1 else {"": 0}


def _check_all_on_gpu(model: "PreTrainedModel", device: str) -> None:
    homes = set(map(str, (getattr(model, "hf_device_map", None) or {}).values()))
    if device == "cuda" and homes & {"cpu", "disk"}:
        raise torch.OutOfMemoryError(
            f"the model does not fit on the {torch.cuda.device_count()} visible GPUs: parts would be served from the "
            "CPU or the disk; use more GPUs or fewer bits"
        )


@contextmanager
def _typed_errors(name: str) -> Iterator[None]:
    """Say which kind of failure it was. transformers reports a failed quantization (out of memory, too) in a log line
    and then raises a RuntimeError that no longer says why."""
    with _warnings_of("transformers.modeling_utils") as lines:
        try:
            yield
        except OSError as error:
            raise ModelUnavailable(
                f"{name} could not be loaded: {error}; the folder must hold config.json and complete *.safetensors"
            ) from error
        except RuntimeError as error:
            if "out of memory" in "\n".join(lines).lower():
                raise torch.OutOfMemoryError(f"out of memory while quantizing {name}") from error
            raise


@contextmanager
def _warnings_of(logger_name: str) -> Iterator[list[str]]:
    lines: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger(logger_name)
    logger.addHandler(handler)
    try:
        yield lines
    finally:
        logger.removeHandler(handler)
