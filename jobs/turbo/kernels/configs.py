"""How the kernels are cut: tiles, warps and shares, from small tables that `tests.perf.turbo_kernels` measures.

Why tables and no search at run time: a search takes 30 s a shape and its outcome differs from run to run. A lane reads
16 bytes a row and load, so the width of a tile follows from the warps; free are the rows a program owns (more rows
share one conversion of the inputs, fewer leave registers for more programs) and the number of warps.

    gemv_config("int4", 6144, 4096)     # Gemv(block_rows=4, warps=4)
"""

from dataclasses import dataclass

# Let a kernel start while the one ahead ends (sm_90 and later). `tests.perf.turbo_kernels` measures both.
PROGRAMMATIC_LAUNCH = True
# One attention kernel, whose last program combines the shares, or a second small kernel.
ONE_ATTENTION_KERNEL = True

_MULTIPROCESSORS = 132  # of an H100; on smaller devices the same cuts only mean more rounds


@dataclass(frozen=True, slots=True)
class Gemv:
    """`loads`: 16-byte reads of a lane in one row of the tile."""

    block_rows: int
    warps: int
    loads: int = 1


@dataclass(frozen=True, slots=True)
class Skinny:
    """`block_columns`: inputs an iteration (4-bit: always one group). `splits`: parts the inputs are cut into."""

    block_rows: int
    warps: int
    stages: int
    splits: int
    block_columns: int = 128


@dataclass(frozen=True, slots=True)
class Attention:
    """`block`: cache rows an iteration. `splits`: programs a group of heads."""

    block: int
    splits: int
    warps: int = 4
    stages: int = 2


def gemv_config(kind: str, rows: int, columns: int) -> Gemv:
    """For one row of inputs times [rows, columns] weights of kind dense, int8 or int4."""
    if kind == "dense":
        return Gemv(block_rows=4, warps=4)
    if kind == "int8":
        return Gemv(block_rows=4, warps=4)
    return Gemv(block_rows=8 if rows > 8192 else 4, warps=4)


def skinny_config(kind: str, rows: int, columns: int) -> Skinny:
    """For 2 to 64 rows of inputs. Splits bring at least 4 programs to each multiprocessor."""
    block_rows = 64
    tiles = -(-rows // block_rows)
    splits = 1
    while tiles * splits < 4 * _MULTIPROCESSORS and columns // (splits * 2) >= 512:
        splits *= 2
    return Skinny(block_rows, warps=4, stages=4, splits=splits)


def attention_config(pairs: int, max_len: int) -> Attention:
    """For `pairs` = batch * kv_heads groups of heads: about 2 programs a multiprocessor, each of 64 rows or more."""
    block, splits = 64, 1
    while splits * pairs < 256 and splits * block < max_len:
        splits *= 2
    return Attention(block, splits)
