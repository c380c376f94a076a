"""The node's HTTP API on real containers: logs, exec over a websocket, usage, and who is refused."""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import orjson
import pytest
from prometheus_client.parser import text_string_to_metric_families

from bamikube.client.client import Client
from bamikube.client.transport import InProcessTransport
from bamikube.kit.http import Request, Response
from bamikube.kit.httpserver import serve
from bamikube.kit.tasks import Tasks
from bamikube.kit.world import World
from bamikube.nodeagent.node.facts import inspect, meminfo
from bamikube.nodeagent.node.log_rotation import Limits, LogRotator
from bamikube.nodeagent.server.app import NodeApi, Shown
from bamikube.nodeagent.server.auth import Delegated
from bamikube.nodeagent.stats.groups import Groups
from bamikube.nodeagent.stats.provider import Stats
from bamikube.nodeagent.stats.sampler import Sampler
from bamikube.nodeagent.stats.subjects import Subject, subjects


class Reviews:
    """Answers TokenReview and SubjectAccessReview: the token ``good`` is somebody, ``weak`` somebody without rights."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []

    async def __call__(self, request: Request) -> Response:
        body = orjson.loads(request.body)
        self.asked.append(body)
        if body["kind"] == "TokenReview":
            token = body["spec"]["token"]
            known = token in ("good", "weak")
            body["status"] = {"authenticated": known, "user": {"username": token}}
        else:
            body["status"] = {"allowed": body["spec"]["user"] == "good"}
        return Response(201, orjson.dumps(body))


class Workers:
    """The agent as the API sees it."""

    def __init__(self, node: Any) -> None:
        self._node = node
        self.relisted = 1.0

    @property
    def workers(self) -> dict[str, Any]:
        return self._node.workers

    def worker(self, namespace: str, name: str) -> Any:
        return next((w for w in self.workers.values() if w.pod["metadata"]["name"] == name), None)

    def mirrors(self) -> int:
        return 0

    def turns(self) -> bool:
        return True

    def uids(self, worker: Any) -> set[str]:
        return {worker.uid}


@pytest.fixture
async def api(node: Any) -> AsyncIterator[Any]:
    world, tasks = World(), Tasks("test")
    reviews = Reviews()
    client = Client(InProcessTransport(reviews), world)

    def chosen() -> list[Subject]:
        return subjects(list(node.workers.values()), node.host.cgroup_parent, False)

    def logs(subject: Subject) -> str:
        return str(node.host.log_directory(subject.pod))

    sampler = Sampler(world, node.runtime, chosen, node.root, logs, node.host.volume_paths, Groups())
    stats = Stats(world, sampler, "node-1", inspect(node.root), node.endpoint)
    shown = Shown({"kind": "KubeletConfiguration"}, node.logs, checkpoints=node.root / "checkpoints")
    auth = Delegated(client, world, "node-1")
    handler = NodeApi(Workers(node), node.runtime, world, auth, stats, shown)  # type: ignore[arg-type]
    server = await serve(handler.handle, host="127.0.0.1", port=0, ssl=None, tasks=tasks)
    async with aiohttp.ClientSession(
        f"http://127.0.0.1:{server.port}", headers={"Authorization": "Bearer good"}
    ) as session:
        session.reviews = reviews  # type: ignore[attr-defined]
        yield session
    await server.close()
    await tasks.close()


async def test_logs_are_read_from_the_end_and_followed(node: Any, api: Any, until: Any) -> None:
    script = "echo one; echo two; echo three; sleep 0.5; echo four"
    spec = {"restartPolicy": "Never", "containers": [{"name": "app", "command": ["sh", "-c", script]}]}
    worker = node.run(node.pod("talker", spec))
    await until(lambda: worker.status.get("phase") == "Running")
    async with api.get("/containerLogs/default/talker/app?follow=true") as answer:
        assert (await answer.text()) == "one\ntwo\nthree\nfour\n"
    async with api.get("/containerLogs/default/talker/app?tailLines=2") as answer:
        assert (await answer.text()) == "three\nfour\n"
    async with api.get("/containerLogs/default/talker/app?tailLines=1&timestamps=true") as answer:
        assert (await answer.text()).split(" ", 1)[1] == "four\n"
    async with api.get("/containerLogs/default/talker/app?previous=true") as answer:
        assert answer.status == 400
    async with api.get("/containerLogs/default/talker/none") as answer:
        assert (answer.status, await answer.text()) == (404, 'container "none" not found in pod "talker"\n')
    async with api.get("/logs/containers/") as answer:
        name = re.findall(r'"(talker_default_app-\w+\.log)"', await answer.text())[0]
    async with api.get(f"/logs/containers/{name}") as answer:
        assert len((await answer.text()).splitlines()) == 4


async def test_the_previous_log_is_that_of_the_last_state(node: Any, api: Any, until: Any) -> None:
    command = ["sh", "-c", "cat /proc/sys/kernel/random/uuid; exit 1"]
    worker = node.run(node.pod("crasher", {"containers": [{"name": "app", "command": command}]}))

    def waits() -> bool:
        items = worker.status.get("containerStatuses") or [{}]
        waiting = (items[0].get("state") or {}).get("waiting") or {}
        return waiting.get("reason") == "CrashLoopBackOff" and items[0].get("restartCount", 0) > 0

    await until(waits)
    async with api.get("/containerLogs/default/crasher/app") as answer:
        now = await answer.text()
    async with api.get("/containerLogs/default/crasher/app?previous=true") as answer:
        assert (await answer.text()) == now and len(now) == 37


async def test_a_follower_reads_on_over_rotations(node: Any, api: Any, until: Any) -> None:
    script = "i=0; while [ $i -lt 4000 ]; do echo line $i; i=$((i+1)); [ $((i%40)) = 0 ] && sleep 0.02; done"
    spec = {"restartPolicy": "Never", "containers": [{"name": "app", "command": ["sh", "-c", script]}]}
    worker = node.run(node.pod("rotated", spec))
    await until(lambda: worker.status.get("phase") == "Running")
    limits = Limits(20_000, 3)
    rotator = LogRotator(World(), node.runtime, limits, worker.state.running)
    rotations = 0
    async with api.get("/containerLogs/default/rotated/app?follow=true") as answer:
        reading = asyncio.ensure_future(answer.text())
        while not reading.done():
            rotations += len(await rotator.look())
            await asyncio.sleep(1.1)  # a rotated file is named by its second
        assert (await reading).split("\n") == [*(f"line {n}" for n in range(4000)), ""]
    assert rotations >= 1
    folder = node.logs / "pods" / f"default_rotated_{worker.uid}" / "app"
    assert 2 <= len(list(folder.iterdir())) <= 3


async def test_exec_is_carried_to_the_runtime(node: Any, api: Any, until: Any) -> None:
    worker = node.run(node.pod("shell", {"containers": [{"name": "app", "command": ["sleep", "1000"]}]}))
    await until(lambda: worker.status.get("phase") == "Running")
    target = "/exec/default/shell/app?command=echo&command=hello&output=1&error=1"
    async with api.ws_connect(target, protocols=["v4.channel.k8s.io"]) as socket:
        received = [message.data async for message in socket]
    assert b"\x01hello\n" in received
    assert orjson.loads(received[-1][1:])["status"] == "Success"
    uid = worker.pod["metadata"]["uid"]
    async with api.post(f"/run/default/shell/{uid}/app?cmd=hostname") as answer:
        assert (await answer.text()) == "shell\n"
    async with api.post("/run/default/shell/app", data={"cmd": "echo by form"}) as answer:
        assert (await answer.text()) == "by form\n"
    async with api.get("/checkpoint/default/shell/app") as answer:
        assert answer.status == 405
    for path, code, words in (
        ("/debug/pprof/heap", 405, "profiling endpoint is disabled.\n"),
        ("/debug/flags/v", 405, "flags endpoint is disabled.\n"),
        ("/debug/nothing", 404, "404: Page Not Found"),
        ("/checkpoint/default/none/app", 404, "pod does not exist"),
        ("/checkpoint/default/shell/none", 404, "container none does not exist"),
        # This containerd is too old for it.
        (
            "/checkpoint/default/shell/app",
            500,
            "checkpointing of default/shell/app failed (rpc error: code = Unimplemented desc = ",
        ),
        ("/run/default/shell/app?cmd=ls+/none", 500, "command 'ls /none' exited with 1: "),
        ("/run/default/shell/other-uid/app?cmd=ls", 404, "pod not found"),
        ("/portForward/default/none", 404, "pod does not exist"),
        ("/exec/default/shell/none?command=ls&output=1", 500, 'container not found ("none")'),
        ("/attach/default/shell/none?output=1", 500, "container none not found in pod shell_default"),
        ("/exec/default/shell/app?command=ls", 400, "you must specify at least 1 of stdin, stdout, stderr"),
        ("/pods", 405, "405: Method Not Allowed"),
        ("/nothing", 404, "404: Page Not Found"),
    ):
        async with api.post(path) as answer:
            assert (answer.status, (await answer.text())[: len(words)]) == (code, words)
    async with api.get("/runningpods/") as answer:
        (pod,) = (await answer.json())["items"]
        assert pod["metadata"]["uid"] == uid and [c["name"] for c in pod["spec"]["containers"]] == ["app"]
    async with api.get("/configz") as answer:
        assert (await answer.json())["kubeletconfig"]["kind"] == "KubeletConfiguration"


async def test_what_pods_use_is_told(node: Any, api: Any, until: Any) -> None:
    script = "dd if=/dev/zero of=/cache/f bs=1k count=500; echo hi; "
    container = {
        "name": "app",
        "command": ["sh", "-c", script + "sleep 1000"],
        "volumeMounts": [{"name": "cache", "mountPath": "/cache"}],
        "resources": {"limits": {"memory": "64Mi", "cpu": "500m"}},
    }
    worker = node.run(
        node.pod("eater", {"containers": [container], "volumes": [{"name": "cache", "emptyDir": {}}]})
    )
    log = node.logs / "pods" / f"default_eater_{worker.uid}" / "app" / "0.log"
    await until(lambda: log.exists() and b"hi" in log.read_bytes())
    async with api.get("/stats/summary") as answer:
        found = await answer.json()
    (pod,), (app,) = found["pods"], found["pods"][0]["containers"]
    assert pod["podRef"] == {"name": "eater", "namespace": "default", "uid": worker.uid}
    assert app["cpu"]["usageCoreNanoSeconds"] > 1_000_000 and app["cpu"]["usageNanoCores"] > 0
    assert 0 < app["memory"]["workingSetBytes"] <= app["memory"]["usageBytes"] < 64 * 2**20
    assert app["memory"]["availableBytes"] == 64 * 2**20 - app["memory"]["workingSetBytes"]
    assert app["rootfs"]["capacityBytes"] > 0 and app["logs"]["usedBytes"] >= 4096
    (volume,) = pod["volume"]
    assert volume["name"] == "cache" and 500 * 1024 <= volume["usedBytes"] < 600 * 1024
    ephemeral = pod["ephemeral-storage"]["usedBytes"]
    assert ephemeral == app["rootfs"]["usedBytes"] + app["logs"]["usedBytes"] + volume["usedBytes"]
    assert pod["network"]["name"] == "eth0" and pod["process_stats"]["process_count"] >= 2
    node_stats = found["node"]
    assert (
        node_stats["cpu"]["usageNanoCores"] > 0
    )  # with nothing to compare with yet: since the machine began
    assert [c["name"] for c in node_stats["systemContainers"]] == ["kubelet", "runtime", "pods"]
    assert node_stats["rlimit"]["curproc"] > 1
    assert node_stats["runtime"]["imageFs"]["capacityBytes"] > 0
    async with api.get("/stats/summary?only_cpu_and_memory=true") as answer:
        assert set((await answer.json())["pods"][0]) == {
            "podRef", "startTime", "containers", "cpu", "memory", "swap",
        }  # fmt: skip


async def test_metrics_carry_the_names_that_dashboards_use(node: Any, api: Any, until: Any) -> None:
    probe = {"exec": {"command": ["true"]}}
    limits = {"limits": {"cpu": "1"}}
    container = {"name": "app", "command": ["sleep", "1000"], "resources": limits, "readinessProbe": probe}
    spec = {"containers": [container]}
    worker = node.run(node.pod("idle", spec))
    await until(lambda: worker.probed)
    async with api.get("/metrics/resource") as answer:
        text = await answer.text()
    found = {s.name: s for f in text_string_to_metric_families(text) for s in f.samples}
    labels = {"namespace": "default", "pod": "idle"}
    assert found["pod_cpu_usage_seconds_total"].labels == labels
    assert found["container_memory_working_set_bytes"].labels == {"container": "app", **labels}
    assert found["container_memory_working_set_bytes"].value > 0
    assert abs(found["container_start_time_seconds"].value - time.time()) < 60
    assert found["resource_scrape_error"].value == 0 and found["node_cpu_usage_seconds_total"].value > 0
    async with api.get("/metrics/cadvisor") as answer:
        samples = [s for f in text_string_to_metric_families(await answer.text()) for s in f.samples]
    of_app = {s.name: s for s in samples if s.labels.get("container") == "app"}
    for name in (
        "container_cpu_usage_seconds_total", "container_memory_rss", "container_memory_cache",
        "container_memory_failures_total", "container_fs_usage_bytes", "container_cpu_cfs_periods_total",
        "container_spec_memory_limit_bytes", "container_processes", "container_last_seen",
        # What Kubernetes' own node conformance test (ContainerMetrics) asks for beyond that.
        "container_blkio_device_usage_total", "container_file_descriptors", "container_fs_reads_bytes_total",
        "container_fs_reads_total", "container_fs_writes_bytes_total", "container_fs_writes_total",
        "container_memory_failcnt_total", "container_memory_max_usage_bytes", "container_oom_events_total",
        "container_sockets", "container_spec_cpu_period", "container_spec_cpu_shares", "container_threads_max",
        "container_spec_memory_reservation_limit_bytes", "container_spec_memory_swap_limit_bytes",
        "container_start_time_seconds", "container_ulimits_soft",
    ):  # fmt: skip
        assert of_app[name].labels["pod"] == "idle", name
    assert of_app["container_cpu_usage_seconds_total"].labels["cpu"] == "total"
    assert of_app["container_file_descriptors"].value >= 3 and of_app["container_ulimits_soft"].value > 100
    # Nobody has bound its memory, whatever the groups above are bound to; the machine is bound by what it has.
    assert of_app["container_spec_memory_limit_bytes"].value == 0
    of_node = {s.name: s for s in samples if s.labels.get("id") == "/"}
    assert of_node["container_spec_memory_limit_bytes"].value == meminfo()["MemTotal"]
    assert of_node["container_fs_limit_bytes"].labels["device"] not in ("", "nodefs")
    async with api.get("/metrics") as answer:
        own = {
            (s.name, *s.labels.values()): s.value
            for f in text_string_to_metric_families(await answer.text())
            for s in f.samples
        }
    assert own["kubelet_running_pods",] == 1 and own["kubelet_running_containers", "running"] == 1
    assert own["kubelet_node_name", "node-1"] == 1 and own["kubelet_pod_start_duration_seconds_count",] >= 1
    assert own["kubelet_runtime_operations_total", "run_podsandbox"] >= 1
    assert own["kubelet_runtime_operations_duration_seconds_count", "create_container"] >= 1
    assert own["kubelet_started_containers_total", "container"] >= 1
    assert own["kubelet_http_requests_total", "false", "GET", "metrics/cadvisor", "readwrite"] >= 1
    assert own["kubelet_http_inflight_requests", "false", "GET", "metrics", "readwrite"] == 1
    assert own["kubelet_pod_status_sync_duration_seconds_count",] >= 1
    assert own["kubelet_working_pods", "desired", "sync", ""] == 1 and own["kubelet_mirror_pods",] == 0
    async with api.get("/metrics/probes") as answer:
        text = await answer.text()
    by_name = {s.name: s for f in text_string_to_metric_families(text) for s in f.samples}
    probed, took = by_name["prober_probe_total"], by_name["prober_probe_duration_seconds_count"]
    assert (probed.labels["probe_type"], probed.labels["result"]) == ("Readiness", "successful")
    assert took.labels == {"probe_type": "Readiness", "container": "app", **labels} and took.value >= 1
    assert abs(by_name["process_start_time_seconds"].value - time.time()) < 120
    network = [s for s in samples if s.name == "container_network_receive_bytes_total"]
    assert [s.labels["interface"] for s in network if s.labels["pod"] == "idle"] == ["eth0"]
    assert [s for s in samples if s.name == "container_memory_usage_bytes" and s.labels["id"] == "/"]
    assert [s.value for s in samples if s.name == "machine_cpu_cores"] == [os.cpu_count()]


async def test_nobody_is_anonymous_and_permission_is_asked(api: Any) -> None:
    async with api.get("/pods", headers={"Authorization": ""}) as answer:
        assert answer.status == 401
    async with api.get("/pods", headers={"Authorization": "Bearer unknown"}) as answer:
        assert answer.status == 401
    async with api.get("/stats/summary", headers={"Authorization": "Bearer weak"}) as answer:
        assert answer.status == 403
        words = "Forbidden (user=weak, verb=get, resource=nodes, subresource(s)=[stats])"
        assert await answer.text() == words
    async with api.get("/healthz") as answer:
        assert answer.status == 200
    asked = [b["spec"]["resourceAttributes"] for b in api.reviews.asked if b["kind"] == "SubjectAccessReview"]
    assert asked[0]["subresource"] == "stats" and asked[0]["verb"] == "get" and asked[0]["name"] == "node-1"
