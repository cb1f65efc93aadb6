"""The closed vocabularies of the farm: one place that says which words a sweep may use.

Adding a quantization backend adds one `Precision` here (what it costs in bytes, which report column it belongs to)
and one file under `jobs/quantization/` (how it loads). Bits are those of the linear layers' weights; embeddings, norms
and the head stay in 16 bit (or in 32 bit for `fp32`). `farm.quantization` reads what a sweep writes.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Option:
    """A choice that a precision offers; written `gptq?group_size=64` in a sweep."""

    name: str
    choices: tuple[str, ...]
    default: str


@dataclass(frozen=True, slots=True)
class Precision:
    """One value of the quantization axis.

    `code_bits` are those of a weight's own code; each `group` of weights (None: a whole row, which adds next to
    nothing) shares `scale_bits` more. `report_key` is the mission's name in final_report.json (`None`: not one of its
    four columns). `checkpoint`: the precision whose checkpoints it loads, made once by `farm prepare` and not at every
    load. `is_legacy`: its package runs only in an environment of its own (`farm prepare-env`).
    """

    name: str
    title: str
    code_bits: float
    other_bits: int
    report_key: str | None
    scale_bits: int = 0
    group: int | None = None
    options: tuple[Option, ...] = ()
    checkpoint: str | None = None
    is_legacy: bool = False

    @property
    def is_quantized(self) -> bool:
        return self.code_bits < 16

    @property
    def linear_bits(self) -> float:
        """With the default options."""
        return self.bits({option.name: option.default for option in self.options})

    def bits(self, chosen: Mapping[str, str]) -> float:
        """Bits a weight of the linear layers, scales and zero points included, with these options."""
        if chosen.get("double_quant") == "on":
            return self.code_bits + 8 / 64 + 32 / (64 * 256)  # 8-bit scales, and one 32-bit scale for 256 of those
        group = int(chosen.get("group_size", self.group or 0))
        return self.code_bits + (self.scale_bits / group if group > 0 else 0.0)


GROUP_SIZE = Option("group_size", ("32", "64", "128"), "128")
DOUBLE_QUANT = Option("double_quant", ("off", "on"), "off")
KERNEL = Option("kernel", ("auto", "marlin", "machete", "exllama", "triton", "torch"), "auto")

PRECISIONS: dict[str, Precision] = {
    p.name: p
    for p in (
        Precision("fp32", "FP32", 32, 32, None),
        Precision("fp16", "FP16", 16, 16, "fp16"),
        Precision("bf16", "BF16", 16, 16, "bf16"),
        Precision("int8", "INT8 (bitsandbytes)", 8, 16, "int8"),
        Precision("int8wo", "INT8 weight-only", 8, 16, "int8"),
        Precision("nf4", "NF4 (bitsandbytes)", 4, 16, "4bit", 32, 64, (DOUBLE_QUANT,)),
        Precision("fp4", "FP4 (bitsandbytes)", 4, 16, "4bit", 32, 64, (DOUBLE_QUANT,)),
        Precision("gptq", "GPTQ", 4, 16, "4bit", 20, 128, (GROUP_SIZE, KERNEL), checkpoint="gptq"),
        Precision("awq", "AWQ", 4, 16, "4bit", 20, 128, (GROUP_SIZE, KERNEL), checkpoint="awq"),
        Precision("int4wo", "INT4 weight-only", 4, 16, "4bit", 32, 128, (GROUP_SIZE,)),
        Precision("hqq", "HQQ", 4, 16, "4bit", 32, 64, (Option("group_size", GROUP_SIZE.choices, "64"),)),
        Precision("exl3", "EXL3", 4, 16, "4bit"),
        Precision("auto-gptq", "GPTQ (AutoGPTQ)", 4, 16, "4bit", 20, 128, (GROUP_SIZE,), "gptq", is_legacy=True),
        Precision("autoawq", "AWQ (AutoAWQ)", 4, 16, "4bit", 20, 128, (GROUP_SIZE,), "awq", is_legacy=True),
    )
}

LEGACY = tuple(name for name, precision in PRECISIONS.items() if precision.is_legacy)

# The row that quality and speed are compared against, best first: a 16-bit row, or 32 bit where no 16-bit row exists.
BASELINES = ("fp16", "bf16", "fp32")

# Whose logits the others are compared with. 16 bit on the CPU would be another rounding, and six times slower.
REFERENCES = {"cuda": BASELINES[0], "cpu": "fp32"}

ENGINES = ("eager", "compiled", "turbo", "fake")


@dataclass(frozen=True, slots=True)
class CacheMode:
    """One value of the KV-cache axis.

    `bits` of a cached value's code (None: as many as the model computes in, 0: no cache). Each `group` of values shares
    a scale and a zero point, as wide as the model computes in; None: one scale a layer, which adds next to nothing.
    The latest tokens, up to `residual` of them, wait unquantized until there are so many. `is_static`: allocated whole
    before the first token. `layers_on_device`: how many layers' share lies there, the rest in host memory (None: all).
    """

    name: str
    title: str
    bits: int | None = None
    group: int | None = None
    residual: int = 1
    is_static: bool = False
    layers_on_device: int | None = None
    engines: tuple[str, ...] = ("eager", "fake")
    package: str | None = None

    @property
    def is_lossy(self) -> bool:
        """What is read back is not what was written: perplexity has to be measured with it."""
        return bool(self.bits)


# `on` is transformers' own default, a cache that grows; the rest are its other caches. HQQ quantizes in groups of 64:
# in 8 bit along a token's own values, in 4 bit across tokens, where its packing takes any number of them.
CACHES: dict[str, CacheMode] = {
    mode.name: mode
    for mode in (
        CacheMode("on", "cache on", engines=ENGINES),
        CacheMode("off", "cache off", bits=0),
        CacheMode("static", "static cache", is_static=True),
        CacheMode("fp8", "FP8 cache", bits=8, engines=("eager", "turbo", "fake")),
        CacheMode("int8", "INT8 cache", bits=8, group=64, residual=128, package="hqq"),
        CacheMode("int4", "INT4 cache", bits=4, group=64, residual=128, package="hqq"),
        CacheMode("offloaded", "cache in host memory", layers_on_device=2),
    )
}
CACHE_MODES = tuple(CACHES)
DEFAULT_CACHE_MODES = ("on", "off")  # the mission's axis
PROMPT_KINDS = ("chat", "code", "summary")
LANGUAGES = ("en", "es")
DEVICES = ("auto", "cuda", "cpu")
QUALITY_PROTOCOLS = ("gptq", "lm-eval")  # the first one of a sweep is the headline

# Text names that need no file: the one we ship, and the usual one (fetched through `datasets`).
NAMED_TEXTS = ("demo", "wikitext-2", "wikitext-2-valid")
