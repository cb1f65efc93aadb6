"""The shape of Llama-3-8B as the kernels see it; apart from the rest, which imports Triton."""

HEADS, KV_HEADS, DIM, HIDDEN, INNER = 32, 8, 128, 4096, 14336
# [rows, columns] of the fused products.
SHAPES = {
    "qkv": (6144, 4096),
    "o": (4096, 4096),
    "gate_up": (28672, 4096),
    "down": (4096, 14336),
    "head": (128256, 4096),
}
