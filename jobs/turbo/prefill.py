"""The forward over whole sequences: bound by arithmetic, so plain large matrix products and torch's fused attention.

The physics: 2 FLOPs a weight and token, so 1,920 tokens of Llama-3-8B are 27.8 TFLOP (0.97 of them attention): 36 ms at
770 TFLOP/s. All else must stay small beside that: reading and writing the activations of a layer once (2 x 16 MB at
1,920 tokens) takes 10 us, 0.3 ms over the layers. Quantized weights are expanded a layer at a time (`kernels.linear`
does it for many rows), which is 3 bytes of traffic a weight in 8 bit: 7 ms for the whole model.

Of the last layer only keys and values are needed of all positions, and the rest of the last position alone: 88 % of its
products are left out, 1 ms of the whole.

    hidden = forward(taken, shape, table, ids, cache, last_only=True)       # [batch, hidden]
"""

from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from jobs.turbo import kernels
from jobs.turbo.blocks import run_layers
from jobs.turbo.cache import KvCache
from jobs.turbo.layers import Taken
from jobs.turbo.rotary import RotaryTable
from jobs.turbo.shape import Shape

# Rows of one pass: large products already at 2,048; 16,384 rows of 28,672 gate and up values are 0.9 GB.
ROWS = 1 << 14


def forward(taken: Taken, shape: Shape, table: RotaryTable, ids: Tensor, cache: KvCache, last_only: bool) -> Tensor:
    """Normed hidden states of [batch, tokens] ids: [batch, hidden] of the last position, or [batch * tokens, hidden].

    Keys and values go to rows 0 to tokens of the cache. Some sequences at a time, so that the activations of a large
    batch stay bounded.
    """
    batch, tokens = ids.shape
    step = max(1, ROWS // tokens)
    pieces = [slice(start, min(batch, start + step)) for start in range(0, batch, step)]
    hidden = [_forward_piece(taken, shape, table, ids[piece], cache.of_rows(piece), last_only) for piece in pieces]
    return hidden[0] if len(hidden) == 1 else torch.cat(hidden)


def _forward_piece(
    taken: Taken, shape: Shape, table: RotaryTable, ids: Tensor, cache: KvCache, last_only: bool
) -> Tensor:
    tokens = ids.shape[1]
    attend = partial(_attend, shape, table.rows(tokens), torch.arange(tokens, device=ids.device), cache)
    kept = slice(tokens - 1, None, tokens) if last_only else slice(None)
    x, residual = run_layers(taken, shape, functional.embedding(ids.flatten(), taken.embedding), attend, kept)
    return kernels.rms_norm(x, taken.norm, shape.norm_eps, residual)[0]


def _attend(
    shape: Shape, rows: tuple[Tensor, Tensor], positions: Tensor, cache: KvCache, index: int, qkv: Tensor
) -> Tensor:
    """Causal attention of [batch * tokens, qkv_width] over what it puts into the cache: [batch * tokens, width]."""
    keys, values = cache.layer(index)
    batch, tokens = len(keys), len(positions)
    query = kernels.rope_and_append(qkv, *rows, positions, keys, values)
    attended = functional.scaled_dot_product_attention(
        query.view(batch, tokens, shape.heads, shape.head_dim).transpose(1, 2),
        keys[:, :, :tokens].to(query.dtype),  # of an 8-bit cache, what decoding will read
        values[:, :, :tokens].to(query.dtype),
        is_causal=True,
        scale=shape.scale,
        enable_gqa=shape.heads != shape.kv_heads,
    )
    return attended.transpose(1, 2).reshape(batch * tokens, shape.query_width)
