"""A compact decoder that takes over the weights of a loaded Llama, Mistral or Qwen model.

Why an own decoder and not surgery on the transformers model: its forward builds masks, cache objects and position
tensors in Python at every call, and its layers keep seven separate matrices. What is left here is the arithmetic.

    decoder = TurboDecoder(model, Recipe("int8"))       # `model` is an empty shell afterwards
    slot = DecodeSlot(decoder, batch=1, max_len=256)
    decoder.prefill(ids, slot.cache)                    # [batch, vocab]
"""

from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from jobs.memory import bytes_of_storages
from jobs.turbo import kernels
from jobs.turbo.cache import KvCache
from jobs.turbo.layers import take_model
from jobs.turbo.persistent import Build, PersistentStep, build_for, why_not
from jobs.turbo.persistent.compiler import compiled_kernel, why_no_kernel
from jobs.turbo.prefill import forward
from jobs.turbo.recipe import Recipe
from jobs.turbo.rotary import RotaryTable
from jobs.turbo.shape import read_shape
from jobs.turbo.step import DecodeState, decode_step
from jobs.turbo.weights import weight_bytes


class TurboDecoder:
    """Prompts in, logits out. Raises Unsupported for a model that it would compute wrongly.

    `one_kernel`: decode with the persistent kernel where it can be; without it, or elsewhere, with a graph of kernels.
    """

    def __init__(self, model: Any, recipe: Recipe | None = None, one_kernel: bool = True) -> None:
        self._one_kernel = one_kernel
        self.shape = read_shape(model)
        self.weights = take_model(model, recipe or Recipe())
        self.dtype, self.device = self.weights.embedding.dtype, self.weights.embedding.device
        self.table = RotaryTable(model.model.rotary_emb, self.dtype, self.device)
        self._builds: dict[int, Build | None] = {}  # by batch: finding one looks at every weight

    @torch.inference_mode()
    def prefill(self, ids: Tensor, cache: KvCache) -> Tensor:
        """Fill the cache from row 0 with ids [batch, tokens]; the logits after the last of them, [batch, vocab]."""
        return self._head(forward(self.weights, self.shape, self.table, ids, cache, last_only=True))

    @torch.inference_mode()
    def logits(self, ids: Tensor, kv_dtype: torch.dtype | None = None) -> Tensor:
        """Of the token after each one of [batch, tokens]: [batch, tokens, vocab], as a cache of `kv_dtype` (None: the
        model's own) would have them."""
        batch, tokens = ids.shape
        cache = KvCache.allocate(self.shape, batch, tokens, self.weights.embedding, layers=1, dtype=kv_dtype)
        hidden = forward(self.weights, self.shape, self.table, ids, cache, last_only=False)
        return self._head(hidden).view(*ids.shape, -1)

    @torch.inference_mode()
    def step(self, rows: tuple[Tensor, Tensor], state: DecodeState, cache: KvCache) -> None:
        """One token more, in place, with the rotary rows of `self.table`: see `jobs.turbo.step`."""
        decode_step(self.weights, self.shape, rows, state, cache)

    def stepper(self, rows: tuple[Tensor, Tensor], state: DecodeState, cache: KvCache) -> Callable[[], None]:
        """`step` over these tensors, as one kernel where that is possible."""
        build = self._build(len(state.token), cache.dtype)
        if build is None:
            return lambda: self.step(rows, state, cache)
        return PersistentStep(build, self.weights, rows, state, cache, compiled_kernel(build, self.device)).run

    def decode_kernels(self, batch: int, kv_dtype: torch.dtype | None = None) -> dict[str, int]:
        """As `kernels_used`, of a decode step with a cache of that type."""
        build = self._build(batch, kv_dtype or self.dtype)
        return self.kernels_used(batch) if build is None else {build.name: 1}

    def kernels_used(self, rows: int) -> dict[str, int]:
        """The kernel that serves each linear layer (the head included) at this many rows, and how often."""
        names = (kernels.kernel_name(weight, rows, self.device) for weight in self.weights.linears)
        return dict(Counter(names))

    @property
    def weights_bytes(self) -> int:
        """Each storage once: a tied head is the embedding."""
        return bytes_of_storages(self.weights.tensors())

    def step_bytes(self, batch: int, length: int) -> int:
        """What one decode step must read: all linear layers, the norms, and `length` rows of the cache a sequence.

        Of the embedding a step reads one row a sequence, which is left out.
        """
        linear = sum(weight_bytes(weight) for weight in self.weights.linears)
        row = 2 * self.shape.layers * self.shape.kv_heads * self.shape.head_dim * self.dtype.itemsize
        return linear + batch * length * row

    def _build(self, batch: int, kv_dtype: torch.dtype) -> Build | None:
        """The one kernel reads a cache of the model's own type only."""
        if kv_dtype != self.dtype:
            return None
        if batch not in self._builds:
            self._builds[batch] = self._found_build(batch)
        return self._builds[batch]

    def _found_build(self, batch: int) -> Build | None:
        if not self._one_kernel or why_no_kernel(self.device) or why_not(self.shape, self.weights, batch):
            return None
        return build_for(self.shape, self.weights, torch.cuda.get_device_properties(self.device).multi_processor_count)

    def _head(self, hidden: Tensor) -> Tensor:
        return kernels.linear(hidden, self.weights.head)
