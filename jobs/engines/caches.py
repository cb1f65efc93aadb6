"""The caches that a transformers model can keep its keys and values in, one for each mode of the catalog.

Why each names its class: a model may answer with another cache than it was given, and a library may replace a backend;
what is measured then is not what the row says. The class that was really filled goes into the row.

    cache = new_cache(model, "int4", tokens=2048)       # None for `on`: the model makes its own
    told_class(cache)                                   # 'QuantizedCache[HQQQuantizedLayer 4 bit]'
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from transformers import DynamicCache, PreTrainedModel, StaticCache, cache_utils

from farm.catalog import CACHES, DEFAULT_CACHE_MODES
from farm.errors import Unsupported
from jobs.memory import bytes_of_storages
from jobs.models import transformers_4

_FP8 = torch.float8_e4m3fn
_QUANTIZED = ("_quantized_keys", "_quantized_values")
_EXACT_LAYER: Any = getattr(cache_utils, "DynamicLayer", object)  # transformers 4 has no layers


class ForgetfulCache(DynamicCache):
    """Stands for "no cache": hands keys and values through and keeps nothing.

    When no cache object is passed, transformers compares position ids on the device to find packed sequences, and
    reads the answer back: every forward would wait for the device.
    """

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        return key_states, value_states


class Fp8Layer(_EXACT_LAYER):  # type: ignore[misc]
    """Keys and values in 8-bit floating point, one scale a layer that the prompt decides. What transformers' own
    `Fp8QuantizedLayer` computes, for versions that do not have it yet (5.17)."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = 0
        self._quantized_keys: tuple[torch.Tensor, torch.Tensor] | None = None
        self._quantized_values: tuple[torch.Tensor, torch.Tensor] | None = None

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        self.tokens += key_states.shape[-2]
        is_first = self._quantized_keys is None
        if is_first:
            self.lazy_initialization(key_states, value_states)
        self._quantized_keys = _appended(self._quantized_keys, key_states)
        self._quantized_values = _appended(self._quantized_values, value_states)
        if is_first:  # the prompt's own forward needs no detour
            return key_states, value_states
        return _widened(self._quantized_keys, key_states.dtype), _widened(self._quantized_values, value_states.dtype)

    def get_seq_length(self) -> int:
        return self.tokens


def _appended(stored: tuple[torch.Tensor, torch.Tensor] | None, new: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    if stored is None:
        largest = torch.finfo(_FP8).max
        scale = (new.abs().amax().float() / largest).clamp(min=torch.finfo(torch.float32).tiny)
        return (new.float() / scale).to(_FP8), scale
    codes, scale = stored
    return torch.cat([codes, (new.float() / scale).to(_FP8)], dim=-2), scale


def _widened(stored: tuple[torch.Tensor, torch.Tensor], dtype: torch.dtype) -> torch.Tensor:
    codes, scale = stored
    return (codes.float() * scale).to(dtype)


def _fp8(model: PreTrainedModel, tokens: int) -> Any:
    if hasattr(cache_utils, "Fp8QuantizedLayer"):
        return cache_utils.QuantizedCache("fp8", model.config)
    layers = model.config.get_text_config(decoder=True).num_hidden_layers
    return cache_utils.Cache(layers=[Fp8Layer() for _ in range(layers)])


def _hqq(mode_name: str, axis: int) -> Callable[[PreTrainedModel, int], Any]:
    mode = CACHES[mode_name]
    how = {"nbits": mode.bits, "q_group_size": mode.group, "residual_length": mode.residual}

    def make(model: PreTrainedModel, tokens: int) -> Any:
        return cache_utils.QuantizedCache("hqq", model.config, axis_key=axis, axis_value=axis, **how)  # type: ignore[arg-type]

    return make


def _either(full: str, sliding: str) -> tuple[str, ...]:
    """A model has layers of full attention, of a sliding window, or of both."""
    return full, sliding, f"{full}, {sliding}"


_MAKERS: Mapping[str, Callable[[PreTrainedModel, int], Any]] = {
    "on": lambda model, tokens: None,
    "off": lambda model, tokens: transformers_4.new_cache(ForgetfulCache, model.config),
    "static": lambda model, tokens: StaticCache(config=model.config, max_cache_len=tokens),
    "fp8": _fp8,
    "int8": _hqq("int8", axis=1),
    "int4": _hqq("int4", axis=0),
    "offloaded": lambda model, tokens: DynamicCache(config=model.config, offloading=True),
}
_CLASSES: Mapping[str, tuple[str, ...]] = {
    "static": tuple(f"StaticCache[{layers}]" for layers in _either("StaticLayer", "StaticSlidingWindowLayer")),
    "fp8": ("QuantizedCache[Fp8QuantizedLayer]", "Cache[Fp8Layer]"),
    "int8": ("QuantizedCache[HQQQuantizedLayer 8 bit]",),
    "int4": ("QuantizedCache[HQQQuantizedLayer 4 bit]",),
    "offloaded": tuple(
        f"DynamicCache[{layers}, offloaded]" for layers in _either("DynamicLayer", "DynamicSlidingWindowLayer")
    ),
}


def new_cache(model: PreTrainedModel, mode: str, tokens: int) -> Any:
    """An empty cache for so many tokens; None where the model makes its own. Raises Unsupported."""
    if transformers_4.is_4() and mode not in DEFAULT_CACHE_MODES:
        raise Unsupported(
            f"cache mode {mode} needs transformers 5, and this backend's environment has 4; use on or off"
        )
    try:
        return _MAKERS[mode](model, tokens)
    except ValueError as error:  # layers that are no plain attention
        raise Unsupported(f"cache mode {mode} cannot serve this model ({error}); use cache mode on") from error


def told_class(cache: Any) -> str:
    """`DynamicCache`, the usual one; any other with the class and the bits of its layers."""
    layers = getattr(cache, "layers", ())
    names = sorted({f"{type(layer).__name__}{_told_bits(layer)}" for layer in layers})
    moved = ["offloaded"] * bool(getattr(cache, "offloading", False))
    if type(cache) is DynamicCache and names in ([], ["DynamicLayer"]) and not moved:
        return "DynamicCache"
    return f"{type(cache).__name__}[{', '.join([*names, *moved])}]"


def _told_bits(layer: Any) -> str:
    bits = getattr(layer, "nbits", None)
    return f" {bits} bit" if bits else ""


def other_class(mode: str, found: str | None) -> str | None:
    """One sentence when the cache that was filled is not the one that the mode names."""
    expected = _CLASSES.get(mode, ())
    if not expected or found is None or found in expected:
        return None
    return f"asked cache mode {mode} for {' or '.join(expected)}, found {found}"


def cache_bytes(cache: Any) -> int:
    """All of it, wherever it lies: codes, scales, and what waits unquantized."""
    return bytes_of_storages(_tensors_of(cache))


def host_bytes(cache: Any) -> int | None:
    """What of an offloaded cache lies in host memory now; None for a cache that stays where it is."""
    if not getattr(cache, "offloading", False):
        return None
    return bytes_of_storages(tensor for tensor in _tensors_of(cache) if tensor.device.type == "cpu")


def _tensors_of(cache: Any) -> Iterator[torch.Tensor]:
    for tensor in transformers_4.cached_tensors(cache):
        yield from _nested(tensor)
    for layer in getattr(cache, "layers", ()):
        for name in _QUANTIZED:
            yield from _nested(getattr(layer, name, None))


def _nested(value: Any) -> Iterator[torch.Tensor]:
    """HQQ keeps a pair of codes and a dictionary of scales."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _nested(item)
    elif isinstance(value, tuple | list):
        for item in value:
            yield from _nested(item)
