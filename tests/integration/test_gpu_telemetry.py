"""On a real GPU: the driver's figures exist, are sane, agree with each other, and give a burning neighbour away.

Prints what it saw (`pytest -m gpu -s`): the counter's tick, watts, the evidence of contention.
"""

import itertools
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from farm.cells import PromptSet, SpeedTask
from farm.records import Telemetry, Trial
from jobs.device_limits import measure_limits
from jobs.energy import measure_energy
from jobs.nvml import Gpu, open_gpu
from jobs.stopwatch import CudaStopwatch
from jobs.telemetry import Sampler

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]
BURN = (
    "import torch; a = torch.randn(4096, 4096, device='cuda', dtype=torch.float16); torch.cuda.synchronize();"
    "print('burning', flush=True)\n"
    "while True:\n    [a @ a for _ in range(50)]; torch.cuda.synchronize()"
)


class Work:
    """A generation of plain kernels: one matrix product is a prefill, one copy a decode step."""

    def __init__(self) -> None:
        self._left, self._out = (torch.randn(4096, 4096, device="cuda", dtype=torch.bfloat16) for _ in range(2))
        self._bytes = torch.empty(1 << 28, device="cuda", dtype=torch.uint8)
        self._target = torch.empty_like(self._bytes)

    def prefill(self) -> None:
        for _ in range(20):
            torch.matmul(self._left, self._left, out=self._out)

    def first_token(self) -> None:
        pass

    def decode_step(self) -> None:
        for _ in range(20):
            self._target.copy_(self._bytes)


@pytest.fixture(scope="module")
def gpu() -> Gpu:
    found = open_gpu("cuda")
    assert found.gpu is not None, found.reason
    return found.gpu


@pytest.fixture
def neighbour() -> Iterator[None]:
    process = subprocess.Popen([sys.executable, "-c", BURN], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None and process.stdout.readline() == "burning\n"
        yield
    finally:
        process.kill()
        process.wait()


def test_the_driver_tells(gpu: Gpu) -> None:
    used = gpu.memory_used_bytes()
    assert 1e8 < (gpu.sm_clock_hz() or 0) < 4e9
    assert 5 < (gpu.power_w() or 0) < 1500
    assert 10 < (gpu.temperature_c() or 0) < 110
    assert gpu.clock_events() is not None and gpu.utilization() is not None and used is not None
    block = torch.ones(1 << 30, dtype=torch.uint8, device="cuda")
    assert (gpu.memory_used_bytes() or 0) - used >= 1 << 30, "another GPU than torch's"
    del block
    torch.cuda.empty_cache()
    print("\nprocesses listed:", gpu.compute_pids(), "own:", os.getpid())


def test_the_counter_grows(gpu: Gpu) -> None:
    readings, began = [], time.monotonic()
    while time.monotonic() - began < 1.0:
        readings.append((time.monotonic() - began, gpu.energy_j()))
        time.sleep(0.001)
    changes = [at for (_, one), (at, other) in itertools.pairwise(readings) if one != other]
    joules = (readings[-1][1] or 0) - (readings[0][1] or 0)
    print(f"\n{joules:.1f} J in 1 s, power {gpu.power_w()} W, {len(changes)} ticks")
    assert joules > 5 and len(changes) >= 5


def test_the_limits_are_sane_and_leave_nothing_behind() -> None:
    torch.cuda.synchronize()
    before, began = torch.cuda.memory_reserved(), time.monotonic()
    limits = measure_limits("cuda")
    print("\n", limits, f"{time.monotonic() - began:.2f} s")
    assert limits is not None and time.monotonic() - began < 3
    assert torch.cuda.memory_reserved() - before <= 64 << 20  # at most the matrix library's workspace
    assert 1e11 < limits.copy_bytes_per_s < 1e13 and 1e13 < limits.gemm_flops < 5e15
    if "H100 80GB HBM3" in torch.cuda.get_device_name():
        assert 2.5e12 < limits.copy_bytes_per_s < 3.4e12
        assert 4e14 < limits.gemm_flops < 1e15
        assert limits.l2_bytes == 50 << 20


def test_the_sampler_sees_work(gpu: Gpu) -> None:
    work, sampler = Work(), Sampler(open_gpu("cuda"))
    idle_w, began = gpu.power_w() or 0, time.monotonic()
    with sampler:
        while time.monotonic() - began < 1.0:
            work.prefill()
            torch.cuda.synchronize()
    told = sampler.telemetry()
    print("\n", told)
    assert 12 <= told.samples <= 21
    assert (told.sm_clock_median_hz or 0) > 3e8 and (told.power_median_w or 0) > idle_w
    assert (told.other_memory_growth_bytes or 0) < 256 << 20


def test_energy_by_counter_and_by_polling_agree(gpu: Gpu) -> None:
    work, task = Work(), SpeedTask("on", 1000, 1, 21, 0, 1, 0, PromptSet(("chat",), ("en",), 1))
    engine: Any = SimpleNamespace(stopwatch=CudaStopwatch())
    trial = Trial(0, (0,), ttft_s=0.004, prefill_s=0.004, decode_s=0.08, e2e_s=0.084, output_tokens=21)
    began = time.monotonic()
    energy = measure_energy(engine, lambda: work, task, [trial], open_gpu("cuda"))  # type: ignore[arg-type,return-value]
    print("\n", energy, f"{time.monotonic() - began:.2f} s")
    assert energy.j_per_prompt_token is not None and energy.j_per_generated_token is not None
    assert energy.polled_j_per_prompt_token == pytest.approx(energy.j_per_prompt_token, rel=0.15)
    assert energy.polled_j_per_generated_token == pytest.approx(energy.j_per_generated_token, rel=0.25)
    assert 0 < (energy.j_per_prompt_token_above_idle or 0) < energy.j_per_prompt_token


def _watched() -> Telemetry:
    sampler = Sampler(open_gpu("cuda"))
    torch.cuda.synchronize()
    with sampler:
        time.sleep(0.1)
    sampler.watch_idle()
    return sampler.telemetry()


def test_alone_the_gpu_is_idle_when_we_are() -> None:
    torch.ones(1, device="cuda")
    told = _watched()
    print("\nalone:", told)
    assert told.other_utilization is not None and told.other_utilization < 0.1
    assert told.other_processes in (0, None)


def test_a_burning_neighbour_is_seen(neighbour: None) -> None:
    torch.ones(1, device="cuda")
    told = _watched()
    print("\nwith a neighbour:", told)
    assert told.other_utilization is not None and told.other_utilization > 0.5
    assert told.other_processes in (1, None)
