"""Starting and ending a node: a set of namespaces around one process.

``unshare`` makes the namespaces and stays as their launcher; its child is the node's PID 1
(:mod:`bamikube.lab.nodeinit`), and with ``--kill-child`` neither outlives the other. Killing that PID 1 takes every
process of the node with it, as pulling a machine's plug does.

A process is recognised by its pid *and* its start time, so that a pid that was used again is never taken for a node.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import orjson

from bamikube.lab.topology import NodePaths


class LaunchError(RuntimeError):
    """The node's first process did not come up."""


def start_time(pid: int) -> int:
    """Clock ticks since boot at which the process started; 0 if there is none (or only its remains)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except (OSError, IndexError):
        return 0
    return 0 if fields[0] in ("Z", "X") else int(fields[19])


def children(pid: int) -> list[int]:
    """Direct children of a process."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return [other for other in _pids() if _parent(other) == pid]


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
    except (OSError, IndexError):
        return 0


def launch(paths: NodePaths) -> int:
    """Start the node. Returns the machine's pid of its first process. Raises LaunchError."""
    command = [
        "unshare", "--net", "--uts", "--mount", "--pid", "--ipc", "--fork", "--kill-child=KILL", "--mount-proc",
        "--propagation", "private",
        sys.executable, "-m", "bamikube.lab.nodeinit", "--config", str(paths.config),
    ]  # fmt: skip
    paths.logs.mkdir(parents=True, exist_ok=True)
    paths.status.unlink(missing_ok=True)
    environment = dict(os.environ)
    source = str(Path(__file__).resolve().parents[2])
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, (source, environment.get("PYTHONPATH", ""))))
    with (paths.logs / "init.log").open("ab") as out, open(os.devnull, "rb") as nothing:
        launcher = subprocess.Popen(
            command, stdin=nothing, stdout=out, stderr=out, start_new_session=True, env=environment, cwd="/"
        )
    pid = _wait(lambda: next(iter(children(launcher.pid)), 0), 5.0)
    if not pid:
        said = (paths.logs / "init.log").read_text(errors="replace").strip().splitlines()[-3:]
        raise LaunchError("cannot make namespaces: " + ("; ".join(said) or "unshare ended without a word"))
    paths.launcher.write_bytes(
        orjson.dumps(
            {
                "launcher": launcher.pid,
                "pid": pid,
                "start": start_time(pid),
                "launcherStart": start_time(launcher.pid),
            }
        )
    )
    return pid


def _wait(look: Callable[[], int], seconds: float) -> int:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := look():
            return found
        time.sleep(0.002)
    return 0


def running_pid(paths: NodePaths) -> int:
    """The machine's pid of the node's first process; 0 if the node does not run."""
    try:
        known = orjson.loads(paths.launcher.read_bytes())
    except (OSError, orjson.JSONDecodeError):
        return 0
    pid = int(known["pid"])
    return pid if pid and start_time(pid) == known["start"] else 0


def kill(paths: NodePaths, seconds: float = 10.0) -> bool:
    """End the node at once, with all its processes. Returns whether it ran."""
    pid = running_pid(paths)
    if pid:
        namespace = pid_namespace(pid)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        _wait(lambda: not members(namespace), seconds)
    with contextlib.suppress(OSError, KeyError, orjson.JSONDecodeError):
        known = orjson.loads(paths.launcher.read_bytes())
        launcher = int(known["launcher"])
        if start_time(launcher) == known["launcherStart"]:
            _wait(lambda: not start_time(launcher), 2.0)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(launcher, os.WNOHANG)
    paths.launcher.unlink(missing_ok=True)
    return bool(pid)


def pid_namespace(pid: int) -> str:
    """The identity of a process' PID namespace, ``pid:[4026532281]``; empty if it is gone."""
    try:
        return os.readlink(f"/proc/{pid}/ns/pid")
    except OSError:
        return ""


def members(namespace: str) -> dict[int, int]:
    """Processes of a PID namespace: their pid inside -> their pid on the machine."""
    found: dict[int, int] = {}
    if not namespace:
        return found
    for pid in _pids():
        if pid_namespace(pid) != namespace:
            continue
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                if line.startswith("NSpid:"):
                    found[int(line.split()[-1])] = pid
    return found
