"""The perplexity of the package `evaluate` beside ours: an optional cross-check, run by hand.

    pip install evaluate
    python tests/perf/check_evaluate.py --model HuggingFaceTB/SmolLM2-135M

It needs the hub: `evaluate.load("perplexity")` downloads the metric's script, and the metric loads the model by its hub
name only. Where there is no hub, it says so and ends with status 2; the proof that works offline is
`scripts/check_lm_eval.py`. The metric scores each text alone, BOS in front, and averages the perplexities of the
texts, so one text at a time is compared: ours is a rolling window that is longer than the text.
"""

import argparse
import math
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from farm.cells import Load
from farm.expand import demo_text
from farm.model_ref import parse_model
from jobs.quality import nll_sum
from jobs.windows import rolling_windows

LIMIT = 0.001
TEXTS = 3
MAX_LENGTH = 512


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="HuggingFaceTB/SmolLM2-135M", help="name on the hub")
    model = parser.parse_args().model
    texts = [text for text in demo_text().split("\n\n") if len(text) > 200][:TEXTS]
    metric = load_metric()
    if metric is None:
        return 2
    theirs = metric.compute(predictions=texts, model_id=model, batch_size=1, max_length=MAX_LENGTH, device="cpu")
    return compare(ours(model, texts), theirs["perplexities"])


def load_metric() -> Any:
    """The metric, or None after saying why there is none."""
    try:
        import evaluate

        return evaluate.load("perplexity", module_type="metric")
    except Exception as error:  # each layer of its download raises kinds of its own: all mean "not here"
        print(f"evaluate's perplexity cannot be loaded ({type(error).__name__}: {error}); it needs the hub")
        return None


def ours(model: str, texts: list[str]) -> list[float]:
    from jobs.loading import load_engine

    engine = load_engine(Load(parse_model(f"hf:{model}"), "fp32", "eager", "cpu"), None, seed=0)
    tokenizer: Any = engine.tokenizer
    prefix = tokenizer.bos_token_id
    encoded = [engine.tokenizer.encode(text, add_special_tokens=False) for text in texts]
    return [math.exp(nll_sum(engine, rolling_windows(ids, prefix, MAX_LENGTH)) / len(ids)) for ids in encoded]


def compare(mine: list[float], theirs: list[float]) -> int:
    """Print a line a text; 1 when one differs by more than the limit."""
    differences = [abs(one - two) / two for one, two in zip(mine, theirs, strict=True)]
    for one, two, difference in zip(mine, theirs, differences, strict=True):
        print(f"ours {one:12.6f}   evaluate {two:12.6f}   difference {difference:.1e}")
    return int(max(differences) > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
