"""Up, down, status, and what can be done to a node: the lab's verbs.

``up`` is a list of steps that are each fine to repeat, so an ``up`` that was interrupted is simply run again; ``down``
removes whatever of them it finds.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import orjson
from rich.console import Console
from rich.table import Table

from bamikube.kit.clock import SystemClock
from bamikube.kit.world import World
from bamikube.lab import cgroups, cluster, hostnet, kubelet, launch, machine, nodefiles, preflight
from bamikube.lab.images.build import build_all
from bamikube.lab.images.store import ImageStore
from bamikube.lab.topology import MACHINE_STATE, LabPaths, Node, Topology
from bamikube.pki import issue, kubeconfig
from bamikube.pki.profiles import ClusterNames, NodeNames

# A unit that ended this often in a row, never living for long, will not recover by itself.
HOPELESS_FAILURES = 8
LOG_LINES = 12


class LabError(RuntimeError):
    """A verb could not be carried out; the message is for the person at the terminal."""


class Lab:
    """One lab: its names, its folder, and where to print."""

    def __init__(self, topology: Topology, paths: LabPaths, console: Console) -> None:
        self.topology = topology
        self.paths = paths
        self.console = console
        self._begin = time.monotonic()

    # -- up -----------------------------------------------------------------------------------------------------------

    def up(
        self,
        *,
        seconds: float = 120.0,
        refresh_images: bool = False,
        kubelet_config: Path | None = None,
    ) -> int:
        """Bring the whole lab up and wait until every node is Ready. ``kubelet_config``: a KubeletConfiguration for its node agents."""
        given = kubelet.checked(kubelet_config) if kubelet_config is not None else None
        with machine.changing():
            running = [node for node in self.topology.nodes if self.pid(node)]
            if len(running) == len(self.topology.nodes):
                self._configure(given, running)
                return self._already(seconds)
            machine.refuse_other(self.paths, self.topology)
            self._clear_dead_lab()
            self._check()
            machine.remember(self.paths)
            self.paths.root.mkdir(parents=True, exist_ok=True)
            self._images(refresh_images)
            self._certificates()
            self._configure(given, running)
            hostnet.set_up(self.topology, MACHINE_STATE)
            for node in self.topology.nodes:
                if node not in running:
                    self._launch(node)
            self._step("nodes", ", ".join(f"{node.name} {node.address}" for node in self.topology.nodes))
            self._wait(seconds)
        self._farewell()
        return 0

    def _already(self, seconds: float) -> int:
        self.console.print("The lab already runs:")
        self._wait(seconds, quiet=True)
        self.status()
        return 0

    def _clear_dead_lab(self) -> None:
        """Take away what a lab of another folder left in the kernel when it was killed; its folder is not touched."""
        other = machine.other(self.paths)
        orphaned = machine.current() is None and hostnet.is_labs(self.topology.bridge)
        if other is None and not orphaned:
            return
        self._end_processes()
        hostnet.remove(self.topology, MACHINE_STATE)
        self._remove_cgroups()
        machine.forget()
        whose = f"the lab at {other}, which no longer runs" if other else "an earlier lab"
        self._step("left over", f"links, rules and cgroups of {whose}: removed")

    def _end_processes(self) -> None:
        """Kill whatever still runs in the lab's cgroup: a lab whose folder was deleted cannot be asked for its nodes."""
        deadline = time.monotonic() + 10.0
        while (
            pids := cgroups.processes(self.topology.cgroup) - {os.getpid()}
        ) and time.monotonic() < deadline:
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.02)

    def _remove_cgroups(self) -> None:
        deadline = time.monotonic() + 5.0
        while cgroups.remove(self.topology.cgroup) and time.monotonic() < deadline:
            time.sleep(0.05)

    def _check(self) -> None:
        own = machine.current() == self.paths.root or not hostnet.exists(self.topology.bridge)
        facts = preflight.look(self.topology, self.paths, own=own)
        problems = preflight.judge(facts, self.topology)
        for problem in problems:
            kind = "[yellow]warning[/]" if problem.warning else "[red]problem[/]"
            self.console.print(
                f"{kind}: {problem.what}\n         do: {problem.do}", soft_wrap=True, highlight=False
            )
        if any(not problem.warning for problem in problems):
            raise LabError("this machine cannot run the lab yet; see above")

    def _images(self, refresh: bool) -> None:
        store = ImageStore(self.paths.built_images)
        made = build_all(store, self.paths.cache, lambda text: self._step("", text), refresh=refresh)
        self._step("images", f"{made} made" if made else f"{len(store.names())} names, nothing to make")

    def _certificates(self) -> None:
        names = ClusterNames(
            server=self.topology.api, domain=self.topology.domain, api_sans=(self.topology.gateway,)
        )
        folders = {node.name: self.paths.node(node.name).kubernetes for node in self.topology.nodes}
        ordered = sorted(self.topology.nodes, key=lambda node: not node.control_plane)
        nodes = [NodeNames(name=node.name, address=node.address) for node in ordered]
        for folder in folders.values():
            folder.mkdir(parents=True, exist_ok=True)
        outcomes = issue.issue_all(folders, names, nodes, World())
        made = sum(1 for each in outcomes.values() for outcome in each if outcome.action != "kept")
        admin = kubeconfig.read(folders[self.topology.master.name] / "admin.conf")
        kubeconfig.write(self.paths.kubeconfig, with_context(admin, names.name))
        self._step("certificates", f"{made} issued" if made else "all valid")

    def _configure(self, given: str | None, running: list[Node]) -> None:
        """Give the node agents a configuration; those that run begin anew, their containers do not notice."""
        if given is None:
            return
        for node in self.topology.nodes:
            kubelet.give(self.paths.node(node.name), given)
            if node in running:
                self.restart_unit(node, "nodeagent")
        self._step("node agents", "have the configuration given")

    def _launch(self, node: Node) -> None:
        own = self.paths.node(node.name)
        launch.kill(own)
        nodefiles.make_cgroups(node, self.topology)
        nodefiles.prepare(node, self.topology, self.paths)
        pid = launch.launch(own)
        hostnet.connect(node, self.topology, pid)

    def _wait(self, seconds: float, *, quiet: bool = False) -> None:
        def say(what: str, how: str) -> None:
            if not quiet:
                self._step(what, how)

        wanted = [node.name for node in self.topology.nodes]
        try:
            asyncio.run(
                cluster.wait_ready(
                    self.paths, self.topology, wanted, seconds=seconds, say=say, broken=self._broken
                )
            )
        except cluster.NotReady as error:
            self._explain()
            raise LabError(
                f"the cluster is not ready: {error}\n"
                "The lab is left as it is, to be looked at: bamikube status, bamikube logs NODE UNIT. "
                "Try again with 'bamikube up', or start over: bamikube down, bamikube up."
            ) from error

    def _broken(self) -> str:
        for node in self.topology.nodes:
            if not self.pid(node):
                return f"node {node.name} ended by itself; see {self.paths.node(node.name).logs / 'init.log'}"
            for name, unit in self.units(node).items():
                if unit["state"] != "running" and unit["failures"] >= HOPELESS_FAILURES:
                    return f"{name} on {node.name} does not stay up ({unit['lastExit']})"
        return ""

    def _explain(self) -> None:
        """The last words of every unit that is not running or had to be restarted."""
        for node in self.topology.nodes:
            for name, unit in self.units(node).items():
                if unit["state"] == "running" and not unit["restarts"]:
                    continue
                self.console.print(
                    f"[red]{node.name}/{name}[/]: {unit['state']}, {unit['restarts']} restarts, {unit['lastExit']}"
                )
                for line in tail(self.paths.node(node.name).logs / f"{name}.log", LOG_LINES):
                    self.console.print(f"    {line}", markup=False, highlight=False, soft_wrap=True)

    def _farewell(self) -> None:
        path = self.paths.kubeconfig
        self.console.print(
            f"\n[green]The cluster is ready[/] after {time.monotonic() - self._begin:.1f} s: {self.topology.api}\n\n"
            f"  export KUBECONFIG={path}\n"
            "  kubectl get nodes -o wide\n"
            "  kubectl create deployment web --image=nginx --replicas=3\n",
            soft_wrap=True,
            highlight=False,
        )

    def _step(self, what: str, how: str) -> None:
        seconds = time.monotonic() - self._begin
        self.console.print(f"[dim]{seconds:6.1f} s[/]  {what:<13} {how}", soft_wrap=True, highlight=False)

    # -- down -----------------------------------------------------------------------------------------------------------

    def down(self) -> int:
        """Remove everything the lab made, but its caches."""
        with machine.changing():
            machine.refuse_other(self.paths, self.topology)
            ran = False
            for node in self.topology.nodes:
                ran |= launch.kill(self.paths.node(node.name))
            there = ran or self.paths.root.exists() or hostnet.exists(self.topology.bridge)
            self._end_processes()
            hostnet.remove(self.topology, MACHINE_STATE)
            self._remove_cgroups()
            if self.paths.root.is_dir():
                shutil.rmtree(self.paths.root)
            machine.forget()
            left = leftovers(self.topology, self.paths)
        if left:
            raise LabError(
                "could not remove everything:\n  " + "\n  ".join(left) + "\nRun 'bamikube down' again."
            )
        self.console.print("The lab is gone." if there else "No lab runs here.")
        return 0

    # -- status, logs -------------------------------------------------------------------------------------------------

    def pid(self, node: Node) -> int:
        """The machine's pid of the node's first process; 0 if it does not run."""
        return launch.running_pid(self.paths.node(node.name))

    def units(self, node: Node) -> dict[str, dict[str, Any]]:
        """What the node's init says about its units."""
        try:
            return dict(orjson.loads(self.paths.node(node.name).status.read_bytes())["units"])
        except (OSError, orjson.JSONDecodeError, KeyError):
            return {}

    def describe(self) -> dict[str, Any]:
        """The lab's state as a document (``bamikube status -o json``); pids are the machine's."""
        states = (
            asyncio.run(cluster.node_states(self.paths)) if any(map(self.pid, self.topology.nodes)) else None
        )
        nodes = []
        for node in self.topology.nodes:
            pid = self.pid(node)
            inside = launch.members(launch.pid_namespace(pid)) if pid else {}
            units = {
                name: {
                    **unit,
                    "pid": inside.get(unit["pid"], 0) if pid else 0,
                    "state": unit["state"] if pid else "stopped",
                }
                for name, unit in self.units(node).items()
            }
            machine_state = (
                "running" if pid and hostnet.is_plugged(node) else ("partitioned" if pid else "stopped")
            )
            nodes.append(
                {
                    "name": node.name,
                    "address": node.address,
                    "roles": list(node.roles),
                    "state": machine_state,
                    "pid": pid,
                    "kubernetes": (states or {}).get(node.name, "Unknown"),
                    "units": units,
                }
            )
        return {
            "folder": str(self.paths.root),
            "kubeconfig": str(self.paths.kubeconfig),
            "api": {"url": self.topology.api, "answers": states is not None},
            "nodes": nodes,
        }

    def status(self, output: str = "") -> int:
        """Print the lab's state. Returns 0 if every node runs and every unit is up, else 1."""
        found = self.describe()
        healthy = all(
            node["state"] == "running" and all(unit["state"] == "running" for unit in node["units"].values())
            for node in found["nodes"]
        )
        if output == "json":
            self.console.print_json(orjson.dumps(found).decode())
            return 0 if healthy else 1
        if not any(node["pid"] for node in found["nodes"]) and not self.paths.root.exists():
            self.console.print("No lab runs here. Start one with 'make up' or 'bamikube up'.")
            return 1
        table = Table(box=None, pad_edge=False)
        for column in ("NODE", "ADDRESS", "MACHINE", "KUBERNETES", "UNIT", "STATE", "PID", "RESTARTS", "UP"):
            table.add_column(column, no_wrap=True)
        now = SystemClock().now()
        for node in found["nodes"]:
            head = (node["name"], node["address"], node["state"], node["kubernetes"])
            if not node["units"]:
                table.add_row(*head)
            for name, unit in node["units"].items():
                age = _age(now - unit["since"]) if unit["since"] and unit["state"] == "running" else "-"
                state = (
                    unit["state"]
                    if unit["state"] in ("running", "stopped")
                    else f"{unit['state']} ({unit['lastExit'] or 'not yet started'})"
                )
                table.add_row(*head, name, state, str(unit["pid"] or "-"), str(unit["restarts"]), age)
                head = ("", "", "", "")
        self.console.print(table)
        answers = "answers" if found["api"]["answers"] else "does not answer"
        self.console.print(
            f"\nAPI {found['api']['url']} {answers}; kubeconfig {found['kubeconfig']}", soft_wrap=True
        )
        return 0 if healthy else 1

    def logs(self, node: Node, unit: str, *, follow: bool, lines: int) -> int:
        """Print a unit's log, or the names of the logs there are."""
        folder = self.paths.node(node.name).logs
        names = sorted(path.stem for path in folder.glob("*.log"))
        if not unit:
            self.console.print("\n".join(names) or f"{node.name} has no logs yet")
            return 0
        if unit not in names:
            raise LabError(f"{node.name} has no unit {unit!r}; there are {', '.join(names) or 'none yet'}")
        command = ["tail", "-n", str(lines), *(["-F"] if follow else []), str(folder / f"{unit}.log")]
        self.console.file.flush()
        os.execvp(command[0], command)

    # -- a node's fate -------------------------------------------------------------------------------------------------

    def crash(self, node: Node) -> int:
        """Pull the plug: every process of the node is gone at once, its disk stays."""
        with machine.changing():
            if not self.pid(node):
                raise LabError(f"{node.name} does not run. Start it: bamikube node start {node.name}")
            with contextlib.suppress(hostnet.NetworkError):
                hostnet.unplug(node)
            launch.kill(self.paths.node(node.name))
            hostnet.pull_out(node)
            self._clear_cgroups(node)
        self.console.print(f"{node.name} has crashed. Bring it back: bamikube node start {node.name}")
        return 0

    def start(self, node: Node) -> int:
        """Switch a node on again, with the disk it had."""
        with machine.changing():
            if self.pid(node):
                self.console.print(f"{node.name} already runs")
                return 0
            if not self.paths.node(node.name).config.is_file():
                raise LabError(f"{node.name} was never part of a running lab. Start the lab: bamikube up")
            hostnet.set_up(self.topology, MACHINE_STATE)
            self._clear_cgroups(node)
            self._launch(node)
        self.console.print(f"{node.name} is starting")
        return 0

    def partition(self, node: Node) -> int:
        """Cut a node off from all others; it goes on running."""
        self._must_run(node)
        hostnet.unplug(node)
        self.console.print(f"{node.name} is cut off. Heal it: bamikube node heal {node.name}")
        return 0

    def heal(self, node: Node) -> int:
        self._must_run(node)
        hostnet.plug(node)
        self.console.print(f"{node.name} is connected")
        return 0

    def restart_unit(self, node: Node, unit: str) -> int:
        """End a unit's process; the node's init starts it again."""
        self._must_run(node)
        units = self.units(node)
        if unit not in units:
            raise LabError(f"{node.name} has no unit {unit!r}; there are {', '.join(units)}")
        inside = launch.members(launch.pid_namespace(self.pid(node)))
        pid = inside.get(units[unit]["pid"], 0)
        if pid:
            os.kill(pid, 15)
        self.console.print(f"{node.name}/{unit} is restarting")
        return 0

    def _must_run(self, node: Node) -> None:
        if not self.pid(node):
            raise LabError(f"{node.name} does not run. Start it: bamikube node start {node.name}")

    def _clear_cgroups(self, node: Node) -> None:
        deadline = time.monotonic() + 3.0
        while cgroups.remove(f"{self.topology.cgroup}/{node.name}") and time.monotonic() < deadline:
            time.sleep(0.02)


def with_context(config: dict[str, Any], name: str) -> dict[str, Any]:
    """A kubeconfig of one context, with that context called ``name``: what people type after ``--context``."""
    contexts = [{**entry, "name": name} for entry in config["contexts"]]
    return {**config, "contexts": contexts, "current-context": name}


def tail(path: Path, lines: int) -> list[str]:
    """The last lines of a log; empty if there is none."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:]
    except OSError:
        return []


def _age(seconds: float) -> str:
    whole = int(max(0.0, seconds))
    if whole < 120:
        return f"{whole}s"
    return f"{whole // 60}m" if whole < 7200 else f"{whole // 3600}h"


def leftovers(topology: Topology, paths: LabPaths) -> list[str]:
    """Whatever of a lab is still on this machine, in words; empty after a clean ``down``."""
    found = [
        f"link {link}"
        for link in (topology.bridge, *(node.link for node in topology.nodes))
        if hostnet.exists(link)
    ]
    if hostnet.table_exists(topology):
        found.append(f"nftables table {topology.table}")
    found += [f"cgroup {path}" for path in cgroups.existing(topology.cgroup)]
    if paths.root.exists():
        found.append(f"folder {paths.root}")
    if MACHINE_STATE.exists():
        found.append(f"folder {MACHINE_STATE}")
    mark = str(paths.root)
    with contextlib.suppress(OSError):
        found += [
            f"mount {line.split()[4]}"
            for line in Path("/proc/self/mountinfo").read_text().splitlines()
            if mark in line
        ]
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        with contextlib.suppress(OSError):
            command = (
                Path("/proc", name, "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            )
            if "bamikube.lab.nodeinit" in command and mark in command:
                found.append(f"process {name}: {command[:80]}")
    return found
