"""The engines side by side in one process: `python -m tests.perf.turbo_decode --out DIR --within 120`.

By default what turbo's targets are stated for: the shape of Llama-3-8B, a prompt of 1,920 tokens, 128 new ones, batch
1; turbo in three precisions, then its peers: the transformers model compiled, and gpt-fast's method (`turbo_peer`). For
each: tokens a second and the share of the copy bandwidth (MBU) while decoding, the prefill, seconds until the first
call was ready, the GPU's clock and power in both phases, and for turbo where a step's time goes by kernel. No Ray, no
sweep: a tool for the one who writes kernels. A part that fails is recorded and the next one runs; every part is
printed, and written to DIR/turbo_decode.json, as soon as it is done.
"""

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from farm.architectures import KNOWN, Architecture
from farm.cells import Load
from farm.device_facts import DeviceLimits
from farm.model_ref import ModelRef, parse_model
from farm.stats import median
from jobs.device_limits import measure_limits
from jobs.engines.compiled import CompiledEngine
from jobs.engines.eager import EagerEngine
from jobs.engines.turbo import TurboEngine
from jobs.loading import load_engine
from jobs.memory import meter_for, release_unused
from jobs.models.random_weights import build_random
from jobs.prompts import ByteTokenizer
from jobs.stopwatch import stopwatch_for
from jobs.timing import time_generation
from jobs.turbo.profile import profiled
from jobs.turbo.recipe import RECIPES, recipe_for
from tests.perf.turbo_parts import Part, limits_line, lines
from tests.perf.turbo_peer import PeerEngine, PlainDecoder
from tests.perf.turbo_watch import ticks_of, watch_phases

EAGER_TOKENS = 16  # at 33 tokens/s, 128 of them would take 4 s a run
WATCHED_RUNS = 3
_TOO_LATE = "not begun: --within was over"


def main() -> None:
    began = time.perf_counter()
    given = arguments()
    given.out.mkdir(parents=True, exist_ok=True)
    limits = measure_limits(given.device)
    _say(limits_line(given.device, limits))
    parts: list[Part] = []
    for name in given.only:
        is_late = given.within is not None and time.perf_counter() - began > given.within
        parts.append(Part(name, error=_TOO_LATE) if is_late else _measured(name, given, limits))
        _write(given, limits, parts)
        _say(lines(parts[-1]))


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--model", default="random:llama-3-8b")
    ask.add_argument("--out", type=Path, required=True, help="Folder for turbo_decode.json.")
    ask.add_argument("--only", nargs="+", choices=list(PARTS), default=list(TARGET), help="These, in this order.")
    ask.add_argument("--within", type=float, help="Begin no part after so many seconds.")
    ask.add_argument("--context", type=int, default=1920)
    ask.add_argument("--new-tokens", type=int, default=128)
    ask.add_argument("--batch", type=int, default=1)
    ask.add_argument("--runs", type=int, default=5)
    ask.add_argument("--group", type=int, default=128, help="Inputs to a scale of 4-bit weights.")
    ask.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    ask.add_argument("--no-profile", action="store_true")
    return ask.parse_args(words)


def _measured(name: str, given: argparse.Namespace, limits: DeviceLimits | None) -> Part:
    """Run one part. The next part must run whatever happens here, hence the broad catch: the error is the result."""
    part, began = Part(name), time.perf_counter()
    try:
        _run(part, given, limits)
    except Exception as error:
        part.error = f"{type(error).__name__}: {error}"
    part.wall_s = time.perf_counter() - began
    release_unused(given.device)
    return part


def _run(part: Part, given: argparse.Namespace, limits: DeviceLimits | None) -> None:
    _peak(given)
    engine = PARTS[part.name](part, given)
    part.load_peak_bytes = _peak(given)
    new_tokens = EAGER_TOKENS if part.name == "eager" else given.new_tokens
    _time(part, engine, given, new_tokens)
    begin = partial(engine.begin, _prompts(given), "on", new_tokens)
    part.phases = watch_phases(engine, begin, new_tokens, WATCHED_RUNS, ticks_of(given.device))
    if limits is not None and part.step_bytes is not None:
        part.mbu = median(part.decode_tok_s) / given.batch * part.step_bytes / limits.copy_bytes_per_s
    part.effective = None if isinstance(engine, PeerEngine) else asdict(engine.effective("on"))
    if isinstance(engine, TurboEngine) and given.device == "cuda" and not given.no_profile:
        _profile(part, engine, given)


# --- the engines


def _load(part: Part, given: argparse.Namespace, precision: str) -> Any:
    began = time.perf_counter()
    dense = precision if given.device == "cuda" else "fp32"
    engine = _opened(parse_model(given.model), dense, given.device)
    part.load_s = time.perf_counter() - began
    part.weights_bytes = engine.weights_bytes
    if engine.architecture is not None:
        part.step_bytes = _dense_step_bytes(engine.architecture, given, 4 if dense == "fp32" else 2)
    return engine


def _opened(model: ModelRef, precision: str, device: str) -> Any:
    """Random weights need no package but transformers, so they are made here without asking for the others."""
    if model.source != "random":
        return load_engine(Load(model, precision, "eager", device), None, seed=0)
    dtype = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}[precision]
    meter = meter_for(device)
    random = build_random(KNOWN[model.name], dtype, device, seed=0)
    return EagerEngine(random, ByteTokenizer(), stopwatch_for(device), meter)


def _eager(part: Part, given: argparse.Namespace) -> Any:
    return _load(part, given, "fp16")


def _compiled(part: Part, given: argparse.Namespace) -> Any:
    return CompiledEngine(_load(part, given, "fp16"))


def _turbo(precision: str, one_kernel: bool = True) -> Callable[[Part, argparse.Namespace], TurboEngine]:
    def opened(part: Part, given: argparse.Namespace) -> TurboEngine:
        eager = _load(part, given, precision if precision in ("fp16", "bf16") else "fp16")
        recipe = replace(recipe_for(precision), group=given.group)
        engine = TurboEngine(eager.model, eager.tokenizer, eager.stopwatch, eager.meter, recipe, one_kernel=one_kernel)
        part.convert_s, part.weights_bytes = engine.convert_s, engine.weights_bytes
        part.step_bytes = engine.decoder.step_bytes(given.batch, _mean_length(given))
        return engine

    return opened


def _gptfast(precision: str) -> Callable[[Part, argparse.Namespace], PeerEngine]:
    """In bfloat16: tinygemm knows no other."""

    def opened(part: Part, given: argparse.Namespace) -> PeerEngine:
        eager = _load(part, given, "bf16")
        decoder = PlainDecoder(eager.model, replace(recipe_for(precision), group=given.group))
        part.weights_bytes, part.step_bytes = decoder.weights_bytes, decoder.step_bytes(1, _mean_length(given))
        return PeerEngine(decoder, eager.stopwatch)

    return opened


PARTS: dict[str, Callable[[Part, argparse.Namespace], Any]] = {
    "eager": _eager,
    "compiled": _compiled,
    **{f"turbo-{name}": _turbo(name) for name in RECIPES if name != "fp32"},
    **{f"turbo-{name}-graph": _turbo(name, one_kernel=False) for name in RECIPES if name != "fp32"},
    **{f"gptfast-{name}": _gptfast(name) for name in ("bf16", "int8wo", "int4wo")},
}
TARGET = (
    "turbo-fp16", "turbo-int8wo", "turbo-int4wo", "gptfast-bf16", "compiled", "gptfast-int8wo", "gptfast-int4wo",
)  # fmt: skip


def _mean_length(given: argparse.Namespace) -> int:
    return int(given.context + given.new_tokens // 2)


def _dense_step_bytes(shape: Architecture, given: argparse.Namespace, item: int) -> int:
    """All linear layers and the head, and the filled cache; of the embedding one row is read."""
    weights = item * (shape.linear_parameters + shape.vocab * shape.hidden)
    return int(weights + given.batch * _mean_length(given) * shape.kv_bytes_per_token(item))


# --- measuring


def _time(part: Part, engine: Any, given: argparse.Namespace, new_tokens: int) -> None:
    """One discarded run, then the timed ones. The capture or compilation happens in the first `begin`."""
    for run in range(given.runs + 1):
        generation = engine.begin(_prompts(given), "on", new_tokens)
        trial = time_generation(engine, generation, new_tokens)
        part.ready_s = getattr(engine, "ready_s", None)
        if run > 0:
            part.decode_tok_s.append(given.batch * (new_tokens - 1) / trial.decode_s)
            part.prefill_ms.append(1000 * trial.prefill_s)
        del generation
    part.peak_bytes = _peak(given)


def _peak(given: argparse.Namespace) -> int | None:
    """Most bytes allocated since the last call; None on the CPU."""
    if given.device != "cuda":
        return None
    found = torch.cuda.max_memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    return found


def _prompts(given: argparse.Namespace) -> list[list[int]]:
    """Byte tokens: every model's vocabulary holds them."""
    generator = torch.Generator().manual_seed(given.context)
    rows: list[list[int]] = torch.randint(0, 256, (given.batch, given.context), generator=generator).tolist()
    return rows


def _profile(part: Part, engine: TurboEngine, given: argparse.Namespace) -> None:
    generation = engine.begin(_prompts(given), "on", 8)
    part.prefill_profile = profiled(generation.prefill)
    generation.first_token()
    generation.decode_step()
    part.decode_profile = profiled(generation.decode_step)


# --- telling


def _say(text: str) -> None:
    print(text, flush=True)


def _write(given: argparse.Namespace, limits: DeviceLimits | None, parts: list[Part]) -> None:
    setting = {key: str(value) if isinstance(value, Path) else value for key, value in vars(given).items()}
    found = {
        "setting": setting,
        "device": torch.cuda.get_device_name() if given.device == "cuda" else "cpu",
        "torch": torch.__version__,
        "limits": None if limits is None else asdict(limits),
        "parts": [asdict(part) for part in parts],
    }
    (given.out / "turbo_decode.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
