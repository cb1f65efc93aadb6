"""How many bytes the keys and values of a generation take, for every mode of the cache axis.

The physics: a token leaves one key and one value a layer and KV head behind, and every later step reads them all. A
quantized cache stores a code, and for each group a scale and a zero point as wide as the model computes in; its latest
tokens wait unquantized. A static cache takes its whole length at once.

    >>> from farm.architectures import KNOWN
    >>> task = CacheTask("int4", batch=1, prompt_tokens=1920, new_tokens=129)
    >>> kv_bytes(task, KNOWN["llama-3-8b"], model_bits=16) / 2**20      # 256 MiB at 16 bit; all 2,048 tokens quantized
    72.0
"""

from dataclasses import dataclass

from farm.architectures import Architecture
from farm.catalog import CACHES, CacheMode
from farm.cells import SpeedTask


@dataclass(frozen=True, slots=True)
class CacheTask:
    """What decides the size of a cache at the end of a generation."""

    mode_name: str
    batch: int
    prompt_tokens: int
    new_tokens: int

    @classmethod
    def of(cls, task: SpeedTask) -> "CacheTask":
        return cls(task.cache_mode, task.batch_size, task.context_tokens, task.new_tokens)

    @property
    def mode(self) -> CacheMode:
        return CACHES[self.mode_name]

    @property
    def tokens(self) -> int:
        """Of one sequence whose keys and values are kept: the last new token is never fed."""
        return self.prompt_tokens + self.new_tokens - 1


def stored_bits(mode: CacheMode, model_bits: int) -> float:
    """Bits of a stored value with its share of scale and zero point."""
    if mode.bits is None:
        return model_bits
    return mode.bits + (2 * model_bits / mode.group if mode.group else 0.0)


def kv_bytes(task: CacheTask, architecture: Architecture, model_bits: int) -> float:
    """Bytes of the whole cache, wherever it lies, once the last token is there."""
    mode = task.mode
    if mode.is_static:  # room for one token more than is ever written
        return task.batch * (task.tokens + 1) * architecture.kv_bytes_per_token(model_bits / 8)
    waiting = (task.new_tokens - 1) % mode.residual
    stored = (task.tokens - waiting) * architecture.kv_bytes_per_token(stored_bits(mode, model_bits) / 8)
    kept = 0.0 if mode.bits == 0 else waiting * architecture.kv_bytes_per_token(model_bits / 8)
    return task.batch * (stored + kept)


def kv_device_bytes(task: CacheTask, architecture: Architecture, model_bits: int) -> float:
    """The part of it that lies on the device while the model runs."""
    layers = task.mode.layers_on_device
    share = 1.0 if layers is None else min(1.0, layers / architecture.layers)
    return share * kv_bytes(task, architecture, model_bits)
