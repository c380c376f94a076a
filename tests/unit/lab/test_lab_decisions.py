"""Pre-flight verdicts, unit definitions, restart delays, the command line: what the lab decides before it acts."""

from __future__ import annotations

import dataclasses
import signal
from pathlib import Path

import pytest

from bamikube.kit.options import parse_options
from bamikube.lab import kubelet
from bamikube.lab import main as lab_main
from bamikube.lab.hostnet import ruleset
from bamikube.lab.nodefiles import containerd_config, fill, node_config
from bamikube.lab.nodeinit import Supervisor, Unit, backoff, exit_text
from bamikube.lab.preflight import Facts, judge
from bamikube.lab.topology import LabPaths, Topology, UnknownNode
from bamikube.lab.units import units_for
from bamikube.nodeagent.options import NodeAgentOptions

TOPOLOGY = Topology()
GOOD = Facts(
    root=True,
    missing=(),
    loopback_plugin=True,
    cgroups=("cpu", "memory", "pids"),
    foreign_bridge=False,
    network_user="",
    free_bytes=100 << 30,
    forward_dropped=False,
    filesystems=("ext4", "overlay"),
)


def test_a_good_machine_has_no_problems() -> None:
    assert judge(GOOD, TOPOLOGY) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"root": False}, "sudo"),
        ({"missing": ("etcd", "nft")}, "etcd-server nftables"),
        ({"loopback_plugin": False}, "containernetworking-plugins"),
        ({"cgroups": ("cpu",)}, "memory, pids"),
        ({"foreign_bridge": True}, "bami0"),
        ({"network_user": "eth7"}, "eth7"),
        ({"free_bytes": 5 << 20}, "--lab-dir"),
        ({"filesystems": ("ext4",)}, "modprobe overlay"),
    ],
)
def test_each_problem_says_what_to_do(change: dict[str, object], said: str) -> None:
    problems = judge(dataclasses.replace(GOOD, **change), TOPOLOGY)  # type: ignore[arg-type]
    assert len(problems) == 1
    assert not problems[0].warning
    assert said in problems[0].what + problems[0].do


def test_all_problems_are_told_at_once_and_a_firewall_is_a_warning() -> None:
    problems = judge(dataclasses.replace(GOOD, root=False, network_user="x", forward_dropped=True), TOPOLOGY)
    assert [problem.warning for problem in problems] == [False, False, True]


def test_units_of_a_node() -> None:
    paths = LabPaths.at(Path("/somewhere/.lab"))
    master = [unit.name for unit in units_for(TOPOLOGY.master, TOPOLOGY, paths)]
    worker = [unit.name for unit in units_for(TOPOLOGY.node("worker-2"), TOPOLOGY, paths)]
    assert worker == ["containerd", "registry", "network", "nodeagent", "proxy"]
    assert set(master) == {*worker, "etcd", "apiserver", "controllers", "scheduler", "dns"}
    config = node_config(TOPOLOGY.node("worker-1"), TOPOLOGY, paths)
    assert config["cgroup"] == "bamikube/worker-1"
    assert config["hosts"]["10.99.0.10"] == "master"


def test_node_agents_are_configured_by_a_file_and_by_what_is_laid_over_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = LabPaths.at(tmp_path).node("worker-1")
    kubelet.write(own, TOPOLOGY)
    mine = tmp_path / "mine.yaml"
    mine.write_text("apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\nmaxPods: 30\n")
    kubelet.give(own, kubelet.checked(mine))
    found = parse_options(
        NodeAgentOptions,
        [f"--config={own.kubernetes / kubelet.FILE}", f"--config-dir={own.kubernetes / kubelet.FOLDER}"],
        "bamikube-nodeagent",
    )
    assert (found.max_pods, found.fail_swap_on, found.cluster_dns) == (30, False, [TOPOLOGY.dns_address])
    assert found.eviction_hard["memory.available"] == "50Mi" and found.healthz_port == 10248
    mine.write_text("apiVersion: v1\nkind: Pod\n")
    with pytest.raises(kubelet.NotAConfiguration, match=r"^--kubelet-config .*mine.yaml: apiVersion 'v1'"):
        kubelet.checked(mine)
    with pytest.raises(kubelet.NotAConfiguration, match="No such file"):
        kubelet.checked(tmp_path / "none")
    mine.write_text("max-pods: 3\n")
    with pytest.raises(kubelet.NotAConfiguration, match="its kind is not KubeletConfiguration"):
        kubelet.checked(mine)
    mine.write_text("apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\nmaxPods: many\n")
    with pytest.raises(SystemExit):
        kubelet.checked(mine)
    assert "maxPods (--max-pods): Input should be a valid integer" in capsys.readouterr().err


def test_unknown_nodes_are_refused_with_the_names_there_are() -> None:
    with pytest.raises(UnknownNode, match=r"worker-9.*master, worker-1, worker-2"):
        TOPOLOGY.node("worker-9")


def test_templates_are_filled_completely() -> None:
    assert fill("a=@A@ b=@B@", {"A": "1", "B": "2"}) == "a=1 b=2"
    assert "@" not in containerd_config().replace("@NAMES@", "")


def test_the_table_replaces_itself() -> None:
    text = ruleset(TOPOLOGY)
    assert text.startswith("table ip bamikube-lab\ndelete table ip bamikube-lab\n")


def test_restart_delays_grow_and_stop_growing() -> None:
    assert [backoff(n) for n in (0, 1, 2, 3, 20)] == [0.0, 0.2, 0.4, 0.8, 10.0]


def test_exit_statuses_in_words() -> None:
    assert exit_text(signal.SIGKILL) == "killed by SIGKILL"
    assert exit_text(3 << 8) == "exit status 3"


class StandingClock:
    """Time moves when the test says so."""

    def __init__(self) -> None:
        self.time = 100.0

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        self.time += seconds


def reap_one(supervisor: Supervisor, unit: Unit) -> None:
    import time

    deadline = time.monotonic() + 10
    while unit.pid and time.monotonic() < deadline:
        supervisor.reap()


def test_a_unit_is_restarted_after_its_delay_and_the_restart_is_counted(tmp_path: Path) -> None:
    clock = StandingClock()
    written: list[bytes] = []
    unit = Unit("short", ["sh", "-c", "echo said; exit 3"])
    supervisor = Supervisor(
        [unit], tmp_path, tmp_path / "status", clock, lambda path, data: written.append(data)
    )
    assert supervisor.start_due()
    reap_one(supervisor, unit)
    assert unit.last_exit == "exit status 3"
    assert not supervisor.start_due(), "the delay has not passed"
    clock.time += 0.25
    assert supervisor.start_due()
    assert unit.restarts == 1
    reap_one(supervisor, unit)
    assert supervisor.wait_seconds() == pytest.approx(0.4)
    clock.time += 0.5
    supervisor.start_due()
    clock.time += 40
    reap_one(supervisor, unit)
    assert unit.failures == 1, "it ran long enough to be forgiven"
    supervisor.publish()
    assert b'"restarts": 2' in written[-1]
    assert (tmp_path / "short.log").read_text() == "said\n" * 3


def test_a_unit_waits_for_its_files(tmp_path: Path) -> None:
    clock = StandingClock()
    unit = Unit("late", ["true"], after_files=[str(tmp_path / "there")])
    supervisor = Supervisor([unit], tmp_path, tmp_path / "status", clock, lambda path, data: None)
    assert not supervisor.start_due()
    (tmp_path / "there").touch()
    clock.time += 1
    assert supervisor.start_due()
    reap_one(supervisor, unit)


def test_large_logs_are_cut(tmp_path: Path) -> None:
    unit = Unit("talker", ["true"])
    supervisor = Supervisor([unit], tmp_path, tmp_path / "s", StandingClock(), lambda path, data: None)
    log = tmp_path / "talker.log"
    log.write_bytes(b"x" * (17 << 20))
    supervisor.rotate_logs()
    assert log.stat().st_size == 0
    assert (tmp_path / "talker.log.1").stat().st_size == 17 << 20


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["node", "crash", "worker-9"], "worker-9"),
        (["node", "crash", "worker-1"], "does not run"),
        (["logs", "master", "nothing"], "no unit"),
        (["image", "load", "/nowhere.tar"], "/nowhere.tar"),
    ],
)
def test_bad_input_is_answered_in_one_line(
    words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert lab_main.main(["--lab-dir", str(tmp_path / "lab"), *words]) == 1
    error = capsys.readouterr().err
    assert said in error
    assert "Traceback" not in error


def test_kubeconfig_prints_its_path(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert lab_main.main(["--lab-dir", str(tmp_path / "lab"), "kubeconfig"]) == 1
    assert capsys.readouterr().out.strip() == str(tmp_path / "lab" / "kubeconfig")


def test_help_names_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        lab_main.main(["--help"])
    text = capsys.readouterr().out
    for verb in ("up", "down", "status", "logs", "node", "image", "kubeconfig", "etcd", "certs"):
        assert verb in text
