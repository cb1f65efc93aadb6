"""The comparison of the persistent step's variants: what it does is the same on a CPU, only the times are made up."""

from functools import cache
from pathlib import Path

import pytest
import torch

from farm.architectures import Architecture
from jobs.models.random_weights import build_random
from jobs.turbo.decoder import TurboDecoder
from jobs.turbo.persistent import Build
from jobs.turbo.persistent.step import Kernel
from tests.emulation import emulated_kernel
from tests.perf import turbo_variants
from tests.perf.turbo_outcomes import Answer, Outcome, lines, options_of, take_turns
from tests.perf.turbo_variants import VARIANTS, Bench, arguments
from tests.unit.test_persistent_step import NEEDS_COMPILER

SMALL = Architecture(2, 128, 256, 4, 2, 64, 272, 512, False, 10000.0, 1e-5)


def test_names_stand_for_options() -> None:
    assert options_of("base") == {}
    assert options_of("ahead96+warps16") == {"ahead_kib": 96, "warps": 16}
    assert len({tuple(sorted(options_of(name).items())) for name in VARIANTS}) == len(VARIANTS)
    for wrong in ("", "ahead96+", "ahead", "fast2", "ahead-1"):
        with pytest.raises(ValueError, match="no variant"):
            options_of(wrong)


def test_bad_arguments_end_with_a_sentence(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert arguments(["--out", str(tmp_path)]).variants == list(VARIANTS)
    with pytest.raises(SystemExit) as ended:
        arguments(["--out", str(tmp_path), "--variants", "base", "quick"])
    assert ended.value.code == 2
    assert "'quick' is no variant: base, or" in capsys.readouterr().err


def test_differences_by_hand() -> None:
    plain = Answer((torch.tensor([2.0, -4.0]), torch.tensor([1.0])), (5, 6, 7))
    other = Answer((torch.tensor([2.5, -4.0]), torch.tensor([1.0])), (5, 9, 7))
    assert other.difference(plain) == 0.125
    assert (plain.same_tokens(plain), other.same_tokens(plain)) == (3, 1)
    broken = Outcome("broken")
    broken.compare(Answer((plain.values[0], torch.tensor([float("nan")])), plain.tokens), plain, 0.2)
    assert "answers otherwise" in str(broken.error)
    near = Outcome("near")
    near.compare(other, plain, 0.2)
    assert near.error is None


def test_all_take_turns_and_ratios_are_of_the_same_round() -> None:
    order: list[str] = []
    outcomes = [Outcome("base"), Outcome("broken", error="it does not compile"), Outcome("twice")]
    times = {"base": iter([1.0, 2.0, 4.0]), "twice": iter([2.0, 4.0, 8.0])}
    runs = {name: lambda name=name: (order.append(name), next(times[name]))[1] for name in times}
    take_turns(outcomes, runs, rounds=3)
    assert order == ["base", "twice", "twice", "base", "base", "twice"]
    told = lines("int4wo, a step", outcomes).splitlines()
    assert "failed: it does not compile" in told[2]
    assert told[3].split()[:4] == ["twice", "4000000.0", "0.2", "2.000"]
    assert told[3].endswith("[2.000, 2.000]")


@NEEDS_COMPILER
def test_one_that_fails_is_told_and_the_others_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turbo_variants, "TOKENS", 3)
    monkeypatch.setattr(turbo_variants, "device_s", lambda work, times: 1.0)

    @cache
    def compile_kernel(build: Build) -> Kernel:
        if build.ahead_kib == 64:
            raise RuntimeError("no such option")
        if build.ahead_kib == 96:
            return lambda table: None
        folder = tmp_path / str(build.ahead_kib)
        folder.mkdir()
        return emulated_kernel(build, folder)

    decoder = TurboDecoder(build_random(SMALL, torch.float16, "cpu", seed=1))
    bench = Bench(decoder, 5, 5, slice_bytes=512, warps=2, shared_bytes=200_000)
    names = ["base", "ahead64", "ahead96", "ahead0"]
    base, fails, idle, without = bench.outcomes(names, 2, compile_kernel)
    assert fails.error == "RuntimeError: no such option"
    assert "answers otherwise" in str(idle.error)
    assert [each.seconds for each in (base, fails, idle, without)] == [[1.0, 1.0], [], [], [1.0, 1.0]]
    assert (without.difference, without.same_tokens) == (0.0, 3)
    assert bench.prompt_s(3) == [1.0, 1.0, 1.0]
