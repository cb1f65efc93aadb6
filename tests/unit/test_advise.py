"""`farm advise`: the fastest configuration within the limits, and why the others are out, from the rows alone."""

from pathlib import Path

import pytest

from farm.cli import main
from farm.keys import cell_key
from farm.present.advise import Advice, Limits, advice
from farm.reduce import cell_rows
from farm.store import Manifest, RunFolder
from tests.unit import record_builder as build
from tests.unit.records import record
from tests.unit.sweeps import cells, sweep

RECORDS = build.sweep()


def texts(given: Advice) -> list[str]:
    return [sentence.text for sentence in given.sentences]


def test_without_limits_the_fastest_is_chosen_and_the_next_is_named() -> None:
    given = advice(cell_rows(RECORDS), Limits(), "en")
    assert given.has_choice
    assert texts(given) == [
        "Choose FP16: 29.7 tokens/s in 17.2 GB, the baseline's perplexity, at 2,048 tokens and batch 1. It is the "
        "fastest of 4 configurations within the limits, of 4 measured.",
        "The next one is BF16: 29.0 tokens/s in 17.2 GB, perplexity +0.05 %.",
    ]


def test_memory_and_quality_put_rows_out_with_the_reason() -> None:
    """NF4's perplexity is exp(1.8720 - 1.8130) - 1 = 6.08 % worse; 16 bit needs 17.2 GB."""
    given = advice(cell_rows(RECORDS), Limits(max_ppl_loss=5, max_vram_gb=12), "en")
    assert texts(given)[0].startswith("Choose INT8: 10.4 tokens/s in 10.2 GB, perplexity +0.80 %")
    assert texts(given)[1:] == [
        "FP16 is out: it needs 17.2 GB, the limit is 12.",
        "BF16 is out: it needs 17.2 GB, the limit is 12.",
        "NF4 is out: it loses 6.08 % of perplexity, the limit is 5 %.",
    ]


def test_nothing_fits() -> None:
    given = advice(cell_rows(RECORDS), Limits(max_ppl_loss=1, max_vram_gb=8), "en")
    assert not given.has_choice
    assert texts(given)[0] == "Nothing that was measured at 2,048 tokens and batch 1 is within the limits."
    assert len(texts(given)) == 5


def test_an_unmeasured_loss_is_not_within_a_limit_on_it() -> None:
    speed_only = [one for one in RECORDS if one.speed]
    given = advice(cell_rows(speed_only), Limits(max_ppl_loss=5), "en")
    assert "NF4 is out: its loss of perplexity was not measured." in texts(given)
    assert texts(given)[0].startswith("Choose FP16")  # the baseline loses nothing against itself


def test_random_weights_have_no_quality_to_lose() -> None:
    given = advice(cell_rows(build.sweep(build.RANDOM)), Limits(max_ppl_loss=5), "en")
    assert "fastest of 4 configurations" in texts(given)[0]


def test_the_task_can_be_named() -> None:
    given = advice(cell_rows(RECORDS), Limits(context=128), "en")
    assert "at 128 tokens and batch 1" in texts(given)[0]
    nothing = advice(cell_rows(RECORDS), Limits(batch=64), "en")
    assert not nothing.has_choice


def test_several_models_are_told_apart_in_spanish_too() -> None:
    given = advice(cell_rows([*RECORDS, *build.sweep(build.MISTRAL)]), Limits(max_vram_gb=12), "es")
    leads = [sentence.text for sentence in given.sentences if sentence.is_lead]
    assert len(leads) == 2
    assert all("elija NF4" in lead for lead in leads)
    assert "Meta-Llama-3-8B-Instruct, NVIDIA H100 80GB HBM3: " in leads[0]
    assert "BF16 queda fuera: necesita 17.2 GB y el límite es 12." in texts(given)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, found = RunFolder(tmp_path), cells()
    folder.pin(Manifest(sweep(), "cpu", tuple(cell_key(cell) for cell in found)))
    for cell in found:
        folder.write(record(cell))
    with pytest.raises(SystemExit) as left:
        main(["advise", str(tmp_path), "--max-vram-gb", "1"])
    assert left.value.code == 1
    assert "so it cannot say" in capsys.readouterr().out  # these bare records hold no memory figures


def test_a_length_that_was_not_measured_is_answered_with_those_that_were() -> None:
    given = advice(cell_rows(RECORDS), Limits(context=77), "en")
    assert not given.has_choice
    assert "there are prompts of 128, 256, 512, 1,024, 2,048 tokens and batches of 1" in texts(given)[0]
