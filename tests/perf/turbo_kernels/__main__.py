"""The decode kernels on a GPU, against its memory bandwidth: `python -m tests.perf.turbo_kernels --out DIR`.

The shapes are those of Llama-3-8B. Each time is the median of 20 replays of one captured graph, divided by its
launches; the weights in a graph are several copies, three times the L2 together, so that none is read from it. First
every variant is checked against the product with the dequantized weight. A variant that fails to compile or is wrong
is recorded with its message and left out. Then whole tokens are timed with the winners: 32 layers, attention over 2,048
positions and the head in one graph, fused and single kernels, with and without programmatic launch.

Needs torch with CUDA and Triton, nothing else. About 2 minutes; the file is written after each part. The processes
beside the first only fill Triton's compile cache.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from jobs.turbo.kernels import configs
from tests.perf.turbo_kernels import small, token, variants
from tests.perf.turbo_kernels.linears import print_table, time_variants, winners
from tests.perf.turbo_kernels.timing import attempt, ceilings_gb_s

BUDGET_S = 140.0
_COMPILERS = 10
_STAGES = ("parts", "tokens")


def main() -> None:
    given = _arguments()
    torch.manual_seed(0)
    if given.compile is None:
        given.out.mkdir(parents=True, exist_ok=True)
        measure(given.out)
    else:
        jobs = compile_jobs(_STAGES[given.stage], given.out)
        for job in jobs[given.compile :: _COMPILERS]:
            attempt(job)  # what fails will fail again where it is recorded


def _arguments() -> argparse.Namespace:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--out", type=Path, required=True)
    ask.add_argument("--compile", type=int, help=argparse.SUPPRESS)
    ask.add_argument("--stage", type=int, default=0, help=argparse.SUPPRESS)
    return ask.parse_args()


def measure(out: Path) -> None:
    began = time.perf_counter()
    found: dict[str, Any] = {"device": torch.cuda.get_device_name(), "torch": torch.__version__}

    def done(part: str, result: Any) -> Any:
        found[part], found["total_s"] = result, time.perf_counter() - began
        (out / "turbo_kernels.json").write_text(json.dumps(found, indent=1) + "\n")
        print(f"{found['total_s']:.0f} s: {part}", flush=True)
        return result

    fill_compile_cache(out, 0)
    read_gb_s = done("ceilings_gb_s", ceilings_gb_s(variants.DEVICE))["read"]
    print(found["ceilings_gb_s"])
    print_times(done("small_us", small.time_small()))
    single = done("one_row", time_variants(variants.single_row(), began + 0.55 * BUDGET_S, read_gb_s))
    print_table(done("winners_one_row", winners(single)), single)
    done("cuts", best_cuts(found))
    fill_compile_cache(out, 1)
    token.use_cuts(**found["cuts"])
    configs.ONE_ATTENTION_KERNEL = "one kernel True" in best_attention(found)
    done("token_ms", token.time_tokens(began + 0.8 * BUDGET_S, lambda line: print(line, flush=True)))
    several = done("several_rows", time_variants(variants.several_rows(), began + BUDGET_S, read_gb_s))
    print_table(done("winners_several_rows", winners(several)), several)


def best_cuts(found: dict[str, Any]) -> dict[str, Any]:
    """The arguments of `token.use_cuts`. One row goes to the GEMV kernels, so the best of those counts."""
    gemvs = winners([row for row in found["one_row"] if row["cut"].startswith("Gemv")])
    attention = best_attention(found)
    return {
        "gemvs": {name.removesuffix(" 1"): row["cut"] for name, row in gemvs.items()},
        "attention": attention[len("attention 2048 ") : attention.index(")") + 1],
    }


def best_attention(found: dict[str, Any]) -> str:
    """The name of the fastest one at 2,048 positions under programmatic launch."""
    names = [name for name in found["small_us"] if name.startswith("attention 2048") and "programmatic True" in name]
    return min(names, key=lambda name: us if isinstance(us := found["small_us"][name], float) else float("inf"))


def fill_compile_cache(out: Path, stage: int) -> None:
    """Triton compiles on one core each; together they take a fifth of the time."""
    command = [sys.executable, "-m", "tests.perf.turbo_kernels", "--out", str(out), "--stage", str(stage), "--compile"]
    compilers = [subprocess.Popen([*command, str(i)], stderr=subprocess.DEVNULL) for i in range(_COMPILERS)]
    for compiler in compilers:
        compiler.wait()


def compile_jobs(stage: str, out: Path) -> list[Callable[[], Any]]:
    """One launch of each differently compiled kernel."""
    if stage == "parts":
        distinct = {v.compiled: v for v in [*variants.single_row(), *variants.several_rows()]}
        names = enumerate(name for name, _ in small.in_modes(small.works()))
        attentions = [partial(_run_small, index) for index, name in names if "attention 2048" in name]
        return [*(partial(_run_variant, variant) for variant in distinct.values()), *attentions]
    token.use_cuts(**json.loads((out / "turbo_kernels.json").read_text())["cuts"])
    return [partial(_run_way, way) for way in token.ways()]


def _run_variant(variant: variants.Variant) -> None:
    variant.run(variant.random_rows(), variants.make(variant.kind, variant.shape))


def _run_small(index: int) -> None:
    """The mode is set while the works are gone through."""
    for number, (_, work) in enumerate(small.in_modes(small.works())):
        if number == index:
            work(0)


def _run_way(way: token.Way) -> None:
    configs.PROGRAMMATIC_LAUNCH = way.programmatic
    token.Token(way.kind, layers=1).step(way)


def print_times(times: dict[str, float | str]) -> None:
    for name, us in times.items():
        print(f"{name:110} {us if isinstance(us, str) else round(us, 2)}")


if __name__ == "__main__":
    main()
