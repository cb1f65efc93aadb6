"""A cell is one configuration to measure: what to load, and the task to do with it.

Everything in a cell is identity: two runs of equal cells measure the same thing and share a key. What a run may vary
freely (paths, time limits, the cluster) is elsewhere.
"""

from dataclasses import dataclass, field
from typing import Literal

from farm.model_ref import ModelRef

AGREEMENT_TOKENS = 4096


@dataclass(frozen=True, slots=True)
class Load:
    """What an actor loads once: the identity of a load group.

    `gpus` of one node that the model is spread over, `gpu_type` (`H100`) where only such ones will do.
    """

    model: ModelRef
    quantization: str
    engine: str
    device: str
    trust_remote_code: bool = False
    gpus: int = 1
    gpu_type: str | None = None


@dataclass(frozen=True, slots=True)
class PromptSet:
    """Which synthetic prompts are fed; 50 different ones a length by default."""

    kinds: tuple[str, ...]
    languages: tuple[str, ...]
    per_length: int


@dataclass(frozen=True, slots=True)
class SpeedTask:
    """Time prefill and decode: `warmups` discarded runs, then `runs` timed ones of `new_tokens` tokens each.

    More runs follow, up to `max_runs`, while the 95 % interval of the median is wider than `ci_target` of it; a set
    that is judged suspect for a passing reason is measured again up to `max_reruns` times (see farm.verdict).
    """

    cache_mode: str
    context_tokens: int
    batch_size: int
    new_tokens: int
    warmups: int
    runs: int
    seed: int
    prompts: PromptSet
    max_runs: int = 30
    ci_target: float = 0.05
    max_reruns: int = 1
    kind: Literal["speed"] = "speed"


@dataclass(frozen=True, slots=True)
class TextRef:
    """The text a quality figure is about. `path` says where a local one lies and is no part of the identity."""

    name: str
    sha256: str | None
    path: str | None = field(default=None, metadata={"in_key": False})


@dataclass(frozen=True, slots=True)
class QualityTask:
    """Perplexity of a text in windows of `window_tokens`; `max_tokens` bounds the text (None: all of it).

    The logits of its first `agreement_tokens` scored tokens are compared with those of the reference (0: not at all).
    `cache_mode` None: each window is one forward without a cache. Otherwise it goes through a cache of that mode in
    pieces, so that a token is predicted from what the cache gives back (`jobs.engines.through_cache`).
    """

    protocol: str
    text: TextRef
    window_tokens: int
    max_tokens: int | None
    agreement_tokens: int = AGREEMENT_TOKENS
    cache_mode: str | None = None
    kind: Literal["quality"] = "quality"

    @property
    def protocol_id(self) -> str:
        """What a figure must be quoted with: `gptq-2048`, or `gptq-2048-through-cache`."""
        return f"{self.protocol}-{self.window_tokens}" + ("-through-cache" if self.cache_mode else "")


@dataclass(frozen=True, slots=True)
class Cell:
    """One configuration of the sweep."""

    load: Load
    task: SpeedTask | QualityTask

    @property
    def label(self) -> str:
        """For people: `SmolLM2 int8 eager | cache on, 256 in + 32 out, batch 1`."""
        head = f"{self.load.model.short} {self.load.quantization} {self.load.engine}"
        task = self.task
        if isinstance(task, QualityTask):
            cache = f", cache {task.cache_mode}" if task.cache_mode else ""
            return f"{head} | perplexity {task.protocol_id} on {task.text.name}{cache}"
        return (
            f"{head} | cache {task.cache_mode}, {task.context_tokens} in + {task.new_tokens} out, "
            f"batch {task.batch_size}"
        )
