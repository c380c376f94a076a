"""Users of a pod's own: which ids it gets, what is written down of them, and what the runtime is told."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from bamikube.nodeagent.host.cgroups import Cgroups
from bamikube.nodeagent.host.linux import LinuxHost
from bamikube.nodeagent.host.port import HostFailure
from bamikube.nodeagent.runtime import messages
from bamikube.nodeagent.runtime.port import ContainerSpec, Handler, IdMap, Mount, Namespaces, SandboxSpec
from bamikube.nodeagent.users import delegated, text
from bamikube.nodeagent.users.book import Users
from bamikube.nodeagent.users.ranges import IDS, UNIT, NoRange, Ranges, check
from bamikube.rpc.cri import cri_pb2 as pb
from tests.simulation import virtual
from tests.support.hollow_pods import HollowNode, running

JSON = dict[str, Any]
PODS = [f"pod-{number}" for number in range(6)]
FIRST, LENGTH, COUNT = 4 * UNIT, 2 * UNIT, 4


# -- ranges ----------------------------------------------------------------------------------------------------


class AnyHistory(RuleBasedStateMachine):
    """Pods come, go and are remembered over restarts, some with ranges that nobody here would have given."""

    def __init__(self) -> None:
        super().__init__()
        self.ranges = Ranges(FIRST, COUNT * LENGTH, LENGTH)
        self.held: dict[str, IdMap] = {}
        self.strange: dict[str, IdMap] = {}

    @rule(uid=st.sampled_from(PODS))
    def take(self, uid: str) -> None:
        if uid in self.strange:
            return
        try:
            found = self.ranges.take(uid)
        except NoRange as failure:
            assert str(failure) == "could not find an empty slot to allocate a user namespace"
            taken = [*self.held.values(), *self.strange.values()]
            assert all(any(_meet(slot, one) for one in taken) for slot in _slots())
            return
        assert self.held.get(uid, found) == found
        self.held[uid] = found

    @rule(uid=st.sampled_from(PODS))
    def release(self, uid: str) -> None:
        self.ranges.release(uid)
        self.held.pop(uid, None)
        self.strange.pop(uid, None)

    @rule(
        uid=st.sampled_from(PODS),
        first=st.integers(0, 16).map(lambda n: n * UNIT // 2),
        length=st.sampled_from([1, UNIT, LENGTH, 3 * UNIT]),
    )
    def record(self, uid: str, first: int, length: int) -> None:
        found = IdMap(first, length)
        try:
            self.ranges.record(uid, found)
        except NoRange:
            assert self.held.get(uid) != found
            if uid not in self.held and uid not in self.strange:
                self.ranges.keep(uid, found)
                self.strange[uid] = found
        else:
            assert self.held.get(uid, found) == found
            self.held[uid] = found
            self.strange.pop(uid, None)

    @rule()
    def restart(self) -> None:
        self.ranges = Ranges(FIRST, COUNT * LENGTH, LENGTH)
        for uid, found in self.held.items():
            self.ranges.record(uid, found)
        for uid, found in self.strange.items():
            self.ranges.keep(uid, found)

    @invariant()
    def what_is_held_stays(self) -> None:
        for uid, found in self.held.items():
            self.ranges.record(uid, found)

    @invariant()
    def nobody_shares(self) -> None:
        held = list(self.held.values())
        assert len({found.first for found in held}) == len(held)
        for found in held:
            assert found in _slots()


def _slots() -> list[IdMap]:
    return [IdMap(FIRST + slot * LENGTH, LENGTH) for slot in range(COUNT)]


def _meet(one: IdMap, other: IdMap) -> bool:
    return one.first < other.first + other.length and other.first < one.first + one.length


TestAnyHistory = AnyHistory.TestCase
TestAnyHistory.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


@given(
    length=st.integers(1, 600).map(lambda n: n * UNIT), slots=st.integers(1, 100), pods=st.integers(1, 120)
)
@settings(max_examples=60, deadline=None)
def test_neither_the_machines_own_ids_nor_the_last_one_are_given(length: int, slots: int, pods: int) -> None:
    first = max(length, IDS // length * length - slots * length)  # the last ranges that there are
    ranges, given_ = Ranges(first, IDS // length * length - first, length), []
    for number in range(pods):
        try:
            given_.append(ranges.take(f"pod-{number}"))
        except NoRange:
            break
    for found in given_:
        assert found.first >= length and found.first + found.length < IDS
    assert not any(_meet(one, other) for one, other in pairwise(given_))


def test_a_strange_range_is_nobody_elses() -> None:
    ranges = Ranges(FIRST, COUNT * LENGTH, LENGTH)
    ranges.keep("old", IdMap(FIRST + LENGTH - 1, 2))  # of the first and of the second
    found = [ranges.take(uid).first for uid in ("a", "b")]
    assert found == [FIRST + 2 * LENGTH, FIRST + 3 * LENGTH]
    with pytest.raises(NoRange):
        ranges.take("c")
    ranges.release("old")
    assert ranges.take("c").first == FIRST


def test_a_range_rests_after_its_pod() -> None:
    ranges = Ranges(FIRST, COUNT * LENGTH, LENGTH)
    found = []
    for number in range(COUNT + 1):
        found.append(ranges.take(f"pod-{number}").first)
        ranges.release(f"pod-{number}")
    assert found == [FIRST + n * LENGTH for n in (0, 1, 2, 3, 0)]


@pytest.mark.parametrize(
    ("first", "size", "length", "said"),
    [
        (UNIT, 110 * UNIT, UNIT, ""),
        (UNIT, IDS - UNIT, UNIT, ""),
        (UNIT, 110 * UNIT, 100, "kubelet user namespace length 100 is not a multiple of 65536"),
        (70000, 110 * UNIT, UNIT, "kubelet user assigned ID 70000 is not a multiple of 65536"),
        (0, 110 * UNIT, UNIT, "kubelet user assigned ID 0 must be greater or equal to 65536"),
        (UNIT, 7, UNIT, "kubelet user assigned IDs length 7 is not a multiple of 65536"),
        (UNIT, 109 * UNIT, UNIT, "kubelet user assigned IDs are not enough to support 110 pods"),
        (IDS - 110 * UNIT, 110 * UNIT, UNIT, "kubelet user assigned IDs are not enough to support 110 pods"),
    ],
)
def test_ids_that_will_do(first: int, size: int, length: int, said: str) -> None:
    if not said:
        return check(first, size, length, 110)
    with pytest.raises(ValueError) as caught:
        check(first, size, length, 110)
    assert str(caught.value) == said


# -- which ids there are ---------------------------------------------------------------------------------------


def test_ids_are_delegated_to_the_kubelet() -> None:
    asked: list[Sequence[str]] = []

    def answer(given: Sequence[str]) -> str:
        asked.append(tuple(given))
        return "0: kubelet 65536 7208960\n"

    assert delegated.ids(UNIT, answer) == (65536, 7208960)
    assert asked == [("kubelet",), ("-g", "kubelet")]


@pytest.mark.parametrize(
    ("said", "fault"),
    [
        ("0: kubelet 65536 7\n1: kubelet 1 2\n", "it must contain only one line"),
        ("0: kubelet 65536\n", "invalid line"),
        ("0: kubelet x 7\n", "error parsing line"),
        ("0: kubelet -1 7\n", "error parsing line"),
        ("0: kubelet 65536 4294967296\n", "error parsing line"),
        ("", "invalid line"),
    ],
)
def test_odd_answers_about_delegated_ids(said: str, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        delegated.ids(UNIT, lambda _: said)


def test_users_and_groups_are_to_be_the_same() -> None:
    with pytest.raises(ValueError, match='mismatched subuids and subgids for user "kubelet"'):
        delegated.ids(UNIT, lambda given: f"0: kubelet {UNIT * len(given)} 65536")


def test_a_tool_that_fails_is_said() -> None:
    def answer(given: Sequence[str]) -> str:
        raise subprocess.CalledProcessError(1, ["getsubids", *given])

    with pytest.raises(
        ValueError, match='error retrieving additional uids for user "kubelet": exit status 1'
    ):
        delegated.ids(UNIT, answer)


def test_the_tool_itself_is_asked_where_there_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = tmp_path / "getsubids"
    tool.write_text('#!/bin/sh\n[ "$*" = root -o "$*" = "-g root" ] && echo "0: root 131072 7208960"\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    everything = (UNIT, IDS - UNIT)
    monkeypatch.setattr(delegated, "USER", "no-such-user")
    assert delegated.ids(UNIT) == everything
    monkeypatch.setattr(delegated, "USER", "root")
    assert delegated.ids(UNIT) == (131072, 7208960)
    monkeypatch.setenv("PATH", "/nowhere")
    assert delegated.ids(UNIT) == everything


# -- what is written down --------------------------------------------------------------------------------------


def test_the_file_is_the_kubelets() -> None:
    one = '[{"hostId":131072,"containerId":0,"length":65536}]'
    assert text.written(IdMap(131072, 65536)).decode() == f'{{"uidMappings":{one},"gidMappings":{one}}}'


@given(st.integers(0, IDS - 1), st.integers(0, IDS - 1))
def test_what_was_written_is_read(first: int, length: int) -> None:
    assert text.read(text.written(IdMap(first, length))) == IdMap(first, length)


@given(st.binary(max_size=60) | st.recursive(st.none() | st.integers() | st.text(max_size=3), lambda inner: (
    st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["uidMappings", "gidMappings", "hostId", "length"]), inner)
)).map(lambda found: json.dumps(found).encode()))  # fmt: skip
def test_any_other_text_is_refused_or_read(content: bytes) -> None:
    try:
        found = text.read(content)
    except ValueError as error:
        assert str(error).startswith("invalid user namespace")
    else:
        assert 0 <= found.first < IDS and 0 <= found.length < IDS


def mapping(**more: Any) -> JSON:
    return {"hostId": UNIT, "containerId": 0, "length": UNIT} | more


@pytest.mark.parametrize(
    ("uids", "gids", "said"),
    [
        ([], [], "no more than one mapping allowed."),
        ([mapping(), mapping()], [mapping()], "no more than one mapping allowed."),
        ([mapping()], [], "GID and UID mappings should be identical."),
        ([mapping()], [mapping(length=1)], "GID and UID mapping should be identical"),
        ([mapping(containerId=1)], [mapping(containerId=1)], "UID 0 must be mapped"),
    ],
)
def test_configurations_that_are_none(uids: list[JSON], gids: list[JSON], said: str) -> None:
    with pytest.raises(ValueError) as caught:
        text.read(json.dumps({"uidMappings": uids, "gidMappings": gids}).encode())
    assert str(caught.value) == f"invalid user namespace configuration: {said}"


def folder(root: Path, uid: str, content: bytes | None = None) -> Path:
    (root / uid).mkdir(parents=True, exist_ok=True)
    if content is not None:
        (root / uid / "userns").write_bytes(content)
    return root / uid


def test_users_are_remembered_over_a_restart(tmp_path: Path) -> None:
    for uid in ("a", "b", "c"):
        folder(tmp_path, uid)

    async def story() -> None:
        first = Users(tmp_path, Ranges(FIRST, COUNT * LENGTH, LENGTH))
        a, b = await first.of("a"), await first.of("b")
        assert await first.of("a") == a != b
        again = Users(tmp_path, Ranges(FIRST, COUNT * LENGTH, LENGTH))
        again.recall()
        assert not {(await again.of("c")).first} & {a.first, b.first}
        assert (await again.of("a"), await again.of("b")) == (a, b)
        again.release("a")
        (tmp_path / "a" / "userns").unlink()
        assert [(await again.of(uid)).first for uid in ("a", "b")] == [FIRST + 3 * LENGTH, b.first]

    asyncio.run(story())
    assert not list(tmp_path.glob("*/.userns"))


BROKEN = [
    (b"{", "user namespace: invalid user namespace mappings file: unexpected end of JSON input"),
    (text.written(IdMap(FIRST, UNIT)), "user namespace: wrong user namespace length 65536"),
    (text.written(IdMap(FIRST + UNIT, LENGTH)), f"user namespace: wrong user namespace offset specified {FIRST + UNIT}"),
    (text.written(IdMap(0, LENGTH)), "user namespace: id 0 is out of range"),
    (text.written(IdMap(FIRST + 3 * LENGTH, LENGTH)), 'user namespace: range picked for pod "b" already taken'),
]  # fmt: skip


@pytest.mark.parametrize(("content", "said"), BROKEN)
def test_a_broken_file_costs_its_own_pod_only(tmp_path: Path, content: bytes, said: str) -> None:
    folder(tmp_path, "a")
    folder(tmp_path, "b", content)
    folder(tmp_path, "c", text.written(IdMap(FIRST + 3 * LENGTH, LENGTH)))

    async def story() -> None:
        ranges = Ranges(FIRST, COUNT * LENGTH, LENGTH)
        ranges.record("c", IdMap(FIRST + 3 * LENGTH, LENGTH))  # it was looked at first
        users = Users(tmp_path, ranges)
        users.recall()
        with pytest.raises(HostFailure) as caught:
            await users.of("b")
        assert str(caught.value) == said
        assert await users.of("c") == IdMap(FIRST + 3 * LENGTH, LENGTH)
        given_ = await users.of("a")
        assert content == b"{" or not _meet(given_, text.read(content))

    asyncio.run(story())


def test_no_place_to_write_is_said(tmp_path: Path) -> None:
    async def story() -> None:
        with pytest.raises(HostFailure) as caught:
            await Users(tmp_path, Ranges()).of("gone")
        assert str(caught.value).startswith("create user namespace: ") and "no such file" in str(caught.value)

    asyncio.run(story())


def test_what_a_pod_had_is_free_when_it_is_cleaned_up(tmp_path: Path) -> None:
    async def story() -> None:
        ranges = Ranges(FIRST, LENGTH, LENGTH)
        host = LinuxHost(tmp_path, tmp_path / "log", Cgroups("/none", "cgroupfs", tmp_path / "none"), ranges)
        host._users.recall()
        folder(tmp_path / "pods", "a")
        folder(tmp_path / "pods", "b")
        pods = [{"metadata": {"uid": uid}} for uid in ("a", "b")]
        had = await host.users(pods[0])
        with pytest.raises(HostFailure, match="could not find an empty slot to allocate a user namespace"):
            await host.users(pods[1])
        await host.cleanup("a")
        assert not (tmp_path / "pods" / "a").exists()
        assert await host.users(pods[1]) == had

    asyncio.run(story())


# -- what the runtime is told ----------------------------------------------------------------------------------

SANDBOX = SandboxSpec("n", "ns", "u", 0, "h", "/l", {}, {})
CONTAINER = ContainerSpec(
    "c", 0, "i", (), (), "", (), (Mount("/a", "/b"), Mount("/i", "/j", mapped=False)), {}, {}, ""
)


def test_the_runtime_is_told_whose_ids_they_are() -> None:
    usual = messages.sandbox_config(SANDBOX).linux.security_context.namespace_options
    assert usual.userns_options == pb.UserNamespace(mode=pb.NODE)
    assert not messages.container_config(CONTAINER).mounts[0].uidMappings

    own = Namespaces(users=IdMap(131072, 65536))
    one = pb.IDMapping(host_id=131072, container_id=0, length=65536)
    wanted = pb.UserNamespace(mode=pb.POD, uids=[one], gids=[one])
    sandbox = messages.sandbox_config(replace(SANDBOX, namespaces=own))
    assert sandbox.linux.security_context.namespace_options.userns_options == wanted
    container = messages.container_config(replace(CONTAINER, namespaces=own))
    assert container.linux.security_context.namespace_options.userns_options == wanted
    mapped, image = container.mounts
    assert list(mapped.uidMappings) == list(mapped.gidMappings) == [one]
    assert not image.uidMappings and not image.gidMappings


def test_a_pod_runs_with_users_of_its_own() -> None:
    async def story() -> None:
        async with HollowNode() as node:
            node.runtime.handlers = (Handler("", user_namespaces=True),)
            sandboxes: list[SandboxSpec] = []
            real = node.runtime.run_sandbox

            async def run_sandbox(spec: SandboxSpec) -> str:
                sandboxes.append(spec)
                return await real(spec)

            node.runtime.run_sandbox = run_sandbox  # type: ignore[method-assign]
            usual = node.run("usual", containers=[{"name": "app"}])
            own = [node.run(f"own-{n}", containers=[{"name": "app"}], hostUsers=False) for n in range(2)]
            await node.until(lambda: all(running(worker) for worker in (usual, *own)))
            users = {spec.name: spec.namespaces.users for spec in sandboxes}
            assert users["usual"] is None
            assert {users["own-0"], users["own-1"]} == {IdMap(UNIT, UNIT), IdMap(2 * UNIT, UNIT)}
            for identity, spec in node.runtime.specs.items():
                sandbox = node.runtime.sandboxes[node.runtime.containers[identity].sandbox_id]
                assert spec.namespaces.users == users[sandbox.name]
            first = users["own-0"]
            node.runtime.exit("app", 1)  # of one of them: it is begun anew as who it was
            await node.until(lambda: len(node.runtime.specs) == 4)
            assert all(
                spec.namespaces.users == users[node.runtime.sandboxes[container.sandbox_id].name]
                for identity, spec in node.runtime.specs.items()
                if (container := node.runtime.containers.get(identity))
            )
            node.delete(own[0], 0)
            await node.until(lambda: "uid-own-0" not in node.workers)
            assert first not in node.host.ranges._held.values()

    virtual.run(story())
