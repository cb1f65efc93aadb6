"""Lengths: what fits a model's positions, and which lengths share one static cache.

bucket_of(2048)         # 2048; of 2049: 2304
"""

from farm.errors import Unsupported

BUCKET = 256  # lengths of one bucket share a captured step; at most 255 rows (32 MiB at batch 1 of an 8B model) wait


def bucket_of(tokens: int) -> int:
    """The length of the cache that serves this many tokens."""
    return -(-tokens // BUCKET) * BUCKET


def check_length(tokens: int, max_positions: int) -> None:
    """Raise Unsupported when a sequence is longer than the model's positions."""
    if tokens > max_positions:
        raise Unsupported(
            f"{tokens} tokens exceed the model's {max_positions} positions; use a shorter context or window"
        )
