"""How the weights are kept: the precision of the layers, that of the head, the group of 4-bit scales.

The physics: decoding one token reads every weight once. Of Llama-3-8B those are 13.96 GB of layers and 1.05 GB of head
in 16 bit; with the layers in 4 bit (3.6 GB) a 16-bit head would be 23 % of all bytes. Hence the head is kept in 8 bit
beside quantized layers: per channel, it costs far less quality than 4 bit does, and half a gigabyte is saved a token.

A GPTQ or AWQ checkpoint brings the codes of its layers along (`from_checkpoint`); a layer that it keeps dense stays so.

    recipe_for("int4wo?group_size=64").quantize_layer(weight)       # -> Int4
"""

from dataclasses import dataclass, replace

from farm.errors import Unsupported, unknown
from farm.quantization import parse_quantization
from jobs.turbo.weights import Dense, Weight, quantize_int4, quantize_int8

GROUP = 128  # what GPTQ and AWQ checkpoints use
KINDS = ("dense", "int8", "int4")


@dataclass(frozen=True, slots=True)
class Recipe:
    """Kinds of weights: `dense` (as loaded), `int8` (a scale an output row), `int4` (a scale per `group` inputs).

    `from_checkpoint`: the layers come quantized, and none is rounded here.
    """

    layers: str = "dense"
    head: str = "dense"
    group: int = GROUP
    from_checkpoint: bool = False

    def __post_init__(self) -> None:
        for kind in (self.layers, self.head):
            if kind not in KINDS:
                raise Unsupported(unknown("kind of weights", kind, KINDS))

    def quantize_layer(self, weight: Weight) -> Weight:
        return weight if self.from_checkpoint else _quantized(weight, self.layers, self.group)

    def quantize_head(self, weight: Weight) -> Weight:
        return _quantized(weight, self.head, self.group)


RECIPES = {
    "fp32": Recipe(),
    "fp16": Recipe(),
    "bf16": Recipe(),
    "int8wo": Recipe("int8", "int8"),
    "int4wo": Recipe("int4", "int8"),
    "gptq": Recipe("int4", "int8", from_checkpoint=True),
    "awq": Recipe("int4", "int8", from_checkpoint=True),
}


def recipe_for(quantization: str) -> Recipe:
    """The recipe of what a sweep names. Raises Unsupported with the precisions that there are, and for a kernel."""
    wanted = parse_quantization(quantization)
    if wanted.name not in RECIPES:
        raise Unsupported(unknown("quantization", quantization, RECIPES, where="engine turbo"))
    if dict(wanted.options).get("kernel", "auto") != "auto":
        raise Unsupported(f"{wanted}: the turbo engine has kernels of its own; leave the kernel out")
    return replace(RECIPES[wanted.name], group=wanted.group_size or GROUP)


def _quantized(weight: Weight, kind: str, group: int) -> Weight:
    """What is not dense comes from a quantized checkpoint and stays as it is."""
    if not isinstance(weight, Dense) or kind == "dense":
        return weight
    if kind == "int8":
        return quantize_int8(weight.weight)
    return quantize_int4(weight.weight, group)
