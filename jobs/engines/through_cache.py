"""A text scored through a cache: what a quantized cache costs in quality is what later tokens make of it.

Why in pieces: one forward over a window never reads the cache. So the window's beginning is the prompt, and the rest
follows in pieces, each predicted from what the cache gives back of all before it. transformers' integer caches keep the
latest tokens as they are and quantize all at every 128th; pieces of 127 and 1 tokens meet that rhythm exactly, so every
token sees the same keys and values as in decoding one by one, at a sixtieth of the forwards.

    ThroughCache(engine, "int4").token_nll([tokens])
"""

from collections.abc import Iterator
from typing import Any

import torch

from jobs.engines.base import TokenIds
from jobs.engines.caches import new_cache, told_class
from jobs.engines.eager import EagerEngine, token_nll_of
from jobs.engines.lengths import check_length

PROMPT = 128
PIECES = (127, 1)


def pieces_of(tokens: int) -> Iterator[tuple[int, int]]:
    """Start and end of what is fed at once: a prompt, at most half of all, then 127 and 1 in turn.

    >>> list(pieces_of(300))
    [(0, 128), (128, 255), (255, 256), (256, 300)]
    """
    start, end, turn = 0, min(PROMPT, max(1, tokens // 2)), 0
    while start < tokens:
        yield start, min(end, tokens)
        start, end, turn = end, end + PIECES[turn % len(PIECES)], turn + 1


class ThroughCache:
    """An eager engine's `logits` and `token_nll`, each row of tokens fed through a fresh cache of one mode."""

    def __init__(self, engine: EagerEngine, mode: str) -> None:
        self.engine, self.mode = engine, mode

    def token_nll(self, token_ids: TokenIds) -> list[list[float]]:
        return token_nll_of(self.logits([row[:-1] for row in token_ids]), token_ids)

    @torch.inference_mode()
    def logits(self, token_ids: TokenIds) -> torch.Tensor:
        """[batch, tokens, vocabulary]. Raises Unsupported beyond the model's positions."""
        tokens = len(token_ids[0])
        check_length(tokens, self.engine.max_positions)
        model = self.engine.model
        ids = torch.tensor(token_ids, dtype=torch.long, device=model.device)
        cache: Any = new_cache(model, self.mode, tokens)
        found = []
        for start, end in pieces_of(tokens):
            output = model(input_ids=ids[:, start:end], past_key_values=cache, use_cache=True)
            cache = output.past_key_values
            found.append(output.logits)
        self.engine.cache_classes[self.mode] = told_class(cache)
        return torch.cat(found, dim=1)
