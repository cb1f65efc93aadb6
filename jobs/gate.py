"""The sanity gate: looks at a loaded model before anything is timed. What counts as sane is in `farm.sanity`.

What it costs: two windows of up to 256 tokens, 4 or 16 greedy tokens, a few single layers, and once a model and machine
the reference's perplexity of the same window (kept in the cache folder: opening a 16-bit 8B model takes 5 s).

    sanity = look_at(engine, load)
"""

import hashlib
import json
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from farm.cells import Load
from farm.expand import demo_text
from farm.quantization import parse_quantization
from farm.sanity import Sanity
from jobs.agreement import why_no_room
from jobs.effective import is_linear
from jobs.engines.base import Engine, Reference
from jobs.engines.eager import token_nll_of
from jobs.failures import classify, poisons
from jobs.memory import free_bytes, release_unused
from jobs.models.cache import cache_root
from jobs.quantization import backend_for

WINDOW_TOKENS = 256
FEW_TOKENS = 4  # of random weights: only decoding is looked at
GREEDY_TOKENS = 16  # a 4-bit model of 135M parameters takes over a second a token on a CPU without AVX512-BF16
PROMPT = "The capital of France is"
TEXT_CHARS = 120
LAYER_ROWS = 4  # as many as a small batch: the kernel of decoding
_SEED = 7
_LARGEST_EXPONENT = 700.0  # e^700 is still a float


def look_at(engine: Engine, load: Load) -> Sanity:
    """All checks that mean something for this load. Raises what running the model raises."""
    layers = _layer_errors(engine, load)
    if not load.model.has_true_weights:
        return _look_at_random(engine, load, layers)
    tokens = tuple(engine.tokenizer.encode(demo_text()[: 8 * WINDOW_TOKENS]))[: WINDOW_TOKENS + 1]
    prompt = list(engine.tokenizer.encode(PROMPT))
    said = _greedy(engine, prompt, GREEDY_TOKENS)
    logits = engine.logits([tokens[:-1]])
    sanity = Sanity(
        logits_finite=bool(logits.isfinite().all()),
        perplexity=_perplexity(logits, tokens),
        vocabulary=engine.architecture.vocab if engine.architecture else None,
        text=str(engine.tokenizer.decode(said))[:TEXT_CHARS],
        distinct_tokens=len(set(said)),
        **layers.figures,
        **_decoding(engine, prompt, said),
        reasons=layers.reasons,
    )
    return _beside_reference(sanity, engine.reference, load, tokens)


def _perplexity(logits: Any, tokens: Sequence[int]) -> float | None:
    """From the logits after every token but the last. None where it is not finite: infinity is no figure."""
    (nll,) = token_nll_of(logits, [tokens])
    return math.exp(min(math.fsum(nll) / len(nll), _LARGEST_EXPONENT)) if all(map(math.isfinite, nll)) else None


def _look_at_random(engine: Engine, load: Load, layers: "_Layers") -> Sanity:
    window = [5 + position % 200 for position in range(WINDOW_TOKENS)]
    finite = bool(engine.logits([window]).isfinite().all())
    told = {"perplexity": "random weights say nothing", "text": "random weights say nothing"} | layers.reasons
    if load.engine == "compiled":
        reasons = told | {"decode_gap": "a shape of its own would be compiled for this look"}
        return Sanity(logits_finite=finite, **layers.figures, reasons=reasons)
    decoding = _decoding(engine, window, _greedy(engine, window, FEW_TOKENS))
    return Sanity(logits_finite=finite, **layers.figures, **decoding, reasons=told)


def _greedy(engine: Engine, prompt: Sequence[int], count: int) -> list[int]:
    generation = engine.begin([list(prompt)], "on", count)
    generation.prefill()
    generation.first_token()
    for _ in range(count - 1):
        generation.decode_step()
    (tokens,) = generation.tokens()
    return list(tokens)


def _decoding(engine: Engine, prompt: Sequence[int], said: Sequence[int]) -> dict[str, Any]:
    """Of a Sanity: are the tokens that decoding chose the best ones of a forward over all of them, or ties of these?"""
    logits = engine.logits([[*prompt, *said[:-1]]])[0, len(prompt) - 1 :].float()
    chosen = logits.gather(-1, torch.tensor(said, device=logits.device).unsqueeze(-1)).squeeze(-1)
    gap = float(((logits.amax(-1) - chosen) / logits.abs().amax(-1)).max())
    return {"decode_gap": gap if math.isfinite(gap) else 1.0, "decode_checked": len(said)}


@dataclass(frozen=True, slots=True)
class _Layers:
    """Keyword arguments of a Sanity, and why there are none."""

    figures: dict[str, Any] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)


def _layer_errors(engine: Engine, load: Load) -> _Layers:
    """Of every kind of layer in the first and the last block."""
    wanted = parse_quantization(load.quantization)
    model = getattr(getattr(engine, "eager", engine), "model", None)  # the compiled engine has the eager one's model
    if not wanted.precision.is_quantized:
        return _Layers(reasons={"layer_error": "the weights are not quantized"})
    if model is None:
        return _Layers(reasons={"layer_error": f"engine {load.engine} shows no layers"})
    backend = backend_for(wanted)
    dtype = backend.dtype(wanted, load.device)
    errors = [
        _layer_error(layer, weights, dtype)
        for layer in _sampled(model)
        if (weights := backend.dequantized(layer)) is not None
    ]
    if not errors:
        return _Layers(reasons={"layer_error": f"{wanted.name} cannot tell its de-quantized weights"})
    return _Layers({"layer_error": max(errors), "layers_checked": len(errors)})


def _sampled(model: Any) -> Iterator[Any]:
    layers = [(name, m) for name, m in model.named_modules() if is_linear(m) and m is not model.get_output_embeddings()]
    kinds: dict[str, list[Any]] = {}
    for name, layer in layers:
        kinds.setdefault(name.rsplit(".", 1)[-1], []).append(layer)
    for same in kinds.values():
        yield from dict.fromkeys((same[0], same[-1]))


def _layer_error(layer: Any, weights: torch.Tensor, dtype: torch.dtype) -> float:
    if not weights.any():
        return 1.0  # all zero: whatever the layer gives, there is nothing in it
    generator = torch.Generator().manual_seed(_SEED)
    x = torch.randn((LAYER_ROWS, weights.shape[1]), generator=generator).to(weights.device, dtype)
    with torch.inference_mode():
        found, expected = layer(x).float(), x.float() @ weights.float().T
        if getattr(layer, "bias", None) is not None:
            expected += layer.bias.float()
        error = float((found - expected).norm() / expected.norm())
    return error if math.isfinite(error) else 1.0  # NaN is larger than no bound, and no record can hold it


def _beside_reference(sanity: Sanity, reference: Reference | None, load: Load, tokens: Sequence[int]) -> Sanity:
    """The reference's own perplexity; without it the gate still has its other checks, and says why."""
    if reference is None or reference.open is None:
        reason = "this engine names no reference model" if reference is None else "this is the reference"
        return replace(sanity, reasons={**sanity.reasons, "reference_perplexity": reason})
    try:
        found = _reference_perplexity(reference, load, tokens)
    except Exception as error:
        if poisons(error):
            raise
        reason = classify(error)[1].message
        return replace(sanity, reasons={**sanity.reasons, "reference_perplexity": reason})
    if isinstance(found, str):
        return replace(sanity, reasons={**sanity.reasons, "reference_perplexity": found})
    return replace(sanity, reference_perplexity=found, reference=reference.name)


def _reference_perplexity(reference: Reference, load: Load, tokens: Sequence[int]) -> float | str:
    """The figure, or why there is none. Kept on this machine: equal weights on an equal device say it again."""
    kept = _kept_file(reference, load, tokens)
    if (known := _read(kept)) is not None:
        return known
    release_unused(reference.device)
    if (no_room := why_no_room(reference.needed_bytes, free_bytes(reference.device))) is not None:
        return no_room
    assert reference.open is not None
    found = _perplexity(reference.open().logits([tokens[:-1]]), tokens)
    release_unused(reference.device)
    if found is None:
        return f"{reference.name} itself has no finite perplexity here"
    _write(kept, found)
    return found


def _kept_file(reference: Reference, load: Load, tokens: Sequence[int]) -> Path:
    model = (load.model.source, load.model.name, load.model.revision or reference.revision)
    identity = [*model, reference.name, reference.device, version("torch"), version("transformers"), *tokens]
    digest = hashlib.sha256(json.dumps(identity).encode()).hexdigest()
    return cache_root() / "references" / f"{digest[:24]}.json"


def _read(file: Path) -> float | None:
    try:
        return float(json.loads(file.read_text(encoding="utf-8"))["perplexity"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write(file: Path, perplexity: float) -> None:
    """Aside first: two workers may write the same figure at once."""
    file.parent.mkdir(parents=True, exist_ok=True)
    aside = file.with_suffix(f".{os.getpid()}")
    aside.write_text(json.dumps({"perplexity": perplexity}), encoding="utf-8")
    aside.replace(file)
