"""Cells that cannot run here whatever is loaded: told before a model is, since loading one takes minutes.

why_refused(cell)       # None, or 'cache mode offloaded needs a CUDA GPU: ...'
"""

from importlib.util import find_spec

from farm.catalog import CACHES, CacheMode
from farm.cells import Cell, Load
from farm.errors import Unsupported
from farm.quantization import parse_quantization

_8_BIT_FLOATS = (8, 9)  # the first GPUs that convert them


def why_refused(cell: Cell) -> str | None:
    """One sentence, or None. Cheap, and never raises."""
    mode = CACHES.get(cell.task.cache_mode or "on")
    no_cache = None if mode is None else _why_no_cache(mode, cell.load)
    return _why_no_engine(cell.load) or no_cache or _why_no_precision(cell.load)


def _why_no_engine(load: Load) -> str | None:
    """A legacy backend's environment has an older transformers than the other engines are written for."""
    is_legacy = parse_quantization(load.quantization).precision.is_legacy
    if is_legacy and load.engine not in ("eager", "fake"):
        return f"{load.quantization} runs on engine eager only, not on {load.engine}; exclude the pair"
    return None


def _why_no_cache(mode: CacheMode, load: Load) -> str | None:
    if load.engine not in mode.engines:
        engines = " or ".join(engine for engine in mode.engines if engine != "fake")
        return f"engine {load.engine} has no cache mode {mode.name}; use engine {engines}, or exclude the pair"
    if mode.layers_on_device is not None and load.device != "cuda":
        return (
            f"cache mode {mode.name} moves keys and values from a GPU to host memory and needs a CUDA GPU; "
            "on the CPU exclude it"
        )
    if mode.package is not None and find_spec(mode.package) is None:
        return (
            f"cache mode {mode.name} needs the Python package {mode.package!r}, which is not installed; "
            f"run: pip install {mode.package}"
        )
    return _why_no_8_bit_floats(load) if mode.name == "fp8" and load.engine == "turbo" else None


def _why_no_8_bit_floats(load: Load) -> str | None:
    """Our kernels convert them in hardware; transformers' cache does it in torch, anywhere."""
    if load.device != "cuda":
        return None
    import torch

    if not torch.cuda.is_available() or (here := torch.cuda.get_device_capability()) >= _8_BIT_FLOATS:
        return None
    needed, found = (".".join(map(str, version)) for version in (_8_BIT_FLOATS, here))
    return (
        f"engine turbo needs compute capability {needed} for cache mode fp8, this GPU has {found}; use cache mode on, "
        "or engine eager"
    )


def _why_no_precision(load: Load) -> str | None:
    """The fake has no weights, and what turbo quantizes by itself needs no backend."""
    if load.engine == "fake":
        return None
    if load.engine == "turbo":
        reason, is_loaded = _turbo(load)
        if reason is not None or not is_loaded:
            return reason
    from jobs.quantization import why_not  # torch: seconds that a fake group does not need

    reason = why_not(parse_quantization(load.quantization), load.device)
    return None if reason is None else f"{load.quantization} cannot run on {load.device} here: {reason}"


def _turbo(load: Load) -> tuple[str | None, bool]:
    """Why the turbo engine does not take the precision, and whether it loads its checkpoint through a backend."""
    from jobs.turbo.recipe import recipe_for

    try:
        return None, recipe_for(load.quantization).from_checkpoint
    except Unsupported as error:
        return str(error), False
