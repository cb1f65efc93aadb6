"""Is the loaded model still a language model? The gate before any speed is believed.

Why: a checkpoint can load without an error and be garbage: zeroed embeddings gave a perplexity equal to the vocabulary
size, a badly calibrated one answered every prompt in one repeated phrase. Such a model is fast, and that says nothing.

    problems(Sanity(perplexity=49152.0, reference_perplexity=11.7), max_ppl_ratio=2.0)

Five checks, each where it means something: the perplexity of a short text against that of the reference precision, or
against blind guessing where there is no reference; greedy text that does not collapse into one or two tokens; sampled
linear layers against the product with their own de-quantized weights (a wrong kernel, also with random weights);
and what decoding chose against one forward over the same tokens, whose kernels are others.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

MAX_PPL_RATIO = 2.0  # NF4 of a 135M model is at 1.2, a bad but honest 4-bit calibration was at 1.7
GUESSING_SHARE = 0.5  # of the vocabulary: a uniform guess has a perplexity of all of it
LEAST_DISTINCT = 3  # of 16 greedy tokens; small models repeat sentences, broken ones repeat a token
# LLM.int8() also quantizes what goes in, to 8 bit: 1-2 %. A wrong scale, order or zero point is an error near 100 %.
MAX_LAYER_ERROR = 0.10
MAX_DECODE_GAP = 0.25  # rounding turns ties only, 1-3 % in 8 and 4 bit; a token of another model is 100 % off


@dataclass(frozen=True, slots=True)
class Sanity:
    """What the gate saw; part of a record. A check that was not made is None, with the reason in `reasons`.

    `layer_error` is the largest ||layer(x) - x W^T|| / ||x W^T|| over `layers_checked` layers, W their own de-quantized
    weights. `decode_gap` is the largest (best logit - that of the token that decoding chose) / |largest logit| in one
    forward over `decode_checked` greedy tokens. `text` is the beginning of what the model says, for people.
    """

    logits_finite: bool | None = None
    perplexity: float | None = None
    reference_perplexity: float | None = None
    reference: str | None = None
    vocabulary: int | None = None
    text: str | None = None
    distinct_tokens: int | None = None
    layer_error: float | None = None
    layers_checked: int = 0
    decode_gap: float | None = None
    decode_checked: int = 0
    reasons: dict[str, str] = field(default_factory=dict)

    @property
    def ppl_ratio(self) -> float | None:
        if self.perplexity is None or self.reference_perplexity is None:
            return None
        return self.perplexity / self.reference_perplexity


def problems(sanity: Sanity, max_ppl_ratio: float = MAX_PPL_RATIO) -> tuple[str, ...]:
    """What is wrong, in words; empty for a model that may be measured."""
    return tuple(_problems(sanity, max_ppl_ratio))


def _problems(sanity: Sanity, max_ppl_ratio: float) -> Iterator[str]:
    if sanity.logits_finite is False:
        yield "its logits are not finite"
    if sanity.ppl_ratio is not None and sanity.ppl_ratio > max_ppl_ratio:
        yield (
            f"its perplexity is {sanity.perplexity:.4g} where {sanity.reference} has {sanity.reference_perplexity:.4g} "
            f"({sanity.ppl_ratio:.3g} times; max_ppl_ratio is {max_ppl_ratio:g})"
        )
    if sanity.ppl_ratio is None and _is_guessing(sanity):
        yield f"its perplexity is {sanity.perplexity:.4g}, that of guessing among {sanity.vocabulary} tokens"
    if sanity.distinct_tokens is not None and sanity.distinct_tokens < LEAST_DISTINCT:
        yield f"its greedy text has {sanity.distinct_tokens} different token(s): {sanity.text!r}"
    if sanity.layer_error is not None and sanity.layer_error > MAX_LAYER_ERROR:
        yield f"a linear layer is {sanity.layer_error:.0%} off the product with its own de-quantized weights"
    if sanity.decode_gap is not None and sanity.decode_gap > MAX_DECODE_GAP:
        yield (
            f"its decoding chose tokens whose logits are {sanity.decode_gap:.0%} below the best ones of a forward over "
            f"the same {sanity.decode_checked} tokens"
        )


def _is_guessing(sanity: Sanity) -> bool:
    """Asked only where there is no reference to compare with."""
    if sanity.perplexity is None or sanity.vocabulary is None:
        return False
    return sanity.perplexity > GUESSING_SHARE * sanity.vocabulary


def in_one_sentence(found: Sequence[str]) -> str:
    """For the row's reason."""
    return (
        f"failed the sanity gate, not measured: {'; '.join(found)}; prepare the checkpoint again or use another "
        "precision, or raise max_ppl_ratio if such a loss is meant"
    )
