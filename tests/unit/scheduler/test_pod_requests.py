"""What a pod asks for, port clashes, and columns that follow every pod exactly."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bamikube.api.predicates.fits import nonzero_requests, requests
from bamikube.api.predicates.ports import clash
from bamikube.scheduler.columns import Columns
from bamikube.scheduler.model import pod_info


def c(cpu: str, **more: str) -> dict[str, object]:
    return {"resources": {"requests": {"cpu": cpu}}} | more


def test_init_containers_count_with_the_sidecars_started_before_them() -> None:
    spec = {"initContainers": [c("1", restartPolicy="Always"), c("3")], "containers": [c("2")]}
    assert requests({"spec": spec}) == {"cpu": 4000}
    assert requests({"spec": spec | {"overhead": {"cpu": "50m"}}}) == {"cpu": 4050}
    assert requests({"spec": spec | {"resources": {"requests": {"cpu": "7"}}}}) == {"cpu": 7000}


def test_nothing_asked_counts_a_little_when_scoring() -> None:
    assert requests({"spec": {"containers": [{}]}}) == {}
    assert nonzero_requests({"spec": {"containers": [{}]}}) == (100, 200 * 1024 * 1024)


def test_ports_clash_by_protocol_number_and_overlapping_address() -> None:
    assert clash([("0.0.0.0", "TCP", 80)], [("10.0.0.1", "TCP", 80)])
    assert not clash([("10.0.0.2", "TCP", 80)], [("10.0.0.1", "TCP", 80)])
    assert not clash([("0.0.0.0", "UDP", 80)], [("0.0.0.0", "TCP", 80)])


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 99)), max_size=40))
def test_columns_are_empty_again_when_all_pods_are_gone(moves: list[tuple[int, int]]) -> None:
    columns = Columns(size=1)
    for name, node in moves:
        pod = pod_info(
            {
                "metadata": {"name": f"p{name}", "namespace": "d"},
                "spec": {"nodeName": f"n{node}", "containers": [c("1")]},
            }
        )
        assert pod is not None
        columns.place(pod)
    assert columns.used[3].sum() == len({name for name, _ in moves})
    for name in range(6):
        columns.remove(f"d/p{name}")
    assert not columns.used.any() and not columns.rows and not columns.owned
