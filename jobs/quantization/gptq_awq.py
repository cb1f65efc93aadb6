"""GPTQ and AWQ through gptqmodel, which loads checkpoints of either kind made by any tool, and makes them.

The physics: 4-bit codes with a 16-bit scale and a zero point for each group, 3.8 times fewer bytes than 16 bit. GPTQ
chooses the codes so that each layer's output on calibration text changes least (Frantar et al., arXiv 2210.17323); AWQ
first scales up the channels that matter most (Lin et al., arXiv 2306.00978). Which kernel multiplies decides the speed:
gptqmodel has a dozen and replaces one that does not fit without a word, so the row names the class that really runs.

    BACKEND.load(parse_quantization("gptq?group_size=64&kernel=triton"), located, load)
"""

import contextlib
import io
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.error import URLError

import torch
from torch import nn

from farm.cells import Load
from farm.errors import Unsupported
from farm.quantization import Quantization
from jobs.models.random_codes import packed
from jobs.quantization.base import Backend, load_random, why_not_here

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from jobs.models.sources import Located

BITS = 4
_AMPERE = (8, 0)
_COMPILED = ("marlin", "machete", "exllama")  # built with nvcc on first use; triton and torch need no compiler

# Our name of a kernel, and gptqmodel's, for each method on the GPU. On the CPU there are `auto` and `torch` only.
_KERNELS = {
    "gptq": {"triton": "gptq_triton", "torch": "gptq_torch", "marlin": "gptq_marlin", "machete": "gptq_machete"}
    | {"exllama": "gptq_exllama_v2"},
    "awq": {"triton": "awq_gemm_triton", "torch": "awq_torch", "marlin": "awq_marlin", "machete": "awq_machete"}
    | {"exllama": "awq_exllama_v2"},
}
_CPU_AUTO = {"gptq": "gptq_torch_aten", "awq": "awq_torch_aten"}
_CLASSES = {
    "gptq_triton": "TritonV2Linear",
    "gptq_torch": "TorchLinear",
    "gptq_marlin": "MarlinLinear",
    "gptq_machete": "MacheteLinear",
    "gptq_exllama_v2": "ExllamaV2Linear",
    "gptq_torch_aten": "TorchAtenLinear",
    "awq_gemm_triton": "AwqGEMMTritonLinear",
    "awq_torch": "AwqTorchLinear",
    "awq_marlin": "AwqMarlinLinear",
    "awq_machete": "AwqMacheteLinear",
    "awq_exllama_v2": "AwqExllamaV2Linear",
    "awq_torch_aten": "TorchAtenAwqLinear",
}
# Layers that still hold a checkpoint's tensors as they were read, until a CPU kernel sets its `linear_mode`.
_READABLE = {
    "gptq": ("TritonV2Linear", "TorchLinear", "TorchAtenLinear"),
    "awq": ("AwqGEMMTritonLinear", "AwqTorchLinear", "TorchAtenAwqLinear"),
}


class GptqAwq(Backend):
    """gptqmodel's layers in place of the linear layers; the head stays as it is."""

    names: tuple[str, ...] = ("gptq", "awq")

    def why_not(self, wanted: Quantization, device: str) -> str | None:
        if device == "cpu" and wanted["kernel"] not in ("auto", "torch"):
            return f"kernel {wanted['kernel']} needs a CUDA GPU; on the CPU use kernel auto or torch"
        if device == "cuda" and wanted["kernel"] in _COMPILED and not _can_compile():
            return f"kernel {wanted['kernel']} is compiled with nvcc on first use, which is not here; use kernel triton"
        return why_not_here(device, "gptqmodel", capability=_AMPERE)

    def dtype(self, wanted: Quantization, device: str) -> torch.dtype:
        """On the CPU bf16: its int4 kernel takes 16-bit activations only."""
        return torch.float16 if device == "cuda" else torch.bfloat16

    def linear_classes(self, wanted: Quantization, device: str) -> tuple[str, ...]:
        """`auto` on the GPU may be any; all others are one class, so that a silent replacement shows."""
        name = _kernel_name(wanted, device)
        if name is not None:
            return (_CLASSES[name],)
        return tuple(_CLASSES[kernel] for kernel in _KERNELS[wanted.name].values())

    def load(self, wanted: Quantization, located: "Located", load: Load, seed: int = 0) -> "PreTrainedModel":
        from jobs.checkpoints import require_same

        dtype = self.dtype(wanted, load.device)
        kernel = _kernel_name(wanted, load.device)
        with _quietly() as package, _fetching(wanted):
            backend = package.BACKEND(kernel) if kernel else package.BACKEND.AUTO
            if located.random is not None:
                model = load_random(located, dtype, load.device, seed)
                return packed(model, _config(package, wanted), backend, load.device, seed)
            require_same(wanted, located, wanted.name, BITS)
            loaded = package.GPTQModel.load(
                located.name_or_path,
                backend=backend,
                device=place(load.device),
                dtype=dtype,
                attn_implementation="sdpa",
                trust_remote_code=load.trust_remote_code,
            )
        model = loaded.model
        return model.requires_grad_(False).eval()  # type: ignore[no-any-return]

    def details(self, wanted: Quantization, model: "PreTrainedModel") -> dict[str, str]:
        from jobs.checkpoints import calibration

        told = super().details(wanted, model) | _found_kernels(model)
        config = getattr(model.config, "quantization_config", None)
        meta = (config.get("meta") if isinstance(config, dict) else getattr(config, "meta", None)) or {}
        maker = meta.get("quantizer")
        if maker is None:
            return told | {"weights": "random codes"} if config is None else told | {"made_by": "unknown"}
        told["made_by"] = ",".join(maker) if isinstance(maker, list) else str(maker)
        if meta.get("farm_calibration_sha256") == (text := calibration()).sha256:
            told |= {"calibration_sha256": text.sha256, "calibration_samples": str(len(text.samples))}
        return told

    def dequantized(self, layer: nn.Module) -> torch.Tensor | None:
        """None for a kernel that keeps its weights in an order of its own: the CPU's int4 kernels after their first
        product, and those compiled with nvcc."""
        kind, stored = type(layer).__name__, getattr(layer, "linear_mode", None) is None
        with torch.inference_mode():
            if kind in _READABLE["awq"] and stored:
                from gptqmodel.quantization.awq.utils.packing_utils import dequantize_gemm

                return dequantize_gemm(layer.qweight, layer.qzeros, layer.scales, BITS, layer.group_size).T
            if kind in _READABLE["gptq"] and stored:
                return layer.dequantize_weight().T  # type: ignore[operator]
        return None

    def recipe(self, wanted: Quantization) -> dict[str, str]:
        from jobs.checkpoints import calibration

        sizes = {"bits": str(BITS), "group_size": str(wanted.group_size), "symmetric": str(wanted.name == "gptq")}
        return {"method": wanted.name, "maker": "gptqmodel", **sizes, "calibration": calibration().sha256}

    def prepare(self, wanted: Quantization, located: "Located", load: Load, folder: Path, seed: int = 0) -> None:
        from jobs.checkpoints import calibration

        text = calibration()
        torch.manual_seed(seed)
        with _quietly() as package, tempfile.TemporaryDirectory() as scratch:
            _keep_logs_in(Path(scratch))
            config = _config(package, wanted)
            model = package.GPTQModel.load(
                located.name_or_path, config, device=place(load.device), trust_remote_code=load.trust_remote_code
            )
            kernel = package.BACKEND("gptq_torch" if wanted.name == "gptq" else "awq_torch")
            model.quantize(list(text.samples), batch_size=1, backend=kernel)
            model.quantize_config.meta_set("farm_calibration_sha256", text.sha256)
            model.save(str(folder))


def _found_kernels(model: "PreTrainedModel") -> dict[str, str]:
    """gptqmodel's names of the kernels that the layers really have."""
    found = {type(layer).__name__ for layer in model.modules()}
    return {"kernel": "+".join(name for name, kind in _CLASSES.items() if kind in found)}


def _keep_logs_in(scratch: Path) -> None:
    """It would make a folder `logs` wherever the process stands."""
    from gptqmodel.looper import loop_processor

    loop_processor._PROJECT_LOG_DIR = scratch


def _kernel_name(wanted: Quantization, device: str) -> str | None:
    """gptqmodel's name; None lets it choose, where it can compile what it would choose."""
    if wanted["kernel"] == "auto":
        return (
            _CPU_AUTO[wanted.name] if device == "cpu" else None if _can_compile() else _KERNELS[wanted.name]["triton"]
        )
    return _KERNELS[wanted.name][wanted["kernel"]]


def _can_compile() -> bool:
    return shutil.which("nvcc") is not None


def place(device: str) -> str:
    return "cuda:0" if device == "cuda" else "cpu"


def _config(package: Any, wanted: Quantization) -> Any:
    """GPTQ symmetric, as the fast kernels want it; AWQ with zero points, as its paper has it."""
    from gptqmodel.quantization import FORMAT, METHOD

    if wanted.name == "gptq":
        return package.QuantizeConfig(bits=BITS, group_size=wanted.group_size, desc_act=False, sym=True)
    how = {"quant_method": METHOD.AWQ, "format": FORMAT.GEMM}
    return package.QuantizeConfig(bits=BITS, group_size=wanted.group_size, sym=False, **how)


@contextlib.contextmanager
def _quietly() -> Iterator[Any]:
    """gptqmodel, imported with its log, its bars and its banner off the screen. Raises Unsupported."""
    if (os.cpu_count() or 1) <= 2:  # its pool of CPU workers asks for two and is given one
        os.environ.setdefault("GPTQMODEL_CPU_WORKERS", "2")
    os.environ.setdefault("LOGBAR_ANIMATION", "0")
    assert find_spec("gptqmodel")
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        try:
            import gptqmodel
        except ImportError as error:
            raise Unsupported(f"gptqmodel is installed but cannot be imported ({error})") from error
        logging.getLogger("gptqmodel").setLevel(logging.ERROR)
        yield gptqmodel


@contextlib.contextmanager
def _fetching(wanted: Quantization) -> Iterator[None]:
    """Say what a kernel lacks that is compiled from sources off the network. Raises Unsupported.

    machete is the one that needs such sources, and `auto` picks it on the GPUs that it is for.
    """
    try:
        yield
    except URLError as error:
        kernel = "machete" if wanted["kernel"] == "auto" else wanted["kernel"]
        raise Unsupported(
            f"kernel {kernel} is compiled from sources that could not be fetched ({error.reason}); use kernel triton"
        ) from error


BACKEND = GptqAwq()
