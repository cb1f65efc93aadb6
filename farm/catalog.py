"""The closed vocabularies of the farm: one place that says which words a sweep may use.

Adding a quantization backend adds one `Precision` here (what it costs in bytes, which report column it belongs to)
and one file under `jobs/quantization/` (how it loads). Bits are those of the linear layers' weights; embeddings, norms
and the head stay in 16 bit (or in 32 bit for `fp32`).
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Precision:
    """One value of the quantization axis.

    `report_key` is the mission's name in final_report.json (`None`: not one of its four columns).
    `linear_bits` counts scales: 4.5 means 4-bit weights with one 32-bit scale per 64 of them.
    """

    name: str
    title: str
    linear_bits: float
    other_bits: int
    report_key: str | None

    @property
    def is_quantized(self) -> bool:
        return self.linear_bits < 16


PRECISIONS: dict[str, Precision] = {
    p.name: p
    for p in (
        Precision("fp32", "FP32", 32, 32, None),
        Precision("fp16", "FP16", 16, 16, "fp16"),
        Precision("bf16", "BF16", 16, 16, "bf16"),
        Precision("int8", "INT8 (bitsandbytes)", 8, 16, "int8"),
        Precision("nf4", "NF4 (bitsandbytes)", 4.5, 16, "4bit"),
    )
}

# The row that quality and speed are compared against, best first: a 16-bit row, or 32 bit where no 16-bit row exists.
BASELINES = ("fp16", "bf16", "fp32")

# Whose logits the others are compared with. 16 bit on the CPU would be another rounding, and six times slower.
REFERENCES = {"cuda": BASELINES[0], "cpu": "fp32"}

ENGINES = ("eager", "fake")
CACHE_MODES = ("on", "off")
PROMPT_KINDS = ("chat", "code", "summary")
LANGUAGES = ("en", "es")
DEVICES = ("auto", "cuda", "cpu")
QUALITY_PROTOCOLS = ("gptq", "lm-eval")  # the first one of a sweep is the headline

# Text names that need no file: the one we ship, and the usual one (fetched through `datasets`).
NAMED_TEXTS = ("demo", "wikitext-2")
