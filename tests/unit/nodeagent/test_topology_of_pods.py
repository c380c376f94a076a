"""The topology manager: which NUMA nodes a container has everything of, and who is refused."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bamikube.nodeagent.cpus.choice import Processor
from bamikube.nodeagent.cpus.policy import PolicyOptions
from bamikube.nodeagent.cpus.pool import CpuPool
from bamikube.nodeagent.devices import near
from bamikube.nodeagent.devices.book import Book, Choice, Device, Given
from bamikube.nodeagent.numa import figures, topology
from bamikube.nodeagent.numa.hints import Hint, Nodes, sets
from bamikube.nodeagent.numa.managers import Managers
from bamikube.nodeagent.numa.memory import MemoryBook
from bamikube.nodeagent.numa.nodes import NumaNode, NumaNodes
from bamikube.nodeagent.numa.topology import Topology

JSON = dict[str, Any]
GIB = 2**30
NIC, GPU = "example.com/nic", "example.com/gpu"
REFUSED = ("TopologyAffinityError", "Resources cannot be allocated with Topology locality")


def machine(count: int) -> tuple[Processor, ...]:
    """Nodes of four processors; two nodes a socket."""
    return tuple(Processor(n, n, n // 8, n // 4) for n in range(4 * count))


def numa(count: int) -> NumaNodes:
    """In a ring, so that 0 is nearer to 1 and the last than to the others."""

    def far(a: int, b: int) -> int:
        return 10 + 10 * min((a - b) % count, (b - a) % count)

    return tuple(
        NumaNode(n, 4 * GIB, (), tuple((other, far(n, other)) for other in range(count)))
        for n in range(count)
    )


def pod(uid: str, *asked: JSON, init: tuple[JSON, ...] = ()) -> JSON:
    def container(name: str, more: JSON) -> JSON:
        amounts = {"cpu": "1", "memory": "1Gi"} | more
        return {"name": name, "resources": {"limits": amounts, "requests": amounts}}

    return {
        "metadata": {"name": uid, "uid": uid},
        "spec": {
            "containers": [container(f"c{n}", one) for n, one in enumerate(asked)],
            "initContainers": [container(f"i{n}", one) for n, one in enumerate(init)],
        },
    }


def book(**where: int) -> Book:
    """Devices and their nodes; a negative node for one that is nowhere."""
    return Book({NIC: {name: Device(True, (node,) if node >= 0 else ()) for name, node in where.items()}})


def managers(
    folder: Path,
    policy: str = "single-numa-node",
    scope: str = "container",
    devices: Book | None = None,
    count: int = 2,
    **options: bool,
) -> Managers:
    found = Managers(
        CpuPool(machine(count), frozenset({0}), PolicyOptions(**options), folder / "cpus"),
        MemoryBook(numa(count), {0: {"memory": GIB}}, folder / "memory"),
        topology.topology(policy, scope, {}, lambda: numa(count)),
    )
    made = devices or Book()
    found.devices = lambda pod, spec, nodes: near.hints(made, pod, spec, nodes)
    return found


def has(made: Managers, uid: str, name: str = "c0") -> tuple[str, str, Nodes | None]:
    place = made.place(uid, name)
    return place.cpus, place.memories, made.near(uid, name)


def test_everything_of_one_node(tmp_path: Path) -> None:
    made = managers(tmp_path, devices=book(a=1, b=1))
    assert made.admit(pod("p", {"cpu": "2", NIC: "1"}), []) is None
    assert has(made, "p") == ("4-5", "1", {1})
    assert made.admit(pod("q", {"cpu": "3"}), [pod("p")]) is None
    assert has(made, "q") == ("1-3", "0", {0})
    assert made.admit(pod("r", {"cpu": "3"}), [pod("p"), pod("q")]) == REFUSED
    assert "r" not in made.cpus.assigned and "r" not in made.memory.given  # type: ignore[union-attr]
    assert made.near("r", "c0") is None


def test_who_asks_for_nothing_of_a_node_may_be_anywhere(tmp_path: Path) -> None:
    made = managers(tmp_path)
    loose = pod("p", {})
    loose["spec"]["containers"][0]["resources"]["requests"] = {"cpu": "100m"}
    assert made.admit(loose, []) is None
    assert (made.near("p", "c0"), made.place("p", "c0").memories) == (None, "")


@pytest.mark.parametrize(
    ("policy", "asked", "taken"),
    [
        ("best-effort", {"cpu": "5"}, True),  # more than a node has
        ("restricted", {"cpu": "5"}, False),  # processors of two nodes, memory of one
        ("single-numa-node", {"cpu": "5"}, False),
        ("best-effort", {"cpu": "2", NIC: "2"}, True),  # a device on each node
        ("restricted", {"cpu": "2", NIC: "2"}, False),  # processors of one node, devices of two
        ("single-numa-node", {"cpu": "2", NIC: "2"}, False),
        ("restricted", {"cpu": "5", "memory": "5Gi", NIC: "2"}, True),  # all of both
    ],
)
def test_what_a_policy_takes(tmp_path: Path, policy: str, asked: JSON, taken: bool) -> None:
    made = managers(tmp_path, policy, devices=book(a=0, b=1))
    assert made.admit(pod("p", asked), []) == (None if taken else REFUSED)


def test_each_container_or_all_of_a_pod(tmp_path: Path) -> None:
    halves = pod("p", {"cpu": "2"}, {"cpu": "3"})
    made = managers(tmp_path / "a")
    assert made.admit(halves, []) is None
    assert has(made, "p", "c0")[2] == {0} and has(made, "p", "c1")[2] == {1}
    made = managers(tmp_path / "b", scope="pod")
    assert made.admit(halves, []) == REFUSED
    assert made.admit(pod("p", {"cpu": "2"}, {"cpu": "2"}, init=({"cpu": "4"},)), []) is None
    for name, cpus in (("i0", "4-7"), ("c0", "4-5"), ("c1", "6-7")):
        assert has(made, "p", name) == (cpus, "1", {1})


def test_a_pod_that_is_judged_again_keeps_what_it_has(tmp_path: Path) -> None:
    made = managers(tmp_path)
    made.admit(pod("p", {"cpu": "2"}), [])
    first = has(made, "p")
    assert made.admit(pod("p", {"cpu": "2"}), []) is None and has(made, "p") == first
    made = managers(tmp_path, scope="pod")
    made.admit(pod("q", {"cpu": "2"}), [])
    first = has(made, "q")
    assert made.admit(pod("q", {"cpu": "2"}), []) is None and has(made, "q") == first


def test_figures_of_admissions(tmp_path: Path) -> None:
    counters = (
        figures.ADMISSIONS.of(),
        figures.ADMISSION_ERRORS.of(),
        figures.ALIGNED.of("container", "numa_node"),
    )
    before = [one.value for one in counters]
    made = managers(tmp_path)
    made.admit(pod("p", {"cpu": "2"}), [])
    made.admit(pod("q", {"cpu": "5"}), [])
    assert [one.value - was for one, was in zip(counters, before, strict=True)] == [2, 1, 1]


def test_nodes_that_are_close_together(tmp_path: Path) -> None:
    ways = [{"x": [Hint(frozenset(some), True) for some in ((0, 2), (0, 3), (1, 3))]}]
    assert Topology("restricted", numa(4)).decide(ways) == (Hint(frozenset({0, 2}), True), True)
    close = topology.topology("restricted", "container", {topology.CLOSEST: "true"}, lambda: numa(4))
    assert close is not None and close.decide(ways) == (Hint(frozenset({0, 3}), True), True)


@pytest.mark.parametrize(
    ("ways", "best"),
    [
        ([], Hint(frozenset({0, 1, 2, 3}), True)),
        ([{}], Hint(frozenset({0, 1, 2, 3}), True)),
        ([{"x": []}], Hint(frozenset({0, 1, 2, 3}), False)),
        ([{"x": None, "y": [Hint(frozenset({2}), True)]}], Hint(frozenset({2}), True)),
        # Not preferred: as wide as the resource that needs most nodes, then the wider up to there, then the narrower.
        (
            [{"x": [Hint(frozenset(s), False) for s in ((0,), (1, 2), (0, 1, 2))]}],
            Hint(frozenset({0}), False),
        ),
        (
            [
                {"x": [Hint(frozenset({0, 1}), True), Hint(frozenset({0, 1, 2}), False)]},
                {"y": [Hint(frozenset({0}), True), Hint(frozenset({0, 1, 3}), False)]},
            ],
            Hint(frozenset({0, 1}), False),
        ),
        (
            [
                {"x": [Hint(frozenset({0, 1, 2}), False)]},
                {"y": [Hint(frozenset({0}), True), Hint(frozenset({0, 1}), False)]},
            ],
            Hint(frozenset({0, 1}), False),
        ),
        (
            [{"x": [Hint(frozenset({0}), True)]}, {"y": [Hint(frozenset({1}), True)]}],
            Hint(frozenset({0, 1, 2, 3}), False),
        ),
    ],
)
def test_the_best_of_all_hints(ways: Any, best: Hint) -> None:
    assert Topology("best-effort", numa(4)).decide(ways) == (best, True)


NODES = st.integers(1, 4)


@st.composite
def ways(draw: st.DrawFn) -> tuple[int, list[dict[str, list[Hint] | None]]]:
    count = draw(NODES)
    hint = st.builds(Hint, st.one_of(st.none(), st.sampled_from(list(sets(range(count))))), st.booleans())
    lists = st.one_of(st.none(), st.lists(hint, max_size=3))
    return count, draw(st.lists(st.dictionaries(st.sampled_from("xy"), lists, max_size=2), max_size=3))


@settings(max_examples=100)
@given(ways(), st.sampled_from(["best-effort", "restricted", "single-numa-node"]), st.booleans())
def test_decisions_against_trying_all_ways(given_: Any, policy: str, closest: bool) -> None:
    """What is folded equals what comes of every combination, one by one, judged by the rules."""
    count, hints = given_
    made = Topology(policy, numa(count), closest=closest)
    lists: list[list[Hint]] = []
    for each in hints:
        for one in each.values() or [None]:
            lists.append([Hint(None, True)] if one is None else one or [Hint(None, False)])
    if policy == "single-numa-node":
        lists = [[h for h in one if h.preferred and (h.nodes is None or len(h.nodes) == 1)] for one in lists]
    mins = [
        min(len(h.nodes) for h in one if h.nodes is not None) for one in lists if any(h.nodes for h in one)
    ]
    widest = max(mins, default=0)

    def rank(one: Hint) -> Any:
        nodes = one.nodes or Nodes()
        width, far = len(nodes), 0.0
        if closest:
            far = sum(made.nodes[a].distance(b) for a in nodes for b in nodes) / width**2
        group = 0 if width == widest else 1 if width < widest else 2
        order = (0, width) if one.preferred else (group, -width if group == 1 else width)
        return (not one.preferred, *order, far, sum(1 << n for n in nodes))

    merged = []
    for each in product(*lists):
        named = [h.nodes for h in each if h.nodes is not None]
        nodes = made.everywhere.intersection(*named)
        if nodes:
            merged.append(Hint(nodes, all(h.preferred for h in each) and len(set(named)) <= 1))
    best = min(merged, key=rank, default=Hint(made.everywhere, False))
    hint, taken = made.decide(hints)
    if policy == "single-numa-node" and best.nodes == made.everywhere:
        best = Hint(None, best.preferred)
    assert hint == best
    assert taken == (policy == "best-effort" or best.preferred)


asked = st.fixed_dictionaries(
    {"cpu": st.sampled_from(["1", "2", "3", "5", "500m"]), "memory": st.sampled_from(["1Gi", "3Gi", "5Gi"])}
)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.lists(asked, min_size=1, max_size=2), st.lists(asked, max_size=1)), max_size=6),
    st.sampled_from(["none", "best-effort", "restricted", "single-numa-node"]),
    st.sampled_from(["container", "pod"]),
    st.sampled_from([{}, {"spread": True}, {"strict": True}, {"by_cache": True}]),
)
def test_nothing_is_given_twice(
    tmp_path_factory: pytest.TempPathFactory, story: Any, policy: str, scope: str, options: dict[str, bool]
) -> None:
    made, there = managers(tmp_path_factory.mktemp("numa"), policy, scope, count=3, **options), list[JSON]()
    assert made.cpus is not None and made.memory is not None
    for number, (containers, init) in enumerate(story):
        arriving = pod(f"p{number}", *containers, init=tuple(init))
        refusal = made.admit(arriving, there)
        if refusal is not None:
            assert refusal == REFUSED or refusal[0] == "UnexpectedAdmissionError"
            assert arriving["metadata"]["uid"] not in made.cpus.assigned | made.memory.given
            continue
        there.append(arriving)
        for spec in arriving["spec"]["containers"]:
            cpus = made.cpus.own(f"p{number}", spec["name"])
            wanted = spec["resources"]["limits"]["cpu"]
            assert len(cpus) == (0 if wanted == "500m" else int(wanted)) and 0 not in cpus
            if policy == "single-numa-node" and cpus:
                assert len({cpu // 4 for cpu in cpus}) == 1
                assert made.memory.of(f"p{number}", spec["name"]) == {cpu // 4 for cpu in cpus}
    main = [
        cpu
        for one in there
        for spec in one["spec"]["containers"]
        for cpu in made.cpus.own(one["metadata"]["uid"], spec["name"])
    ]
    assert len(main) == len(set(main))


def test_processors_by_socket(tmp_path: Path) -> None:
    made = managers(tmp_path, "restricted", count=4, by_socket=True)
    assert made.admit(pod("p", {"cpu": "3"}), []) is None  # of node 0, whose socket has node 1, too
    hints = made.cpus.hints(pod("q", {"cpu": "4"}), pod("q", {"cpu": "4"})["spec"]["containers"][0])  # type: ignore[union-attr]
    preferred = {hint.nodes for hint in hints["cpu"] or () if hint.preferred}
    assert {frozenset({0, 1}), frozenset({1}), frozenset({2, 3})} <= preferred and frozenset(
        {1, 2}
    ) not in preferred


def test_devices_hint_at_nodes() -> None:
    everywhere = frozenset({0, 1})
    given_ = {("u", "c0", NIC): Given(("a",), b"")}
    for devices, count, expected in (
        (book(a=-1, b=-1), 1, None),
        (book(a=0, b=0), 3, []),
        (book(a=0, b=1), 2, [Hint(everywhere, True)]),
        (
            book(a=0, b=1),
            1,
            [Hint(frozenset({0}), True), Hint(frozenset({1}), True), Hint(everywhere, False)],
        ),
        (Book(book(a=1, b=0).devices, given_), 1, [Hint(frozenset({1}), True), Hint(everywhere, False)]),
        (Book(book(a=1, b=0).devices, given_), 2, []),
    ):
        one = pod("u", {NIC: str(count)})
        found = near.hints(devices, one, one["spec"]["containers"][0], everywhere)
        assert found == {NIC: expected} == near.hints(devices, one, None, everywhere)
    both = pod("w", {NIC: "1"}, {NIC: "1"}, init=({NIC: "3"},))
    assert near.hints(book(a=0, b=0, c=0), both, None, everywhere)[NIC] == [
        Hint(frozenset({0}), True),
        Hint(everywhere, False),
    ]


def test_near_devices_come_first() -> None:
    known = book(a=0, b=1, c=1, d=-1)
    choice = Choice((), ("a", "b", "c", "d"), 1)
    assert near.nearest(known, NIC, choice, None) == choice
    assert near.nearest(known, NIC, choice, frozenset({1})) == Choice((), ("b", "c"), 1)
    three = Choice((), ("a", "b", "c", "d"), 3)
    assert near.nearest(known, NIC, three, frozenset({1})) == Choice(("b", "c"), ("a", "d"), 1)
    assert near.nearest(book(a=-1), NIC, Choice((), ("a",), 1), frozenset({1})).free == ("a",)


def test_flags_that_cannot_be() -> None:
    assert topology.topology("none", "container", {}, lambda: numa(9)) is None
    with pytest.raises(ValueError, match="unsupported on machines with more than 8 NUMA Nodes"):
        topology.topology("restricted", "container", {}, lambda: numa(9))
    allowed = topology.topology("restricted", "pod", {topology.MOST: "9"}, lambda: numa(9))
    assert allowed is not None and allowed.whole_pods
    for given_, words in (
        ({"x": "1"}, 'unknown Topology Manager Policy option: "x"'),
        ({topology.CLOSEST: "maybe"}, 'bad value for option "prefer-closest-numa-nodes"'),
        ({topology.MOST: "x"}, 'unable to convert policy option to integer "max-allowable-numa-nodes"'),
        ({topology.MOST: "4"}, "the minimum value of max-allowable-numa-nodes should not be less than 8"),
    ):
        with pytest.raises(ValueError, match="--topology-manager-policy-options") as caught:
            topology.topology("none", "container", given_, lambda: numa(1))
        assert words in str(caught.value)


def test_eight_nodes_and_three_resources_are_decided_at_once(tmp_path: Path) -> None:
    every = [Hint(some, len(some) == 2) for some in sets(range(8))]
    made = Topology("restricted", numa(8))
    found, taken = made.decide([{"cpu": every, "memory": every}, {GPU: every}])  # 16 million combinations
    assert found == Hint(frozenset({0, 1}), True) and taken
