"""What is read from cgroups and /proc, and how it is told."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from bamikube.kit.metrics import REGISTRY
from bamikube.kit.tallies import Series
from bamikube.kit.world import World
from bamikube.nodeagent.figures import image_size, runtime_operation
from bamikube.nodeagent.node import certificates
from bamikube.nodeagent.node.facts import meminfo
from bamikube.nodeagent.pod.state import Memory, PendingResize, RuntimeState
from bamikube.nodeagent.runtime.port import Container, LayerUsage, Sandbox
from bamikube.nodeagent.stats import processes, system
from bamikube.nodeagent.stats.cadvisor import Processor, cadvisor_metrics
from bamikube.nodeagent.stats.disks import Disk, Taken, device_of, taken
from bamikube.nodeagent.stats.groups import DeviceUse, Figures, Groups, Pressure, Stall, children
from bamikube.nodeagent.stats.network import interfaces
from bamikube.nodeagent.stats.own import Standing, own_metrics, probe_metrics
from bamikube.nodeagent.stats.resource import resource_metrics
from bamikube.nodeagent.stats.sampler import Files, Sample, Sampler
from bamikube.nodeagent.stats.subjects import Subject, subjects
from bamikube.nodeagent.stats.summary import summary
from bamikube.pki.authority import Authority
from tests.unit.nodeagent.test_eviction import Turned

NET = """Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:     100       1    0    0    0     0          0         0      100       1    0    0    0     0       0          0
  eth0: 5000      40    1    2    0     0          0         0    7000      50    3    4    0     0       0          0
vethab: 9 9 0 0 0 0 0 0 9 9 0 0 0 0 0 0
"""


def write(base: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = base / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_version_1_cgroups(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "cpuacct/p/c/cpuacct.usage": "2500000000\n",
            "cpuacct/p/c/cpuacct.stat": "user 150\nsystem 50\n",
            "cpu/p/c/cpu.stat": "nr_periods 9\nnr_throttled 3\nthrottled_time 77\n",
            "cpu/p/c/cpu.shares": "512\n",
            "cpu/p/c/cpu.cfs_quota_us": "-1\n",
            "cpu/p/c/cpu.cfs_period_us": "100000\n",
            "memory/p/c/memory.usage_in_bytes": "1000\n",
            "memory/p/c/memory.stat": "total_inactive_file 300\ntotal_rss 500\ntotal_cache 400\nhierarchical_memory_limit 5000\n",
            "memory/p/c/memory.limit_in_bytes": "9223372036854771712\n",
            "memory/p/c/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
            "memory/p/c/cgroup.procs": "10\n11\n",
            "blkio/p/c/blkio.throttle.io_service_bytes_recursive": "8:0 Read 10\n8:0 Write 20\n8:0 Total 30\nTotal 30\n",
            "blkio/p/c/blkio.throttle.io_serviced_recursive": "8:0 Read 1\n8:0 Write 2\nTotal 3\n",
            "pids/p/c/pids.current": "4\n",
            "pids/p/c/pids.max": "max\n",
        },
    )
    groups = Groups(tmp_path, str(tmp_path))
    found = groups.read("/p/c", 5.0, detailed=True)
    assert found == Figures(
        5.0, cpu=2_500_000_000, memory=1000, working_set=700, rss=500, cache=400, user=1_500_000_000,
        system=500_000_000, periods=9, throttled=3, throttled_time=77, shares=512, period=100_000,
        oom_kills=2, processes=(10, 11), threads=4, devices=(DeviceUse("8:0", 10, 20, 1, 2),),
    )  # fmt: skip
    assert groups.read("/none", 5.0) is None and groups.processes("/p/c") == (10, 11)


def test_version_2_cgroups(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "cgroup.controllers": "cpu memory",
            "p/cpu.stat": "usage_usec 1000\nuser_usec 600\nsystem_usec 400\nnr_throttled 1\nthrottled_usec 5\n",
            "p/cpu.max": "50000 100000\n",
            "p/cpu.weight": "100\n",
            "p/memory.current": "900\n",
            "p/memory.max": "2000\n",
            "p/memory.swap.max": "500\n",
            "p/memory.stat": "anon 400\nfile 450\ninactive_file 100\npgfault 7\n",
            "p/memory.events": "max 3\noom_kill 1\n",
            "p/cpu.pressure": "some avg10=1.50 avg60=0.00 avg300=0.00 total=7\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=3\n",
            "p/io.stat": "8:0 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=0 dios=0\n",
        },
    )
    found = Groups(tmp_path).read("/p", 1.0, detailed=True)
    assert found is not None
    assert (found.cpu, found.user, found.throttled_time) == (1_000_000, 600_000, 5_000)
    assert (found.working_set, found.rss, found.limit, found.swap_limit) == (800, 400, 2000, 2500)
    assert found.devices == (DeviceUse("8:0", 10, 20, 1, 2),)
    assert found.pressure == (Pressure("cpu", Stall(7, 1.5, 0.0, 0.0), Stall(3, 0.0, 0.0, 0.0)),)
    assert (found.quota, found.period, found.shares, found.failures, found.oom_kills) == (
        50000,
        100000,
        2597,
        3,
        1,
    )


def test_the_root_of_version_2_uses_what_is_not_free(tmp_path: Path) -> None:
    write(
        tmp_path, {"cgroup.controllers": "memory", "memory.stat": "anon 400\nfile 450\ninactive_file 100\n"}
    )
    found, memory = Groups(tmp_path).read("/", 1.0), meminfo()
    assert found is not None and found.memory > 1000
    assert abs(found.working_set - (memory["MemTotal"] - memory["MemFree"] - 100)) < 256 * 2**20


@pytest.mark.parametrize(
    ("parent", "systemd", "path", "form"),
    [
        ("/x/kubepods/burstable/podu", False, "/x/kubepods/burstable/podu", "/{}"),
        ("kubepods-podu_1.slice", True, "/kubepods.slice/kubepods-podu_1.slice", "/cri-containerd-{}.scope"),
    ],
)
def test_where_containers_cgroups_lie(parent: str, systemd: bool, path: str, form: str) -> None:
    assert children(parent, systemd) == (path, form)


def test_a_folder_is_counted_once(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 5000)
    (tmp_path / "b").hardlink_to(tmp_path / "a")
    (tmp_path / "s").symlink_to("/etc")
    found = taken(tmp_path)
    assert found.inodes == 3 and 8192 <= found.bytes <= 20480
    assert taken(tmp_path / "none") == Taken()


def test_processes_and_boot_are_read_from_proc() -> None:
    stat = "7 (odd ) name) S 1 7 7 0 -1 4194560 100 0 5 0 30 20 0 0 20 0 1 0 600 1000000 256 184"
    found = system.spent(stat)
    assert (found.cpu, found.faults, found.major, found.started) == (500_000_000, 100, 5, 600)
    assert found.memory == 256 * 4096
    assert system.booted("cpu  1 2\nbtime 1700000000\n") == 1.7e9


class Worker:
    """What is asked of a worker."""

    def __init__(self) -> None:
        self.pod: dict[str, Any] = {
            "metadata": {"name": "web", "namespace": "default", "uid": "u"},
            "spec": {
                "volumes": [
                    {"name": "data", "persistentVolumeClaim": {"claimName": "d"}},
                    {"name": "scratch", "emptyDir": {}},
                ]
            },
        }
        self.memory = Memory()
        self.status: dict[str, Any] = {"startTime": "2026-01-01T00:00:00Z"}
        running = Container("c1", "s1", "app", 0, "running", 10.0, image="nginx:1", started_at=11.0)
        ended = Container("c0", "s1", "app", 0, "exited", 10.0)
        self.state = RuntimeState((Sandbox("s1", "web", "default", "u", 0, True, 9.0),), (running, ended))


def sample() -> tuple[Sample, Files]:
    workers: Any = [Worker()]
    chosen = subjects(workers, lambda pod: "/kubepods/podu", False)
    found = Sample(100.0, chosen, memory={"MemTotal": 10_000, "SwapTotal": 50, "SwapFree": 40})
    found.figures = {
        "/": Figures(100.0, cpu=9_000_000_000, memory=5000, working_set=4000),
        "/kubepods": Figures(100.0, cpu=4, memory=4),
        "/kubepods/podu": Figures(100.0, cpu=2_000_000_000, memory=300, working_set=250),
        "/kubepods/podu/s1": Figures(100.0, cpu=1, processes=(1,)),
        "/kubepods/podu/c1": Figures(100.0, cpu=1_500_000_000, working_set=200, limit=1000, quota=5, period=10, processes=(2, 3), descriptors=9, sockets=3, open_files=-1, devices=(DeviceUse("8:0", 10, 20, 1, 2),), pressure=(Pressure("io", Stall(2_000_000, 1.0, 0.0, 0.0), Stall(0, 0.0, 0.0, 0.0)),)),
    }  # fmt: skip
    found.rates = {"/kubepods/podu/c1": 42}
    found.networks = {"": (), "u": interfaces(NET)}
    files = Files(node=Disk(1000, 600, 400, 100, 90), layers={"c1": LayerUsage("c1", 7, 2)})
    files.device_names = {"8:0": "/dev/sda"}
    files.logs = {("u", "app"): Taken(5, 1)}
    files.volumes = {
        ("u", "data"): (Disk(500, 100, 400, 10, 5), Taken(3, 1)),
        ("u", "scratch"): (Disk(1000, 600, 400, 100, 90), Taken(11, 4)),
    }
    return found, files


def test_the_summary_of_a_pod() -> None:
    found = summary(*sample(), "node-1", 5.0, {"maxpid": 9, "curproc": 3}, [{"name": "kubelet"}])
    (pod,) = found["pods"]
    (app,) = pod["containers"]
    assert app["cpu"]["usageNanoCores"] == 42 and app["memory"]["availableBytes"] == 800
    assert app["io"]["psi"]["some"]["total"] == 2_000_000 and "psi" not in app["cpu"] and "io" not in pod
    assert app["startTime"] == "1970-01-01T00:00:11Z" and pod["startTime"] == "1970-01-01T00:00:09Z"
    assert pod["memory"]["workingSetBytes"] == 250 and "availableBytes" not in pod["memory"]
    assert (pod["network"]["name"], pod["network"]["rxBytes"], pod["network"]["txErrors"]) == (
        "eth0",
        5000,
        3,
    )
    claimed, scratch = pod["volume"]
    assert claimed["pvcRef"] == {"name": "d", "namespace": "default"} and claimed["usedBytes"] == 400
    assert scratch["usedBytes"] == 11
    assert pod["ephemeral-storage"]["usedBytes"] == 7 + 5 + 11
    assert pod["process_stats"] == {"process_count": 3}
    node = found["node"]
    assert [c["name"] for c in node["systemContainers"]] == ["kubelet", "pods"]
    assert node["memory"]["availableBytes"] == 6000 and node["swap"]["swapUsageBytes"] == 10
    assert node["fs"]["inodesUsed"] == 10 and node["rlimit"]["maxpid"] == 9


def test_metrics_can_be_parsed_and_have_the_right_labels() -> None:
    found, files = sample()
    text = resource_metrics(found).decode()
    names = [f.name for f in text_string_to_metric_families(text)]
    assert names == sorted(names)
    line = 'container_cpu_usage_seconds_total{container="app",namespace="default",pod="web"} 1.5 100000'
    assert line in text.splitlines()
    assert 'container_start_time_seconds{container="app",namespace="default",pod="web"} 11' in text
    machine = Processor(4, 10_000, 50, "m", "s", "b", "6.1", 'Say "Linux"')
    samples = {
        (s.name, s.labels.get("id"), s.labels.get("interface")): s
        for f in text_string_to_metric_families(cadvisor_metrics(found, files, machine).decode())
        for s in f.samples
    }
    network = samples["container_network_receive_bytes_total", "/kubepods/podu/s1", "eth0"]
    assert (network.value, network.labels["pod"], network.labels["container"]) == (5000, "web", "")
    assert samples["container_cpu_cfs_periods_total", "/kubepods/podu/c1", None].labels["name"] == "c1"
    assert samples["container_fs_usage_bytes", "/kubepods/podu/c1", None].value == 7
    assert samples["machine_memory_bytes", None, None].value == 10_000
    assert samples["container_pressure_io_waiting_seconds_total", "/kubepods/podu/c1", None].value == 2.0
    written = samples["container_fs_writes_bytes_total", "/kubepods/podu/c1", None]
    assert (written.value, written.labels["device"]) == (20, "/dev/sda")
    blocks = samples["container_blkio_device_usage_total", "/kubepods/podu/c1", None]
    assert (blocks.value, blocks.labels["operation"], blocks.labels["major"]) == (20, "Write", "8")
    assert samples["container_ulimits_soft", "/kubepods/podu/c1", None].value == -1
    assert samples["container_sockets", "/kubepods/podu/c1", None].value == 3
    assert ("container_ulimits_soft", "/kubepods/podu/s1", None) not in samples


def test_a_container_that_has_not_touched_a_device_has_zeros() -> None:
    found, files = sample()
    found.figures["/kubepods/podu/c1"] = Figures(100.0)
    files.block, files.devices = "0:31", ("/dev/sda1", "overlay")
    text = cadvisor_metrics(found, files, Processor(4, 10_000, 50, "m", "s", "b", "6.1", "Linux")).decode()
    (read,) = (line for line in text.splitlines() if line.startswith("container_fs_reads_total{"))
    assert 'container="app",device="overlay"' in read and " 0 " in read
    assert 'major="0",minor="31"' in text


def test_what_processes_have_open(tmp_path: Path) -> None:
    for pid, targets in (("7", ("/dev/null", "socket:[1]", "pipe:[2]")), ("8", ("socket:[3]",))):
        (tmp_path / pid / "fd").mkdir(parents=True)
        for number, target in enumerate(targets):
            (tmp_path / pid / "fd" / str(number)).symlink_to(target)
    line = "Max open files            {}                 4096                 files\n"
    (tmp_path / "7" / "limits").write_text("Limit  Soft Limit\n" + line.format(1024))
    (tmp_path / "8" / "limits").write_text(line.format("unlimited"))
    assert processes.opened((7, 8, 9), str(tmp_path)) == (4, 2)
    assert [processes.most_open_files(pid, str(tmp_path)) for pid in (7, 8, 9)] == [
        1024,
        processes.UNLIMITED,
        None,
    ]


def test_a_pod_without_a_sandbox_is_no_subject() -> None:
    worker: Any = Worker()
    worker.state = RuntimeState()
    assert subjects([worker], lambda pod: "/x", False) == []
    assert Subject(worker.pod, "/x", "s", "/x/s", 1.0).groups() == ["/x", "/x/s"]


def test_the_node_agents_own_figures() -> None:
    found, files = sample()
    worker: Any = Worker()
    worker.probed, worker.uid, worker.absent = {("app", "Liveness", "failed"): 3}, "u", False
    worker.probes_took = {("app", "Readiness"): Series((0.1, 1.0))}
    worker.probes_took["app", "Readiness"].observe(0.5)
    static: Any = Worker()
    static.pod["metadata"]["annotations"] = {"kubernetes.io/config.source": "file"}
    static.pod["spec"] = {"ephemeralContainers": [{"name": "guest"}]}
    static.state, static.absent = RuntimeState(), True
    worker.memory.resize = PendingResize("Deferred", "", 2)
    standing = Standing(7.0, client_until=1000.5, mirrors=1)
    own = own_metrics("node-1", [worker, static], found.subjects, files, standing, 900.0).decode()
    for line in (
        'kubelet_node_name{node="node-1"} 1',
        "kubelet_running_pods 1",
        "kubelet_pleg_last_seen_seconds 7",
        "kubelet_certificate_manager_client_ttl_seconds 100",
        "kubelet_certificate_manager_server_ttl_seconds +Inf",
        "kubelet_mirror_pods 1",
        "kubelet_cgroup_version 1",
        "kubelet_managed_ephemeral_containers 1",
        "kubelet_pod_in_progress_resizes 0",
        'kubelet_pod_pending_resizes{reason="deferred"} 1',
        'kubelet_desired_pods{static=""} 1',
        'kubelet_desired_pods{static="true"} 0',
        'kubelet_active_pods{static=""} 1',
        'kubelet_active_pods{static="true"} 0',
        'kubelet_working_pods{config="desired",lifecycle="sync",static=""} 1',
        'kubelet_working_pods{config="orphan",lifecycle="terminating",static="true"} 1',
        'kubelet_working_pods{config="runtime_only",lifecycle="sync",static="unknown"} 0',
        'kubelet_running_containers{container_state="running"} 1',
        'kubelet_running_containers{container_state="exited"} 1',
        'kubelet_volume_stats_used_bytes{namespace="default",persistentvolumeclaim="d"} 400',
        'kubelet_container_log_filesystem_used_bytes{container="app",namespace="default",pod="web",uid="u"} 5',
    ):
        assert line in own.splitlines(), line
    probes = probe_metrics([worker], 5.0).decode().splitlines()
    labels = 'container="app",namespace="default",pod="web",pod_uid="u",probe_type="Liveness",result="failed"'
    assert f"prober_probe_total{{{labels}}} 3" in probes and "process_start_time_seconds 5" in probes
    labels = 'container="app",namespace="default",pod="web",probe_type="Readiness"'
    assert [line.removeprefix("prober_probe_duration_seconds") for line in probes if "duration" in line][
        2:
    ] == [
        f'_bucket{{container="app",le="0.1",{labels[16:]}}} 0',
        f'_bucket{{container="app",le="1",{labels[16:]}}} 1',
        f'_bucket{{container="app",le="+Inf",{labels[16:]}}} 1',
        f"_sum{{{labels}}} 0.5",
        f"_count{{{labels}}} 1",
    ]


def test_until_when_a_certificate_is_good(tmp_path: Path) -> None:
    world = World()
    (tmp_path / "ca").write_bytes(Authority.create("test", world, lifetime=3600).certificate_pem)
    assert 3500 < certificates.of_server(str(tmp_path / "ca")) - world.clock.now() <= 3600
    assert certificates.ends(b"") == certificates.UNUSED == certificates.ends(b"no certificate")


def test_what_a_file_system_lies_on(tmp_path: Path) -> None:
    number = os.stat(tmp_path).st_dev
    mine = f"{os.major(number)}:{os.minor(number)}"
    table = tmp_path / "mountinfo"
    for about, device in (("ext4 /dev/sda1 rw", "/dev/sda1"), ("overlay overlay rw,lowerdir=/l", "overlay")):
        table.write_text(f"20 1 0:999 / /proc rw - proc proc rw\n21 1 {mine} / / rw shared:1 - {about}\n")
        assert device_of(tmp_path, table) == device
    assert device_of(tmp_path / "none", table) == ""


def test_calls_of_the_runtime_are_counted_under_the_kubelets_words() -> None:
    for request, word in (("RunPodSandboxRequest", "run_podsandbox"), ("ExecSyncRequest", "exec_sync"), ("ImageFsInfoRequest", "image_fs_info"), ("UpdateContainerResourcesRequest", "update_container"), ("VersionRequest", "version")):  # fmt: skip
        before = REGISTRY.get_sample_value("kubelet_runtime_operations_total", {"operation_type": word}) or 0
        with runtime_operation(request):
            pass
        after = REGISTRY.get_sample_value("kubelet_runtime_operations_total", {"operation_type": word})
        assert after == before + 1
    assert [image_size(n * 2**20) for n in (1, 50, 700, 10**6)] == [
        "0-10MB",
        "10MB-100MB",
        "500MB-1GB",
        "GT100GB",
    ]


class Hanging:
    """A runtime that never answers; it counts how often it is asked."""

    def __init__(self) -> None:
        self.asked = 0

    async def image_filesystem(self) -> tuple[str, int]:
        self.asked += 1
        await asyncio.Event().wait()
        return "", 0


async def test_a_runtime_that_hangs_does_not_hang_those_who_ask_us(tmp_path: Path) -> None:
    runtime: Any = Hanging()
    sampler = Sampler(World(), runtime, list, tmp_path, lambda s: "", lambda uid: {}, Groups(tmp_path))
    sampler.patience = 0.05
    async with asyncio.timeout(5):
        files = [await sampler.files() for _ in range(3)]
    assert files[0].node.capacity > 0 and runtime.asked == 1


class Quick:
    """A runtime that answers at once."""

    async def image_filesystem(self) -> tuple[str, int]:
        return "/nowhere/that/we/see", 7

    async def layers(self) -> list[LayerUsage]:
        return []


async def test_files_are_counted_as_often_as_that_is_cheap(tmp_path: Path) -> None:
    runtime: Any = Quick()
    world, counts, costs = World(Turned(1000.0)), [], [0.0]
    sampler = Sampler(world, runtime, list, tmp_path, lambda s: "", lambda uid: {}, Groups(tmp_path))

    def count(chosen: list[Subject], images: str) -> Files:
        counts.append(world.clock.now())
        world.clock.time += costs[0]  # type: ignore[attr-defined]
        return Files()

    sampler._count = count  # type: ignore[method-assign]
    for cost, pause in ((0.01, 10.0), (0.2, 40.0), (10.0, 60.0)):
        sampler._counted, counts[:], costs[0] = float("-inf"), [], cost
        await sampler.files()
        begun = counts[0]
        for _ in range(200):
            world.clock.time += 1.0  # type: ignore[attr-defined]
            await sampler.files()
            if len(counts) == 2:
                break
        assert counts[1] - begun == pytest.approx(pause, abs=2.0)
    room = await sampler.room()
    assert room.node.capacity > 0 and room.images == Disk() and not room.dedicated
