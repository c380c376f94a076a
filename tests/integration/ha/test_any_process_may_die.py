"""Three etcd members and two API servers, each killed in turn under writes and watches.

What must hold, whoever dies: no acknowledged write is lost; a watcher that resumes, at whichever server, sees every event
once and in order; reads never go back in time, at whichever server they are made.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
from kubernetes import client, config, watch

from bamikube.kit.world import World
from bamikube.pki.issue import issue_all
from bamikube.pki.profiles import ClusterNames, NodeNames
from tests.support.etcd import etcd_members, free_ports
from tests.support.private_api import PrivateApi

MAPS = "/api/v1/namespaces/default/configmaps"
BROKEN = (aiohttp.ClientError, OSError, TimeoutError)
PROGRESS = 40  # acknowledged writes after a death before the next one


class Cluster(PrivateApi):
    """Members and servers that can be killed and started again."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, controllers=False)
        self.members = etcd_members(directory / "etcd")
        self.ports = [self.port, *free_ports(1)]
        self.servers: list[subprocess.Popen[bytes]] = []

    @property
    def urls(self) -> list[str]:
        return [f"https://127.0.0.1:{port}" for port in self.ports]

    def start(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        for member in self.members:
            member.launch()
        for member in self.members:
            member.wait()
        issue_all(
            {"master": self.home},
            ClusterNames(server=self.url),
            [NodeNames(name="master", address="127.0.0.1")],
            World(),
        )
        self.servers = [self._serve(number) for number in range(2)]
        for url in self.urls:
            self._wait("apiserver", f"{url}/readyz", self.context)

    def _serve(self, number: int) -> subprocess.Popen[bytes]:
        endpoints = [member.endpoint for member in self.members]
        return self.spawn("apiserver", *self.server_flags(self.ports[number], endpoints))

    def restart_server(self, number: int) -> None:
        self.servers[number] = self._serve(number)

    def stop(self) -> None:
        super().stop()
        for member in self.members:
            member.stop()


def the_official_watch_starts_anew(cluster: Cluster, there: dict[str, dict[str, Any]]) -> None:
    """The Python client resumes at a version that no server here remembers: it is told 410, lists, and goes on."""
    core = client.CoreV1Api(config.new_client_from_config(str(cluster.kubeconfig)))
    name = min(there)
    with pytest.raises(client.ApiException) as expired:  # whoever insists on the version
        next(iter(watch.Watch().stream(core.list_namespaced_config_map, "default", resource_version="1")))
    assert expired.value.status == 410
    follow = watch.Watch()
    follow.resource_version = "1"
    events = follow.stream(
        core.list_namespaced_config_map, "default", field_selector=f"metadata.name={name}", timeout_seconds=20
    )
    assert next(events)["object"].metadata.name == name
    core.patch_namespaced_config_map(name, "default", {"data": {"seen": "yes"}})
    assert next(events)["object"].data["seen"] == "yes"


class History:
    """What clients did and saw."""

    def __init__(self) -> None:
        self.acknowledged: dict[str, int] = {}  # name -> revision
        self.uncertain: set[str] = set()  # written, but nobody said so
        self.counted = 0  # acknowledged increments of the ledger
        self.uncounted = 0  # increments of unknown outcome


class Clients:
    def __init__(self, urls: list[str], context: ssl.SSLContext) -> None:
        self.urls = urls
        self.history = History()
        self.stopped = False
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=context),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=2),
        )

    async def close(self) -> None:
        await self._session.close()

    async def call(self, server: int, method: str, path: str, body: Any = None) -> tuple[int, dict[str, Any]]:
        """One request to one server. Raises one of ``BROKEN`` when nobody answers."""
        url = self.urls[server % len(self.urls)] + path
        async with asyncio.timeout(5):
            async with self._session.request(method, url, json=body) as answer:
                return answer.status, orjson.loads(await answer.read())

    async def write(self, writer: int) -> None:
        """Create objects until told to stop, at the servers in turn; each third time count one up in the ledger."""
        number = 0
        while not self.stopped:
            number += 1
            name = f"w{writer}-{number}"
            body = {"metadata": {"name": name}, "data": {"name": name}}
            self.history.uncertain.add(name)  # until somebody says what became of it
            try:
                status, said = await self.call(writer + number, "POST", MAPS, body)
            except BROKEN:
                await asyncio.sleep(0.02)
                continue
            if status == 201:
                self.history.uncertain.discard(name)
                self.history.acknowledged[name] = int(said["metadata"]["resourceVersion"])
            else:
                assert status in (500, 503, 504), f"{name}: {status} {said}"
            if number % 3 == 0:
                await self._count(writer + number)

    async def _count(self, server: int) -> None:
        with contextlib.suppress(*BROKEN):
            status, ledger = await self.call(server, "GET", f"{MAPS}/ledger")
            if status != 200:
                return
            ledger["data"]["count"] = str(int(ledger["data"]["count"]) + 1)
            self.history.uncounted += 1
            status, said = await self.call(server, "PUT", f"{MAPS}/ledger", ledger)
            if status in (200, 409):
                self.history.uncounted -= 1
                self.history.counted += status == 200
            else:
                assert status in (500, 503, 504), said

    async def read(self) -> None:
        """Consistent reads at the servers in turn: the newest acknowledged write is in every list that begins later."""
        newest = 0
        server = 0
        while True:
            server += 1
            known = dict(self.history.acknowledged)
            try:
                status, listed = await self.call(server, "GET", MAPS)
            except BROKEN:
                continue
            if status != 200:
                assert status in (429, 500, 503, 504), listed
                continue
            revision = int(listed["metadata"]["resourceVersion"])
            assert revision >= max(newest, *known.values(), 0), "a read went back in time"
            newest = revision
            lost = known.keys() - {item["metadata"]["name"] for item in listed["items"]}
            assert not lost, f"acknowledged and not there: {sorted(lost)[:5]}"
            await asyncio.sleep(0.05)

    async def watch(self, server: int, since: str, events: list[tuple[str, str, int]]) -> None:
        """Watch for ever, resuming at the other server whenever a watch ends."""
        while True:
            path = f"{MAPS}?watch=1&allowWatchBookmarks=true&resourceVersion={since}"
            server += 1
            with contextlib.suppress(*BROKEN):
                async for event in self._events(server, path):
                    assert event["type"] != "ERROR", event
                    since = event["object"]["metadata"]["resourceVersion"]
                    if event["type"] != "BOOKMARK":
                        events.append((event["type"], event["object"]["metadata"]["name"], int(since)))
            await asyncio.sleep(0.05)

    async def _events(self, server: int, path: str) -> AsyncIterator[dict[str, Any]]:
        async with self._session.get(self.urls[server % len(self.urls)] + path) as answer:
            if answer.status != 200:
                assert answer.status in (429, 500, 503, 504), await answer.text()
                return
            async for line in answer.content:
                yield orjson.loads(line)


@pytest.fixture
def cluster(tmp_path: Path) -> Any:
    made = Cluster(tmp_path)
    with made:
        yield made


async def until(
    met: Callable[[], bool], what: str, tasks: list[asyncio.Task[None]], seconds: float = 60
) -> None:
    """Wait for a condition; a client that found something wrong ends the wait with what it found."""
    async with asyncio.timeout(seconds):
        while not met():
            for task in tasks:
                if task.done():
                    task.result()
                    raise AssertionError(f"a client ended while waiting for {what}")
            await asyncio.sleep(0.02)


async def test_members_and_servers_die_in_turn(cluster: Cluster) -> None:
    clients = Clients(cluster.urls, cluster.context)
    history = clients.history
    status, ledger = await clients.call(
        0, "POST", MAPS, {"metadata": {"name": "ledger"}, "data": {"count": "0"}}
    )
    assert status == 201
    since = ledger["metadata"]["resourceVersion"]
    seen: list[list[tuple[str, str, int]]] = [[], []]
    writers = [asyncio.ensure_future(clients.write(number)) for number in range(4)]
    watchers = [asyncio.ensure_future(clients.watch(number, since, seen[number])) for number in range(2)]
    tasks = [*writers, *watchers, asyncio.ensure_future(clients.read())]
    try:
        await until(lambda: len(history.acknowledged) > PROGRESS, "the first writes", tasks)
        for victim in ("m0", "s0", "m1", "s1", "m2"):
            number = int(victim[1])
            if victim[0] == "m":
                cluster.members[number].kill()
            else:
                cluster.servers[number].kill()
                cluster.servers[number].wait()
            there = len(history.acknowledged)
            await until(
                lambda there=there: len(history.acknowledged) > there + PROGRESS,
                f"writes without {victim}",
                tasks,
            )
            if victim[0] == "m":
                cluster.members[number].launch()
                await asyncio.to_thread(cluster.members[number].wait)
            else:
                cluster.restart_server(number)
                await asyncio.to_thread(
                    cluster._wait, "apiserver", f"{cluster.urls[number]}/readyz", cluster.context
                )
        clients.stopped = (
            True  # rather than cancelled: a request that nobody waits for may still be carried out
        )
        await asyncio.gather(*writers)
        rest = tasks[len(writers) :]

        async def names(server: int) -> dict[str, dict[str, Any]]:
            status, found = await clients.call(server, "GET", MAPS)
            assert status == 200
            return {item["metadata"]["name"]: item for item in found["items"]}

        async with asyncio.timeout(20):  # what a client gave up waiting for may still arrive
            while (there := await names(0)).keys() != (await names(1)).keys():
                pass
        assert history.acknowledged.keys() <= there.keys(), "an acknowledged write is lost"
        strangers = (
            there.keys() - history.acknowledged.keys() - history.uncertain - {"ledger", "kube-root-ca.crt"}
        )
        assert not strangers
        count = int(there["ledger"]["data"]["count"])
        assert history.counted <= count <= history.counted + history.uncounted

        last = max(int(item["metadata"]["resourceVersion"]) for item in there.values())
        await until(lambda: all(events and events[-1][2] >= last for events in seen), "the watchers", rest)
        for events in seen:
            revisions = [revision for _, _, revision in events]
            assert revisions == sorted(set(revisions)), "an event came twice, or out of order"
            added = [name for kind, name, _ in events if kind == "ADDED"]
            assert sorted(added) == sorted(there.keys() - {"ledger", "kube-root-ca.crt"}), (
                "an event is missing"
            )
            assert sum(kind == "MODIFIED" and name == "ledger" for kind, name, _ in events) == count
        assert seen[0] == seen[1]
        await asyncio.to_thread(the_official_watch_starts_anew, cluster, there)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await clients.close()
