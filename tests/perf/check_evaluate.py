"""The perplexity of the package `evaluate` beside ours, of any model and precision: a cross-check, run by hand.

    pip install evaluate
    python tests/perf/check_evaluate.py --model hf:HuggingFaceTB/SmolLM2-135M --quantization int8

The metric's script comes from the hub; without one, `--metric FILE` names a local copy, or this says so and ends with
status 2. The metric scores each text alone, BOS in front, so ours is a rolling window that is longer than the text.
Plain weights agree to 1e-3 (seen: 1.4e-4); `int8` need not (seen: 6e-3): LLM.int8() looks for outliers in all rows of a
product, and the metric feeds one token more.
"""

import argparse
import math
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from farm.cells import Load
from farm.errors import FarmError
from farm.expand import demo_text
from farm.model_ref import parse_model
from jobs.evaluate_adapter import METRIC, perplexities
from jobs.quality import nll_sum
from jobs.windows import rolling_windows

LIMIT = 0.001
TEXTS = 3
MAX_TOKENS = 512


def main() -> int:
    from jobs.loading import load_engine

    arguments = _arguments()
    texts = [text for text in demo_text().split("\n\n") if len(text) > 200][:TEXTS]
    load = Load(parse_model(arguments.model), arguments.quantization, "eager", arguments.device)
    try:
        engine: Any = load_engine(load, None, seed=0)
        theirs = perplexities(engine, texts, MAX_TOKENS, arguments.metric)
    except FarmError as error:
        print(error)
        return 2
    return compare(ours(engine, texts), theirs)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="hf:HuggingFaceTB/SmolLM2-135M", help="as in a sweep")
    parser.add_argument("--quantization", default="fp32", help="as in a sweep")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--metric", default=METRIC, help="the metric's name on the hub, or a local copy of its script")
    return parser.parse_args()


def ours(engine: Any, texts: list[str]) -> list[float]:
    prefix = engine.tokenizer.bos_token_id
    encoded = [engine.tokenizer.encode(text, add_special_tokens=False) for text in texts]
    return [math.exp(nll_sum(engine, rolling_windows(ids, prefix, MAX_TOKENS)) / len(ids)) for ids in encoded]


def compare(mine: list[float], theirs: list[float]) -> int:
    """Print a line a text; 1 when one differs by more than the limit."""
    differences = [abs(one - two) / two for one, two in zip(mine, theirs, strict=True)]
    for one, two, difference in zip(mine, theirs, differences, strict=True):
        print(f"ours {one:12.6f}   evaluate {two:12.6f}   difference {difference:.1e}")
    return int(max(differences) > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
