"""A record is everything known about one attempt at one cell: raw samples, evidence, or a typed failure.

Why raw: statistics are derived again and again (`farm report`), samples are measured once. Missing is `None`, with
the reason in the `reasons` mapping beside it; a 0 is always a measured 0.

Units: seconds and bytes. Records travel as JSON (pydantic validates them on the way back in).
"""

import json
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from pydantic import TypeAdapter

from farm.architectures import Architecture
from farm.cells import Cell
from farm.device_facts import DeviceLimits, Energy, Telemetry
from farm.keys import SCHEMA_VERSION
from farm.sanity import Sanity


class Status(StrEnum):
    """How an attempt ended. `ok` and the findings are kept on resume; the rest is tried again."""

    OK = "ok"
    OOM = "oom"
    UNSUPPORTED = "unsupported"
    ERROR = "error"
    CRASH = "crash"
    TIMEOUT = "timeout"
    HOST_OOM = "host_oom"
    PREDICTED_OOM = "predicted_oom"
    INVALID = "invalid"

    @property
    def is_final(self) -> bool:
        """True when asking again cannot give another answer."""
        return self in (Status.OK, Status.OOM, Status.UNSUPPORTED)


@dataclass(frozen=True, slots=True)
class Trial:
    """One timed repetition.

    `ttft_s`: host time from the start to the first token (forward and argmax, synchronized). `prefill_s`: the one
    forward over the prompt, by device events where there are any. `decode_s`: host time of all later tokens.
    `decode_device_s`: the same by device events. `e2e_s`: host time of the whole. `host_probe_s`: how long fixed work
    took on the host just before or just after, whichever was slower (jobs.host).
    """

    index: int
    prompt_indexes: tuple[int, ...]
    ttft_s: float
    prefill_s: float
    decode_s: float
    e2e_s: float
    output_tokens: int
    decode_device_s: float | None = None
    host_probe_s: float | None = None


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes by part. On the CPU there is no device allocator: those fields are None and `reasons` says so.

    `kv_host_bytes`: what of `kv_bytes` lies in host memory while a GPU computes; None where all is on the device.
    """

    weights_bytes: int | None = None
    kv_bytes: int | None = None
    activation_peak_bytes: int | None = None
    peak_allocated_bytes: int | None = None
    peak_reserved_bytes: int | None = None
    device_used_delta_bytes: int | None = None
    host_peak_rss_bytes: int | None = None
    prefill_peak_bytes: int | None = None
    decode_peak_bytes: int | None = None
    kv_host_bytes: int | None = None
    reasons: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Effective:
    """What really ran, read off the loaded model and not off the request.

    `quantization` tells what is true of the weights (bits, group size, calibration text ...), `kernels` what computes a
    phase where that can be told apart. `mismatches` says in words where all this is not what was requested; each makes
    the row `fallback_kernel`.
    """

    linear_classes: dict[str, int]
    parameter_dtypes: dict[str, int]
    attention: str | None = None
    cache_class: str | None = None
    compiled: bool = False
    compute_dtype: str | None = None
    graph_breaks: int | None = None
    mismatches: tuple[str, ...] = ()
    quantization: dict[str, str] = field(default_factory=dict)
    kernels: dict[str, str] = field(default_factory=dict)
    compile_s: float | None = None


@dataclass(frozen=True, slots=True)
class SpeedResult:
    """Raw samples of a speed task.

    `itl_s`: the gap before each later token, from passes of their own that wait after every token; `itl_enqueue_s`:
    how much of each gap the host took to hand out the work (near the whole gap: launch-bound). `generate_e2e_s`: the
    library's own `generate()` end to end, a cross-check. `set_aside`: trials of a slowed host, which do not count
    (`farm.steady`). `earlier_trials`: those of sets that were judged not valid and measured again (`farm.verdict`).
    Both are kept as evidence.
    """

    trials: tuple[Trial, ...]
    itl_s: tuple[float, ...]
    memory: Memory
    effective: Effective
    prompts_sha256: str
    device_clock: str
    output_sha256: str | None = None
    itl_enqueue_s: tuple[float, ...] = ()
    generate_e2e_s: tuple[float, ...] = ()
    set_aside: tuple[Trial, ...] = ()
    earlier_trials: tuple[tuple[Trial, ...], ...] = ()
    telemetry: Telemetry | None = None
    energy: Energy | None = None


@dataclass(frozen=True, slots=True)
class QualityResult:
    """Sum of negative log-likelihoods in nats over `tokens_scored` tokens, and what they were measured on.

    `kl_mean` (nats a token) and `top1_agreement` (0-1) compare the logits with those of `reference`, the 16-bit model
    of the same weights, over `agreement_tokens` tokens of the same text.
    """

    protocol: str
    text: str
    text_sha256: str
    nll_sum: float
    tokens_scored: int
    words: int
    utf8_bytes: int
    effective: Effective
    kl_mean: float | None = None
    top1_agreement: float | None = None
    agreement_tokens: int | None = None
    reference: str | None = None
    reasons: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an attempt did not end `ok`: one sentence for people, the traceback's end for engineers."""

    message: str
    exception: str | None = None
    traceback: str | None = None


@dataclass(frozen=True, slots=True)
class Environment:
    """Where it ran. Two rows compare only when their environments do."""

    host: str
    platform: str
    python: str
    packages: dict[str, str]
    device: str
    device_name: str
    device_memory_bytes: int | None
    device_uuid: str | None
    driver: str | None
    cpu_threads: int | None
    farm_version: str
    farm_commit: str | None
    worker: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Neighbours:
    """How many other load groups were at work on a cell's machine while it was measured."""

    fewest: int
    most: int


@dataclass(frozen=True, slots=True)
class Record:
    """One attempt at one cell. Exactly one of `speed`, `quality`, `failure` is set.

    `architecture` is the loaded model's shape: that of a hub model is not known before. `sanity` is what the gate saw
    of the loaded model (`farm.sanity`); the cells of a model that did not pass are `invalid` and were not measured.
    `neighbours` is the driver's note. `disturbed` is set on reading, where the run's canary says so
    (`farm.interference`): it is about the whole run and in no file.
    """

    key: str
    attempt: int
    status: Status
    cell: Cell
    started_at: str
    ended_at: str
    environment: Environment | None = None
    load_s: float | None = None
    load_memory: Memory | None = None
    limits: DeviceLimits | None = None
    speed: SpeedResult | None = None
    quality: QualityResult | None = None
    failure: Failure | None = None
    architecture: Architecture | None = None
    sanity: Sanity | None = None
    neighbours: Neighbours | None = None
    disturbed: str | None = None
    schema: int = SCHEMA_VERSION

    @property
    def is_fake(self) -> bool:
        return self.cell.load.engine == "fake"


_ADAPTER: Final[TypeAdapter[Record]] = TypeAdapter(Record)


def to_json(record: Record) -> bytes:
    """The record as canonical, indented JSON. Raises ValueError for NaN or infinity: those are never a result."""
    plain: Any = _ADAPTER.dump_python(record, mode="json")
    return (json.dumps(plain, indent=1, sort_keys=True, allow_nan=False) + "\n").encode()


def from_json(data: bytes) -> Record:
    """Read a record back. Raises pydantic.ValidationError when it is truncated, damaged or of another schema."""
    return _ADAPTER.validate_json(data)
