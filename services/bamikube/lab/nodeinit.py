"""The first process of a node: what an init system is on a machine.

It builds the node's view of the file system, waits for its network cable, and keeps the node's units running. A unit
is either a program (containerd, etcd) or one of our services. The services are not started as programs: this process
imports what they have in common once and forks, so that their memory is shared (83 instead of 208 MiB for six idle
services) and a restart takes milliseconds. grpc is not among the common part: its threads do not survive a fork.

PID 1 also inherits every orphan of the node (containerd's shims) and reaps them when they end. When it dies, the
kernel ends everything else in the node at once: that is what crashing a node means here.

It is single-threaded and has no event loop: it must be able to fork at any moment. ``status.json`` tells the lab
how the units fare; their output goes to a file each, cut when it grows large.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import gc
import importlib
import os
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from bamikube.kit.clock import Clock, SystemClock
from bamikube.lab import cgroups, mounts

# What the services share. None of these starts a thread when imported.
COMMON = ("asyncio", "ssl", "aiohttp", "aiohttp.web", "pydantic", "orjson", "yaml", "cryptography.x509", "uvloop",
          "prometheus_client", "bamikube.kit.service", "bamikube.kit.http", "bamikube.kit.log",
          "bamikube.kit.workqueue", "bamikube.kit.metrics", "bamikube.client")  # fmt: skip

RESTART_BASE, RESTART_CAP = 0.2, 10.0  # seconds between restarts of a unit that keeps dying
STEADY_SECONDS = 30.0  # a unit that ran this long starts its backoff anew
LOG_BYTES = 16 << 20  # a log longer than this is moved to NAME.log.1
NETWORK_SECONDS = 20.0


@dataclass(slots=True)
class Unit:
    """A process to keep running: a program (``argv``) or a service of ours (``module``, called with ``argv``)."""

    name: str
    argv: list[str]
    module: str = ""
    env: dict[str, str] = field(default_factory=dict)
    after_files: list[str] = field(default_factory=list)  # not started before these exist

    pid: int = 0
    started: float = 0.0  # clock.monotonic() of the last start
    since: float = 0.0  # wall time of the last start
    restarts: int = 0
    failures: int = 0  # starts in a row that did not last STEADY_SECONDS
    due: float = 0.0  # not started before this clock.monotonic()
    last_exit: str = ""

    def describe(self) -> dict[str, Any]:
        state = "running" if self.pid else ("waiting" if not self.since else "restarting")
        return {
            "pid": self.pid,
            "state": state,
            "since": self.since,
            "restarts": self.restarts,
            "failures": self.failures,
            "lastExit": self.last_exit,
        }


def backoff(failures: int) -> float:
    """Seconds to wait before the next start after so many short lives."""
    return 0.0 if failures <= 0 else min(RESTART_CAP, RESTART_BASE * 2.0 ** (failures - 1))


def exit_text(status: int) -> str:
    """A wait status in words."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        try:
            return f"killed by {signal.Signals(number).name}"
        except ValueError:
            return f"killed by signal {number}"
    return f"exit status {os.WEXITSTATUS(status)}"


class Supervisor:
    """Starts units, restarts those that end, reaps everything."""

    def __init__(
        self,
        units: Sequence[Unit],
        logs: Path,
        status: Path,
        clock: Clock,
        write: Callable[[Path, bytes], None],
    ) -> None:
        self._units = list(units)
        self._logs = logs
        self._status = status
        self._clock = clock
        self._write = write
        self._stopping = False

    def start_due(self) -> bool:
        """Start every unit whose time has come. Returns whether anything changed."""
        changed = False
        now = self._clock.monotonic()
        for unit in self._units:
            if unit.pid or self._stopping or unit.due > now:
                continue
            if not all(os.path.exists(path) for path in unit.after_files):
                unit.due = now + 0.05
                continue
            unit.pid = self._spawn(unit)
            if unit.since:
                unit.restarts += 1
            unit.started, unit.since = now, self._clock.now()
            changed = True
        return changed

    def reap(self) -> bool:
        """Collect every child that ended. Returns whether a unit was among them."""
        changed = False
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return changed
            if pid == 0:
                return changed
            for unit in self._units:
                if unit.pid == pid:
                    self._ended(unit, status)
                    changed = True

    def _ended(self, unit: Unit, status: int) -> None:
        now = self._clock.monotonic()
        unit.pid = 0
        unit.last_exit = exit_text(status)
        unit.failures = 1 if now - unit.started >= STEADY_SECONDS else unit.failures + 1
        unit.due = now + backoff(unit.failures)
        if not self._stopping:
            log(f"{unit.name}: {unit.last_exit}; starting again in {backoff(unit.failures):.1f} s")

    def wait_seconds(self) -> float:
        """How long nothing needs to be done unless a signal comes."""
        pending = [unit.due for unit in self._units if not unit.pid]
        if not pending or self._stopping:
            return 5.0
        return max(0.01, min(5.0, min(pending) - self._clock.monotonic()))

    def publish(self) -> None:
        """Write the state of all units, in one rename."""
        document = {
            "updated": self._clock.now(),
            "units": {unit.name: unit.describe() for unit in self._units},
        }
        self._write(self._status, orjson.dumps(document, option=orjson.OPT_INDENT_2))

    def rotate_logs(self) -> None:
        """Cut logs that grew large. Writers append, so the emptied file is simply written from its start."""
        for unit in self._units:
            path = self._logs / f"{unit.name}.log"
            with contextlib.suppress(OSError):
                if path.stat().st_size > LOG_BYTES:
                    path.with_suffix(".log.1").write_bytes(path.read_bytes())
                    os.truncate(path, 0)

    def stop(self) -> None:
        """Ask every unit to end, last started first."""
        self._stopping = True
        for unit in reversed(self._units):
            if unit.pid:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(unit.pid, signal.SIGTERM)

    @property
    def running(self) -> int:
        return sum(1 for unit in self._units if unit.pid)

    @property
    def stopping(self) -> bool:
        return self._stopping

    def _spawn(self, unit: Unit) -> int:
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid:
            return pid
        code = 70
        try:
            self._become(unit)
            code = _run_service(unit)
        except SystemExit as leaving:
            code = leaving.code if isinstance(leaving.code, int) else 1
        except BaseException:
            traceback.print_exc()
        finally:
            with contextlib.suppress(Exception):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)

    def _become(self, unit: Unit) -> None:
        """In the child: own session, own log, default signals; a program replaces this process here."""
        os.setsid()
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        for number in (signal.SIGTERM, signal.SIGCHLD, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        out = os.open(self._logs / f"{unit.name}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.dup2(out, 1)
        os.dup2(out, 2)
        os.closerange(3, 256)
        os.environ.update(unit.env)
        if not unit.module:
            os.execvp(unit.argv[0], unit.argv)


def _run_service(unit: Unit) -> int:
    name_process(f"bamikube-{unit.name} {' '.join(unit.argv)}")
    module = importlib.import_module(unit.module)
    return int(module.main(list(unit.argv)) or 0)


def name_process(title: str) -> None:
    """Let ``ps`` and ``pkill -f`` show the service instead of this init: write over our own argument strings."""
    libc = ctypes.CDLL(None)
    libc.prctl(15, title.split(" ")[0].encode()[:15], 0, 0, 0)  # PR_SET_NAME
    with contextlib.suppress(OSError, ValueError, IndexError):
        fields = Path("/proc/self/stat").read_text().rsplit(")", 1)[1].split()
        start, end = (
            int(fields[45]),
            int(fields[46]),
        )  # arg_start and arg_end of proc(5), counted after the name
        room = end - start - 1
        text = title.encode()[:room].ljust(room, b"\0")
        if start and room > 0:
            ctypes.memmove(start, text, room)


def log(text: str) -> None:
    """A line of the init's own log."""
    print(text, flush=True)


def replace_file(path: Path, data: bytes) -> None:
    temporary = path.with_name(path.name + ".new")
    temporary.write_bytes(data)
    temporary.replace(path)


def import_common() -> None:
    """Load what all services need, then tell the collector to leave it alone: its pages stay shared."""
    for name in COMMON:
        try:
            importlib.import_module(name)
        except ImportError as error:
            log(f"import of {name} failed: {error}")
    gc.collect()
    gc.freeze()


def wait_for_network(clock: Clock, seconds: float = NETWORK_SECONDS) -> bool:
    """Wait until the cable (``eth0``) is plugged in and carries a default route."""
    deadline = clock.monotonic() + seconds
    while clock.monotonic() < deadline:
        with contextlib.suppress(OSError):
            socket.if_nametoindex("eth0")
            if any(
                line.split()[1] == "00000000" for line in Path("/proc/net/route").read_text().splitlines()[1:]
            ):
                return True
        signal.sigtimedwait((signal.SIGTERM,), 0.01)
    return False


def kernel_settings() -> None:
    """A node forwards packets between pods; packets may take another way back than they came."""
    for name, value in (
        ("ip_forward", "1"),
        ("conf/all/rp_filter", "0"),
        ("conf/default/rp_filter", "0"),
        ("conf/all/route_localnet", "1"),
    ):
        with contextlib.suppress(OSError):
            Path("/proc/sys/net/ipv4", name).write_text(value)


def load_units(document: Mapping[str, Any]) -> list[Unit]:
    """The units of a node's configuration."""
    return [
        Unit(
            entry["name"],
            list(entry["argv"]),
            entry.get("module", ""),
            dict(entry.get("env", {})),
            list(entry.get("afterFiles", [])),
        )
        for entry in document["units"]
    ]


def run(config: Mapping[str, Any], clock: Clock) -> int:
    """The node's life."""
    handled = (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT)
    signal.pthread_sigmask(signal.SIG_BLOCK, handled)
    # Whoever started the lab may have been ignoring these: a wait needs them to be delivered.
    for number in handled:
        signal.signal(number, lambda *_: None)
    root = Path(config["folder"])
    logs = root / "logs"
    # The overlays cover parts of the tree; hold the node's folder by descriptor so that it stays reachable.
    held = os.open(root, os.O_PATH | os.O_DIRECTORY)
    name = config["name"]
    socket.sethostname(name)
    mounts.set_up(root / "disk")
    Path("/run/bamikube/node").mkdir()
    mounts.mount(f"/proc/self/fd/{held}", "/run/bamikube/node", flags=0x1000)
    os.close(held)
    root, logs = Path("/run/bamikube/node"), Path("/run/bamikube/node/logs")
    mounts.write_hosts(name, config["hosts"])
    subprocess.run(["ip", "link", "set", "lo", "up"], check=False)
    kernel_settings()
    cgroups.join(config["cgroup"] + "/system", os.getpid())
    units = load_units(config)
    programs = [unit for unit in units if not unit.module]
    status = root / "status.json"
    if not wait_for_network(clock):
        log("no network: the lab did not connect eth0; starting anyway")
    supervisor = Supervisor(units, logs, status, clock, replace_file)
    # Programs first: they start while this process imports what the services share.
    early = Supervisor(programs, logs, status, clock, replace_file)
    early.start_due()
    import_common()
    supervisor.start_due()
    supervisor.publish()
    log(f"node {name}: {len(units)} units started")
    return _loop(supervisor, handled, clock)


def _loop(supervisor: Supervisor, handled: Sequence[signal.Signals], clock: Clock) -> int:
    rotated = clock.monotonic()
    while True:
        got = signal.sigtimedwait(handled, supervisor.wait_seconds())
        changed = supervisor.reap()
        if got is not None and got.si_signo in (signal.SIGTERM, signal.SIGINT) and not supervisor.stopping:
            log("stopping")
            supervisor.stop()
        if supervisor.stopping and supervisor.running == 0:
            supervisor.publish()
            return 0
        changed |= supervisor.start_due()
        if changed:
            supervisor.publish()
        if clock.monotonic() - rotated > 10:
            rotated = clock.monotonic()
            supervisor.rotate_logs()


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="bamikube-nodeinit", description=__doc__.split("\n")[0])
    parser.add_argument("--config", required=True, type=Path)
    given = parser.parse_args(argv)
    try:
        return run(orjson.loads(given.config.read_bytes()), SystemClock())
    except OSError as error:
        log(f"this node cannot start: {error}")
        return 1


if __name__ == "__main__":
    sys.exit(main())
