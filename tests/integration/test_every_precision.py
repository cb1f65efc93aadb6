"""Every precision that runs on any machine, in one sweep: loaded, past the gate, measured, and named as what it is."""

from pathlib import Path

import pytest

from cluster.inline import InlinePool
from cluster.run import run_sweep
from farm.architectures import KNOWN, Architecture
from farm.records import Record
from farm.store import RunFolder
from tests.unit.sweeps import sweep

TINY = Architecture(2, 128, 256, 4, 2, 32, 512, 512, True, 10000.0, 1e-5)
LINEARS = 7 * TINY.layers
LAYER = {
    "fp32": "Linear",
    "fp16": "Linear",
    "bf16": "Linear",
    "int8": "Linear8bitLt",
    "int8wo": "Linear[Int8Tensor]",
    "nf4": "Linear4bit",
    "nf4?double_quant=on": "Linear4bit",
    "fp4": "Linear4bit",
    "gptq?group_size=64": "TorchAtenLinear",
    "awq?group_size=64": "TorchAtenAwqLinear",
    "hqq": "HQQLinear",
}


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Record]:
    out: Path = tmp_path_factory.mktemp("run")
    once = {"warmups": 0, "runs": 1, "max_runs": 1, "max_reruns": 0, "cache_modes": ["on"], "engines": ["eager"]}
    everything = sweep(models=["random:smollm2-135m"], quantizations=list(LAYER), **once)
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(KNOWN, "smollm2-135m", TINY)  # its shape, less its size
        patched.setattr("jobs.group._device_limits", lambda load: None)  # half a second a group, and beside the point
        run_sweep(everything, RunFolder(out), InlinePool("cpu"))
        return {record.cell.load.quantization: record for record in RunFolder(out).results()}


@pytest.mark.parametrize("name", LAYER)
def test_a_precision_is_measured_and_is_what_its_row_says(records: dict[str, Record], name: str) -> None:
    record = records[name]
    assert record.status.value == "ok", record.failure
    assert record.speed is not None and record.sanity is not None
    effective = record.speed.effective
    head = {"Linear": 1} if LAYER[name] != "Linear" else {"Linear": 1 + LINEARS}
    assert effective.linear_classes == {LAYER[name]: LINEARS} | head
    assert effective.mismatches == ()
    assert record.sanity.logits_finite


@pytest.mark.parametrize("name", [name for name in LAYER if LAYER[name] != "Linear"])
def test_a_quantized_layer_multiplies_with_the_weights_it_holds_and_they_are_fewer_bytes(
    records: dict[str, Record], name: str
) -> None:
    record, dense = records[name], records["bf16"]
    assert record.sanity is not None and record.sanity.layers_checked == 14
    assert record.sanity.layer_error is not None and record.sanity.layer_error < 0.03
    bits = 8 if name.startswith("int8") else 4
    assert record.speed.effective.quantization["bits"] == str(bits)
    assert _linear_bytes(record) < (bits + 1) / 16 * _linear_bytes(dense)  # scales and zero points are below a bit


def _linear_bytes(record: Record) -> float:
    """All weights less what stays dense, at its width."""
    width = 4 if "float32" in record.speed.effective.compute_dtype else 2
    return record.speed.memory.weights_bytes - width * TINY.other_parameters
