"""The kernels of a decode step, each with the same function in plain torch behind it for CPUs and as the test's oracle.

from jobs.turbo import kernels

y = kernels.linear(x, weight)
"""

from jobs.turbo.kernels.operations import (
    Norm,
    decode_attention,
    fused_linear,
    kernel_name,
    linear,
    rms_norm,
    rope_and_append,
    silu_mul,
)

__all__ = [
    "Norm",
    "decode_attention",
    "fused_linear",
    "kernel_name",
    "linear",
    "rms_norm",
    "rope_and_append",
    "silu_mul",
]
