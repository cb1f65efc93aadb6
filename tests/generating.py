"""Driving an engine from a test: a whole greedy generation, and a guard against waiting for the device."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


def greedy(engine: Any, ids: list[list[int]], new_tokens: int) -> list[list[int]]:
    """The new tokens, [batch][new_tokens], with the cache on."""
    generation = engine.begin(ids, "on", new_tokens)
    generation.prefill()
    generation.first_token()
    for _ in range(new_tokens - 1):
        generation.decode_step()
    tokens: list[list[int]] = generation.tokens()
    return tokens


@contextmanager
def waiting_raises() -> Iterator[None]:
    """Any wait for the device is an error inside. torch warns that its detector is a prototype: that is fine here."""
    try:
        with warnings.catch_warnings(action="ignore"):
            torch.cuda.set_sync_debug_mode("error")
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")
