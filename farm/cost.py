"""How long will it take? A guess for every cell and load group, to order them and to tell minutes from hours.

The physics: an eager step on a GPU costs the host's time, about a millisecond a layer whatever the precision weighs; a
CUDA graph (turbo, compiled) costs the bytes it reads; a forward without a cache costs the FLOPs of the whole prefix.
Beside the trials a cell costs its untimed passes (token by token, `generate()`, energy), and a group its process.

    >>> from farm.sweep import parse_sweep; from farm.expand import expand
    >>> mine = "{name: a, models: ['random:llama-3-8b'], quantizations: [fp16], contexts: [1920], new_tokens: 129}"
    >>> cell = expand(parse_sweep(mine), "cuda")[0]
    >>> round(decode_step_s(cell), 3)               # 33 tokens a second were measured on an H100
    0.032

Never shown as a measurement. Constants: one H100 (docs/turbo-notes.md) and two CPU cores, 2026.
"""

import heapq
from collections.abc import Sequence

from farm.architectures import KNOWN, Architecture
from farm.cells import Cell, Load, QualityTask, SpeedTask
from farm.model_ref import architecture_of
from farm.quantization import Quantization, parse_quantization

USUAL = KNOWN["llama-3-8b"]  # until a hub model's shape is known
USUAL_TEXT_TOKENS = 290_000  # WikiText-2's test split

START_S = {"cuda": 15.0, "cpu": 12.0}  # a fresh process: mostly imports
LOAD_BYTES_S = {"cuda": 1.2e9, "cpu": 0.1e9}  # of 16-bit weights: filling or reading, quantizing, the sanity gate
READ_BYTES_S = {"cuda": 2.8e12, "cpu": 7e9}
FLOP_S = {"cuda": 450e12, "cpu": 80e9}
HOST_S_A_LAYER = {"cuda": 1.0e-3, "cpu": 0.2e-3}
GRAPH_S = 1.0e-3  # gaps and small kernels of a step that is one launch
COMPILE_S = 60.0  # one shape of the compiled engine
FAKE_S = 0.1
WATCH_S = 4.5  # on a GPU: who else is there, power at rest, two windows of energy

# How many times as long the host takes for a step when the layers are not plain ones.
LAYER_FACTOR = {"bf16": 1.1, "int8": 2.5, "int8wo": 1.1, "int4wo": 1.6, "nf4": 1.4, "fp4": 1.4, "hqq": 2.4}
CHECKPOINT_FACTOR = 2.4  # gptq and awq, by whichever kernel: the published run has 13.4 to 13.7 tokens/s for gptq


def group_seconds(load: Load, cells: Sequence[Cell]) -> float:
    """A fresh process, the load, and every cell."""
    model_s = 0.0 if load.engine == "fake" else 2 * _shape(load).parameters / LOAD_BYTES_S[load.device]
    return START_S[load.device] + model_s + sum(map(cell_seconds, cells))


def wall_seconds(groups: Sequence[float], devices: int) -> float:
    """Until the last group ends, when each starts on whichever device is free, in the order given."""
    free_at = [0.0] * devices
    for seconds in groups:
        heapq.heapreplace(free_at, free_at[0] + seconds)
    return max(free_at)


def cell_seconds(cell: Cell) -> float:
    """Everything done for one cell once its model is loaded."""
    if cell.load.engine == "fake":
        return FAKE_S
    if isinstance(cell.task, QualityTask):
        return _quality_s(cell, cell.task)
    on_gpu = cell.load.device == "cuda"
    extra = (WATCH_S if on_gpu else 0.0) + (COMPILE_S if cell.load.engine == "compiled" else 0.0)
    return _generations(cell.load, cell.task) * generation_s(cell) + extra


def generation_s(cell: Cell) -> float:
    """The forward over the prompt and every later token."""
    task = _speed(cell)
    return forward_s(cell.load, task.batch_size * task.context_tokens) + (task.new_tokens - 1) * decode_step_s(cell)


def decode_step_s(cell: Cell) -> float:
    """One later token of each sequence of the batch; without a cache, in the middle of the generation."""
    task = _speed(cell)
    if task.cache_mode == "off":
        return forward_s(cell.load, task.batch_size * (task.context_tokens + task.new_tokens // 2))
    return max(_host_s(cell.load), _read_s(cell.load))


def forward_s(load: Load, tokens: int) -> float:
    """One forward over so many tokens in all."""
    return max(_host_s(load), 2 * _shape(load).parameters * tokens / FLOP_S[load.device])


def _generations(load: Load, task: SpeedTask) -> int:
    """Warm-ups, trials, one token by token; on a GPU one for the telemetry; `generate()` three times."""
    library = 3 if load.engine == "eager" and task.cache_mode == "on" else 0
    return task.warmups + task.runs + 1 + library + (load.device == "cuda")


def _quality_s(cell: Cell, task: QualityTask) -> float:
    """The text once in windows, and the part that is compared once through this model and once through the other."""
    text = task.max_tokens or USUAL_TEXT_TOKENS
    windows = (text + 2 * task.agreement_tokens) / task.window_tokens
    if task.cache_mode is None:
        return windows * forward_s(cell.load, task.window_tokens)
    pieces = task.window_tokens / 128  # each of 127 tokens and then one (jobs.engines.through_cache)
    return windows * pieces * (forward_s(cell.load, 127) + forward_s(cell.load, 1))


def _host_s(load: Load) -> float:
    if load.device == "cuda" and load.engine != "eager":
        return GRAPH_S
    return _shape(load).layers * HOST_S_A_LAYER[load.device] * _factor(parse_quantization(load.quantization))


def _read_s(load: Load) -> float:
    """Reading every weight once. On a CPU the narrow ones are widened first, which costs more than it saves."""
    quantization, shape = parse_quantization(load.quantization), _shape(load)
    if load.device == "cpu":
        return 4 * shape.parameters / READ_BYTES_S["cpu"] * min(_factor(quantization), 2.0)
    bytes_read = shape.weight_bytes(quantization.linear_bits, quantization.other_bits)
    return bytes_read / READ_BYTES_S["cuda"] + (GRAPH_S if load.engine != "eager" else 0.0)


def _factor(quantization: Quantization) -> float:
    return CHECKPOINT_FACTOR if quantization.precision.checkpoint else LAYER_FACTOR.get(quantization.name, 1.0)


def _shape(load: Load) -> Architecture:
    return architecture_of(load.model) or USUAL


def _speed(cell: Cell) -> SpeedTask:
    assert isinstance(cell.task, SpeedTask)
    return cell.task
