"""Whose bytes a peak is made of: weights, KV cache, and what is left, the activations and workspace of each phase."""

from dataclasses import replace

from farm.records import Memory


def by_part(
    prefill: Memory, decode: Memory, weights_bytes: int, kv_bytes: int | None, kv_host_bytes: int | None = None
) -> Memory:
    """One Memory from the peaks of the two phases; what is neither weights nor KV cache is activations."""
    on_device = weights_bytes + (kv_bytes or 0) - (kv_host_bytes or 0)
    allocated = _largest(prefill.peak_allocated_bytes, decode.peak_allocated_bytes)
    reasons = {**prefill.reasons, **decode.reasons}
    if kv_bytes is None:
        reasons["kv_bytes"] = "no cache: every step recomputes the sequence"
    if allocated is None and "peak_allocated_bytes" in reasons:
        for name in ("activation_peak_bytes", "prefill_peak_bytes", "decode_peak_bytes"):
            reasons[name] = reasons["peak_allocated_bytes"]
    return replace(
        decode,
        weights_bytes=weights_bytes,
        kv_bytes=kv_bytes,
        kv_host_bytes=kv_host_bytes,
        peak_allocated_bytes=allocated,
        peak_reserved_bytes=_largest(prefill.peak_reserved_bytes, decode.peak_reserved_bytes),
        host_peak_rss_bytes=_largest(prefill.host_peak_rss_bytes, decode.host_peak_rss_bytes),
        activation_peak_bytes=None if allocated is None else max(0, allocated - on_device),
        prefill_peak_bytes=prefill.peak_allocated_bytes,
        decode_peak_bytes=decode.peak_allocated_bytes,
        reasons=reasons,
    )


def _largest(*values: int | None) -> int | None:
    return max((value for value in values if value is not None), default=None)
