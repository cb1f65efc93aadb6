"""What the decode kernels compile to, without a GPU: `TRITON_INTERPRET=0 python -m tests.perf.turbo_ptx`.

The interpreter proves answers on a CPU, but it runs neither inline PTX nor the compiler: a kernel that is right there
may not compile, or may load byte by byte. Triton compiles for a GPU that is not there. Told, as JSON, are the PTX
instructions of each kernel by kind, at the cuts that ship for Llama-3-8B and batch 16.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from jobs.turbo.kernels import configs, triton_attention, triton_skinny
from tests.perf.turbo_kernels.shapes import DIM, HEADS, KV_HEADS, SHAPES

H100 = GPUTarget("cuda", 90, 32)
KINDS = {"float16": "fp16", "bfloat16": "bf16"}
BATCH, MAX_LEN = 16, 2304
ROWS, COLUMNS = SHAPES["qkv"]
_INSTRUCTION = re.compile(r"^\s+(?:@!?%p\d+ )?([a-z][a-z0-9_.:]*)", re.MULTILINE)


def compiled() -> Iterator[tuple[str, str]]:
    """(name, PTX). Raises what the compiler raises, with the name in front."""
    for name, kernel, types, constants, options in (*_attentions(), *_products()):
        try:
            yield name, _ptx(kernel, types, constants, options)
        except Exception as error:
            raise RuntimeError(f"{name}: {error}") from error


def _attentions() -> Iterator[tuple[str, Any, dict[str, str], dict[str, Any], dict[str, int]]]:
    cut = configs.attention_config(BATCH * KV_HEADS, MAX_LEN)
    for name, q in KINDS.items():
        for cache, kept in ((name, q), ("8 bit", "fp8e4nv")):
            types = {"q": f"*{q}", "keys": f"*{kept}", "values": f"*{kept}", "length": "*i64", "out": f"*{q}"}
            types |= dict.fromkeys(("shares", "maxima", "totals"), "*fp32") | {"done": "*i32", "scale": "fp32"}
            types |= dict.fromkeys(("kv_heads", "max_len", "length_stride"), "i32")
            constants = {"GROUP": HEADS // KV_HEADS, "BLOCK_GROUP": 16, "DIM": DIM, "BLOCK_DIM": DIM}
            constants |= {"BLOCK": cut.block, "SPLITS": cut.splits, "ONE_KERNEL": True, "PDL": True}
            yield f"attention, {name}, cache {cache}", triton_attention.attend_share, types, constants, _options(cut)


def _products() -> Iterator[tuple[str, Any, dict[str, str], dict[str, Any], dict[str, int]]]:
    for name, x in KINDS.items():
        common = {"x": f"*{x}", "out": f"*{x}", "parts": "*fp32", "done": "*i32", "batch": "i32", "rows": "i32"}
        flags = {"BLOCK_BATCH": BATCH, "BF16": x == "bf16", "PDL": True, "ASM": True}
        for kind in ("dense", "int8"):
            cut = configs.skinny_config(kind, ROWS, COLUMNS)
            constants = flags | {"BLOCK_ROWS": cut.block_rows, "BLOCK_COLUMNS": cut.block_columns}
            constants |= {"SPLITS": cut.splits, "SCALED": kind == "int8"}
            types = common | {"weight": "*i8" if kind == "int8" else f"*{x}", "scales": "*fp16", "columns": "i32"}
            yield f"{kind}, {name}", triton_skinny.wide_skinny, types, constants, _options(cut)
        cut = configs.skinny_config("int4", ROWS, COLUMNS)
        for zeros in (False, True):
            constants = flags | {"BLOCK_ROWS": cut.block_rows, "SPLITS": cut.splits, "GROUP": 128, "HAS_ZEROS": zeros}
            types = common | {"packed": "*i16", "scales": "*fp16", "zeros": "*fp16", "groups": "i32"}
            label = f"int4{' with zero points' * zeros}, {name}"
            yield label, triton_skinny.int4_skinny, types, constants, _options(cut)


def _options(cut: Any) -> dict[str, int]:
    return {"num_warps": cut.warps, "num_stages": cut.stages}


def _ptx(kernel: Any, types: dict[str, str], constants: dict[str, Any], options: dict[str, int]) -> str:
    names = list(kernel.arg_names)
    aligned = [name for name, kind in types.items() if kind.startswith("*") or name in ("max_len", "rows", "columns")]
    source = ASTSource(
        fn=kernel,
        signature={name: "constexpr" if name in constants else types[name] for name in names},
        constexprs={(names.index(name),): value for name, value in constants.items()},
        attrs={(names.index(name),): [["tt.divisibility", 16]] for name in aligned},
    )
    return str(triton.compile(source, target=H100, options=options).asm["ptx"])


def main() -> None:
    print(json.dumps({name: dict(Counter(_INSTRUCTION.findall(ptx))) for name, ptx in compiled()}))


if __name__ == "__main__":
    main()
