"""The kernels of a decode step against plain torch: by Triton's interpreter on a CPU, by compilation on a GPU.

The interpreter runs the plain form of the bit tricks on the same layouts, so it proves indexing, masks and the order of
the bits; the PTX is proved by the tests marked gpu.
"""

import importlib.util
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from jobs.turbo import kernels
from jobs.turbo.cache import FP8
from jobs.turbo.kernels import configs, reference
from jobs.turbo.weights import Dense, Weight, dequantize, pack_int4, quantize_int4, quantize_int8

HAS_GPU = torch.cuda.is_available()
HAS_TRITON = importlib.util.find_spec("triton") is not None

interpreted = pytest.mark.skipif(HAS_GPU or not HAS_TRITON, reason="needs Triton and no GPU, to run its interpreter")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::RuntimeWarning:triton")


def on_gpu(test: Callable[..., None]) -> Callable[..., None]:
    return pytest.mark.gpu(pytest.mark.skipif(not HAS_GPU, reason="needs a CUDA device")(test))


def launch() -> ModuleType:
    from jobs.turbo.kernels import launch

    return launch


def random(*size: int, dtype: torch.dtype = torch.float16, seed: int = 0, device: str = "cpu") -> Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(seed)).to(dtype).to(device)


def make(kind: str, rows: int, columns: int, dtype: torch.dtype = torch.float16, device: str = "cpu") -> Weight:
    """Weights of a trained layer's size, so that outputs are about 1."""
    weight = random(rows, columns, dtype=torch.float32, device=device, seed=1).to(dtype) / columns**0.5
    if kind == "dense":
        return Dense(weight)
    if kind == "int8":
        return quantize_int8(weight)
    group = int(kind.removeprefix("int4-g").removesuffix("-zeros"))
    if not kind.endswith("zeros"):
        return quantize_int4(weight, group)
    draw = torch.Generator().manual_seed(2)
    codes = torch.randint(0, 16, (rows, columns), generator=draw, dtype=torch.uint8).to(device)
    zeros = torch.randint(0, 17, (rows, columns // group), generator=draw).to(dtype).to(device)
    scales = (torch.rand(rows, columns // group, generator=draw) / columns**0.5 / 4).to(dtype).to(device)
    return pack_int4(codes, scales, zeros, group)


def error(measured: Tensor, expected: Tensor) -> float:
    return float((measured.double() - expected.double()).norm() / expected.double().norm())


def exact(x: Tensor, weight: Weight) -> Tensor:
    return x.double() @ dequantize(weight, torch.float32).double().T


KINDS = ["dense", "int8", "int4-g64", "int4-g64-zeros", "int4-g128", "int4-g32-zeros"]
# Rounding a result to 11 or 8 bits; the interpreter cuts bfloat16 off instead of rounding, twice in a norm.
TOLERANCE = {torch.float16: 1e-3, torch.bfloat16: 5e-3 if HAS_GPU else 1e-2}
DTYPES = [torch.float16, torch.bfloat16]


# The reference, on the CPU, always.


@pytest.mark.parametrize("kind", KINDS)
def test_the_cpu_path_multiplies_by_what_the_weight_stands_for(kind: str) -> None:
    weight = make(kind, 48, 384, torch.float32)
    x = random(3, 384, dtype=torch.float32)
    assert error(kernels.linear(x, weight), exact(x, weight)) < 1e-6
    out = torch.empty(3, 48)
    assert kernels.linear(x, weight, out) is out
    assert error(out, exact(x, weight)) < 1e-6


def test_the_norm_of_a_sum_by_hand() -> None:
    x, residual = torch.tensor([[1.0, 2.0]]), torch.tensor([[2.0, 2.0]])
    normed, total = kernels.rms_norm(x, torch.tensor([1.0, 10.0]), 0.0, residual)
    assert total.tolist() == [[3.0, 4.0]]
    assert torch.allclose(normed, torch.tensor([[3.0, 40.0]]) / 12.5**0.5)
    assert kernels.rms_norm(x, torch.ones(2), 0.0)[1] is x


def test_a_quarter_turn_moves_the_first_half_into_the_second() -> None:
    keys, values = torch.zeros(1, 1, 4, 2), torch.zeros(1, 1, 4, 2)
    cos, sin = torch.tensor([[1.0], [0.0]]), torch.tensor([[0.0], [1.0]])
    qkv = torch.tensor([[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]])
    query = kernels.rope_and_append(qkv, cos, sin, torch.tensor([1]), keys, values)
    assert query.tolist() == [[[-2.0, 1.0]]]
    assert keys[0, 0].tolist() == [[0, 0], [-4.0, 3.0], [0, 0], [0, 0]]
    assert values[0, 0].tolist() == [[0, 0], [5.0, 6.0], [0, 0], [0, 0]]


def test_attention_sees_the_filled_part_only_and_shares_keys_in_groups() -> None:
    q, keys, values = random(2, 4, 8), random(2, 2, 6, 8, seed=1), random(2, 2, 6, 8, seed=2)
    lengths = torch.tensor([3, 6])
    mixed = kernels.decode_attention(q, keys, values, lengths, 0.5)
    for b, n in enumerate(lengths.tolist()):
        one = [part[b : b + 1, :, :n].float() for part in (keys, values)]
        expected = functional.scaled_dot_product_attention(
            q[b, None, :, None].float(), *one, scale=0.5, enable_gqa=True
        )
        assert error(mixed[b], expected.flatten()) < 1e-3


@pytest.mark.parametrize("rows", [1, 3])
def test_a_fused_product_is_norm_product_gate_and_residual(rows: int) -> None:
    weight, x, norm = make("int8", 32, 64), random(rows, 64), kernels.Norm(random(64, seed=3), 1e-5)
    plain = kernels.linear(kernels.rms_norm(x, norm.weight, norm.eps)[0], weight)
    assert torch.equal(kernels.fused_linear(x, weight, norm), plain)
    residual = random(rows, 16, seed=4)
    gated = functional.silu(plain[:, :16]) * plain[:, 16:]
    assert torch.equal(kernels.fused_linear(x, weight, norm, residual, glu=True), gated + residual)


@pytest.mark.parametrize(
    ("kind", "rows", "device", "name"),
    [
        ("dense", 1, "cuda", "triton-gemv-dense"),
        ("dense", 16, "cuda", "cublas-matmul"),
        ("int8", 1, "cuda", "triton-gemv-int8"),
        ("int4-g64", 16, "cuda", "triton-skinny-int4"),
        ("int4-g32-zeros", 16, "cuda", "cublas-matmul-dequantized-int4"),
        ("int4-g64", 65, "cuda", "cublas-matmul-dequantized-int4"),
        ("dense", 1, "cpu", "torch-matmul"),
        ("int8", 1, "cpu", "torch-matmul-dequantized-int8"),
    ],
)
def test_names_tell_the_kernel(kind: str, rows: int, device: str, name: str) -> None:
    weight = make(kind, 16, 128)
    assert kernels.kernel_name(weight, rows, device) == name
    assert kernels.kernel_name(weight, rows, torch.device(device)) == name


# The kernels, through the interpreter: odd sizes and tails.


@interpreted
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("rows", "columns"), [(37, 576), (16, 1536)])
def test_gemv_equals_the_reference(kind: str, rows: int, columns: int, dtype: torch.dtype) -> None:
    columns = columns // 128 * 128 if kind == "int4-g128" else columns
    weight, x = make(kind, rows, columns, dtype), random(1, columns, dtype=dtype)
    for cut in (configs.Gemv(4, 1), configs.Gemv(8, 4)):
        assert error(launch().gemv(x, weight, config=cut), exact(x, weight)) < TOLERANCE[dtype]


@interpreted
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["dense", "int8", "int4-g64-zeros"])
@pytest.mark.parametrize("cut", [configs.Gemv(2, 1), configs.Gemv(8, 4)])
def test_gemv_with_everything_fused(kind: str, cut: configs.Gemv, dtype: torch.dtype) -> None:
    weight, x, norm = make(kind, 44, 1152, dtype), random(1, 1152, dtype=dtype), random(1152, seed=3, dtype=dtype)
    residual = random(1, 22, seed=4, dtype=dtype)
    wide = exact(reference.rms_norm(x.double(), norm.double(), 1e-5)[0], weight)
    expected = functional.silu(wide[:, :22]) * wide[:, 22:] + residual.double()
    measured = launch().gemv(x, weight, None, norm, 1e-5, residual, True, cut)
    assert error(measured, expected) < TOLERANCE[dtype]


@interpreted
@pytest.mark.parametrize("kind", ["dense", "int8", "int4-g64", "int4-g64-zeros", "int4-g128"])
@pytest.mark.parametrize(("batch", "splits"), [(1, 1), (5, 4), (17, 2)])
def test_skinny_equals_the_reference(kind: str, batch: int, splits: int) -> None:
    """In float16 only: the interpreter of Triton 3.6 takes bfloat16 operands of a product for integers."""
    columns = 640 if kind == "int4-g128" else 576
    weight, x = make(kind, 40, columns), random(batch, columns)
    for _ in range(2):  # a second launch finds the counters at zero again
        measured = launch().skinny(x, weight, config=configs.Skinny(32, 4, 2, splits, 64))
        assert error(measured, exact(x, weight)) < 1e-3


@interpreted
@pytest.mark.parametrize("kind", ["int8", "int4-g64", "int4-g64-zeros", "int4-g128"])
def test_dequantizing_kernels_round_once(kind: str) -> None:
    weight = make(kind, 12, 384)
    assert torch.equal(launch().dequantize(weight, torch.float16), dequantize(weight, torch.float16))


@interpreted
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [(1, 576), (3, 64), (2, 3, 48)])
def test_norm_kernel(size: tuple[int, ...], dtype: torch.dtype) -> None:
    x, residual, weight = random(*size, dtype=dtype), random(*size, dtype=dtype, seed=1), random(size[-1], dtype=dtype)
    for other in (None, residual):
        normed, total = launch().rms_norm(x, weight, 1e-5, other)
        expected, expected_total = reference.rms_norm(x, weight, 1e-5, other)
        assert error(total, expected_total) < TOLERANCE[dtype]
        assert error(normed, expected) < TOLERANCE[dtype]


@interpreted
def test_silu_kernel() -> None:
    gate_up = random(3, 2 * 1100)
    assert error(launch().silu_mul(gate_up), reference.silu_mul(gate_up)) < 1e-3


def _caches(batch: int, kv_heads: int, max_len: int, dim: int, device: str = "cpu") -> list[Tensor]:
    return [random(batch, kv_heads, max_len, dim, seed=seed, device=device) for seed in (1, 2)]


@interpreted
@pytest.mark.parametrize("positions", [[5], [5, 3], [0, 1, 2]])
@pytest.mark.parametrize("dim", [8, 12])
@pytest.mark.parametrize("few_rows", [0, 64], ids=["many rows", "few rows"])
def test_rope_kernel(positions: list[int], dim: int, few_rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch(), "_FEW_ROWS", few_rows)
    rows = 6 if len(positions) == 3 else 2
    angles = random(8, dim // 2, dtype=torch.float32)
    tables = [torch.cat([part, part], dim=1) for part in (angles.cos(), angles.sin())]
    qkv, at = random(rows, (4 + 2 * 2) * dim), torch.tensor(positions)
    ours, theirs = _caches(2, 2, 8, dim), _caches(2, 2, 8, dim)
    query = launch().rope_and_append(qkv, *tables, at, *ours)
    expected = reference.rope_and_append(qkv, *tables, at, *theirs)
    for measured, wanted in zip((query, *ours), (expected, *theirs), strict=True):
        assert error(measured, wanted) < 1e-3


@interpreted
@pytest.mark.parametrize("one_kernel", [True, False])
@pytest.mark.parametrize("splits", [1, 8])
@pytest.mark.parametrize("lengths", [[1, 1], [129, 7], [200]])
def test_attention_kernel(lengths: list[int], splits: int, one_kernel: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(configs, "ONE_ATTENTION_KERNEL", one_kernel)
    q, (keys, values), length = random(2, 6, 24), _caches(2, 2, 200, 24), torch.tensor(lengths)
    for _ in range(2):
        measured = launch().decode_attention(q, keys, values, length, 0.2, configs.Attention(16, splits))
        assert error(measured, reference.decode_attention(q, keys, values, length, 0.2)) < 1e-3


# A cache in 8 bit.


def _eight_bit(caches: list[Tensor]) -> list[Tensor]:
    return [cache.to(FP8) for cache in caches]


def test_what_an_8_bit_cache_cannot_hold_becomes_the_largest_that_it_can() -> None:
    keys, values = (torch.zeros(1, 1, 4, 2, dtype=FP8) for _ in range(2))
    cos, sin = torch.ones(4, 1), torch.zeros(4, 1)
    qkv = torch.tensor([[1.0, 2.0, 1000.0, 0.3, -1e30, 449.0]])
    kernels.rope_and_append(qkv, cos, sin, torch.tensor(1), keys, values)
    assert keys[0, 0].float().tolist() == [[0, 0], [448.0, 0.3125], [0, 0], [0, 0]]  # 1.25 * 2^-2 is nearest to 0.3
    assert values[0, 0].float().tolist() == [[0, 0], [-448.0, 448.0], [0, 0], [0, 0]]


@interpreted
def test_rope_kernel_stores_8_bits() -> None:
    """Numbers that 8 bits hold, unturned, and some beyond: the interpreter rounds 126 to 64 (it loses the carry)."""
    tables = [torch.ones(8, 8), torch.zeros(8, 8)]
    qkv, at = (random(6, (4 + 2 * 2) * 8).to(FP8).half() * 256), torch.tensor([0, 1, 2])
    ours, theirs = _eight_bit(_caches(2, 2, 8, 8)), _eight_bit(_caches(2, 2, 8, 8))
    launch().rope_and_append(qkv, *tables, at, *ours)
    reference.rope_and_append(qkv, *tables, at, *theirs)
    for measured, wanted in zip(ours, theirs, strict=True):
        assert wanted.float().abs().max() == 448
        assert torch.equal(measured.float(), wanted.float())


@interpreted
def test_attention_kernel_reads_8_bits() -> None:
    q, (keys, values), length = random(2, 6, 24), _eight_bit(_caches(2, 2, 200, 24)), torch.tensor([129, 7])
    measured = launch().decode_attention(q, keys, values, length, 0.2, configs.Attention(16, 8))
    expected = reference.decode_attention(q, keys, values, length, 0.2)
    assert error(measured, expected) < 1e-3
    assert error(reference.decode_attention(q, keys.half(), values.half(), length, 0.2), expected) < 1e-6


# On a GPU: the compiled kernels, the PTX included, at real shapes.

SHAPES = [(6144, 4096), (4096, 14336), (960, 576)]


@on_gpu
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batch", [1, 16, 33, 128])
@pytest.mark.parametrize(("rows", "columns"), SHAPES)
def test_linear_on_a_gpu(kind: str, rows: int, columns: int, batch: int, dtype: torch.dtype) -> None:
    if kind == "int4-g128" and columns % 128:
        pytest.skip("groups of 128 do not divide 576")
    weight, x = make(kind, rows, columns, dtype, "cuda"), random(batch, columns, dtype=dtype, device="cuda")
    assert error(kernels.linear(x, weight), exact(x, weight)) < TOLERANCE[dtype]


@on_gpu
@pytest.mark.parametrize("kind", KINDS)
def test_fused_linear_on_a_gpu(kind: str) -> None:
    weight, x = make(kind, 28672, 4096, device="cuda"), random(1, 4096, device="cuda")
    norm, residual = kernels.Norm(random(4096, seed=3, device="cuda"), 1e-5), random(1, 14336, device="cuda")
    wide = exact(reference.rms_norm(x.double(), norm.weight.double(), 1e-5)[0], weight)
    expected = functional.silu(wide[:, :14336]) * wide[:, 14336:] + residual.double()
    assert error(kernels.fused_linear(x, weight, norm, residual, glu=True), expected) < 1e-3


@on_gpu
@pytest.mark.parametrize("length", [1, 127, 2048, 8192])
@pytest.mark.parametrize("batch", [1, 16])
@pytest.mark.parametrize("kv_dtype", [torch.float16, FP8], ids=str)
def test_attention_on_a_gpu_and_in_a_replayed_graph(length: int, batch: int, kv_dtype: torch.dtype) -> None:
    q = random(batch, 32, 128, device="cuda")
    keys, values = (cache.to(kv_dtype) for cache in _caches(batch, 8, 8192, 128, "cuda"))
    lengths = torch.full((batch,), 8192, device="cuda")

    def attend() -> Tensor:
        return kernels.decode_attention(q, keys, values, lengths, 128**-0.5)

    attend()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        measured = attend()
    lengths.fill_(length)
    expected: Any = reference.decode_attention(q, keys, values, lengths, 128**-0.5)
    for _ in range(3):
        measured.zero_()
        graph.replay()
        assert error(measured, expected) < 2e-3


@on_gpu
@pytest.mark.parametrize("kv_dtype", [torch.float16, FP8], ids=str)
def test_glue_on_a_gpu(kv_dtype: torch.dtype) -> None:
    x, residual, weight = (random(16, 4096, seed=seed, device="cuda") for seed in range(3))
    for measured, wanted in zip(
        kernels.rms_norm(x, weight[0], 1e-5, residual), reference.rms_norm(x, weight[0], 1e-5, residual), strict=True
    ):
        assert error(measured, wanted) < 1e-3
    assert error(kernels.silu_mul(x), reference.silu_mul(x)) < 1e-3
    ours, theirs = ([cache.to(kv_dtype) for cache in _caches(16, 8, 64, 128, "cuda")] for _ in range(2))
    qkv, at = random(16, 6144, device="cuda"), torch.arange(16, device="cuda")
    tables = [random(64, 128, dtype=torch.float32, device="cuda") for _ in range(2)]
    query = kernels.rope_and_append(qkv, *tables, at, *ours)
    expected = reference.rope_and_append(qkv, *tables, at, *theirs)
    for measured, wanted in zip((query, *ours), (expected, *theirs), strict=True):
        assert error(measured, wanted) < (1e-3 if kv_dtype == torch.float16 else 1e-2)  # to either side of a middle
