"""A real systemd as process 1 of namespaces of its own, with a D-Bus daemon, and cgroups of version 1 below a part of the machine's.

It starts nothing but the bus: its units come from a folder that holds nothing else.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
import uuid
from pathlib import Path

UNITS = Path("/usr/lib/systemd/system")
LOGIND = Path("/lib/systemd/systemd-logind")
SYSTEMD = Path("/lib/systemd/systemd")
BASE = Path("/sys/fs/cgroup")
CONTROLLERS = ("cpu", "cpuacct", "memory", "devices", "freezer", "blkio", "pids", "cpuset", "systemd")

_START = """
set -e
for c in {controllers}; do echo $$ > {base}/$c/{name}/cgroup.procs; done
exec unshare --pid --fork --kill-child=KILL --mount --cgroup --ipc --uts --mount-proc bash {script}
"""
_INSIDE = """
set -e
mount --make-rprivate /
umount -R {base}
mount -t tmpfs -o mode=755 tmpfs {base}
for c in {controllers}; do
  mkdir {base}/$c
  if [ $c = systemd ]; then mount -t cgroup -o none,name=systemd cgroup {base}/$c; else mount -t cgroup -o $c cgroup {base}/$c; fi
done
mount -t tmpfs -o mode=755 tmpfs /run
mount -t tmpfs tmpfs /var/lib/systemd
mkdir /run/units
cp {units}/dbus.service {units}/dbus.socket /run/units/
for t in basic sysinit sockets shutdown; do printf '[Unit]\\nDefaultDependencies=no\\n' > /run/units/$t.target; done
printf '[Unit]\\nWants=dbus.socket dbus.service\\nDefaultDependencies=no\\n' > /run/units/test.target
mount --bind {console} /dev/console
if {login}; then
  mount -t tmpfs tmpfs /etc/systemd
  printf '[Service]\nType=dbus\nBusName=org.freedesktop.login1\nExecStart={logind}\nRestart=always\n' > /run/units/systemd-logind.service
  printf '[Unit]\nWants=dbus.socket dbus.service systemd-logind.service\nDefaultDependencies=no\n' > /run/units/test.target
  printf '[Unit]\nDefaultDependencies=no\n' > /run/units/poweroff.target
fi
export container=test SYSTEMD_UNIT_PATH=/run/units SYSTEMD_LOG_TARGET=console
exec {systemd} --system --unit=test.target
"""


def usable() -> bool:
    """Whether this machine has what it takes: root, systemd and its bus, and cgroups of version 1."""
    files = (SYSTEMD, UNITS / "dbus.service", BASE / "systemd/cgroup.procs", BASE / "memory/cgroup.procs")
    return os.geteuid() == 0 and shutil.which("dbus-daemon") is not None and all(f.exists() for f in files)


class PrivateSystemd:
    """``address`` is its bus, ``cgroups`` are the cgroups as it sees them, once it is started.

    With ``login`` its login manager runs, too; what it calls switching the machine off is a target in which nothing happens.
    """

    def __init__(self, folder: Path, login: bool = False) -> None:
        self._login = login
        self._folder, self._name = folder, f"bamikube-systemd-{uuid.uuid4().hex[:8]}"

    def start(self) -> None:
        console, script = self._folder / "console", self._folder / "inside.sh"
        self._folder.mkdir(parents=True, exist_ok=True)
        console.touch()
        there = [name for name in CONTROLLERS if (BASE / name).is_dir()]
        names = " ".join(there)
        for name in there:
            (BASE / name / self._name).mkdir()
        if "cpuset" in there:
            for file in ("cpuset.cpus", "cpuset.mems"):
                (BASE / "cpuset" / self._name / file).write_text((BASE / "cpuset" / file).read_text())
        script.write_text(
            _INSIDE.format(
                base=BASE,
                controllers=names,
                units=UNITS,
                console=console,
                systemd=SYSTEMD,
                logind=LOGIND,
                login=str(self._login).lower(),
            )
        )
        outside = _START.format(base=BASE, controllers=names, name=self._name, script=script)
        with (self._folder / "log").open("w") as log:
            self._unshare = subprocess.Popen(
                ["bash", "-c", outside], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        root = self._first_process()
        self.address, self.cgroups = (
            f"unix:path={root}/run/dbus/system_bus_socket",
            root / str(BASE).lstrip("/"),
        )
        for unit in ("dbus.service", *(["systemd-logind.service"] if self._login else [])):
            self._until(lambda unit=unit: self.show(unit, "ActiveState") == "active")  # type: ignore[misc]

    def _first_process(self) -> Path:
        def child() -> str:
            return Path(f"/proc/{self._unshare.pid}/task/{self._unshare.pid}/children").read_text().strip()

        self._until(lambda: child() != "" and Path(f"/proc/{child()}/root/run/systemd/private").exists())
        self._pid = child()
        self.inside = ("nsenter", "-t", self._pid, "-p", "-m", "-C")  # runs a command where it is
        return Path(f"/proc/{self._pid}/root")

    def _until(self, what: object, seconds: float = 20.0) -> None:
        assert callable(what)
        end = time.monotonic() + seconds
        while not what():
            if time.monotonic() > end or self._unshare.poll() is not None:
                said = (self._folder / "log").read_text() + (self._folder / "console").read_text()
                raise TimeoutError(f"systemd does not start: {said}")
            time.sleep(0.05)

    def file(self, path: Path) -> Path:
        """A file as it sees it."""
        return Path(f"/proc/{self._pid}/root") / str(path).lstrip("/")

    def show(self, unit: str, name: str) -> str:
        """A property of a unit, as systemctl tells it."""
        done = subprocess.run(
            [*self.inside, "systemctl", "show", unit, "-p", name, "--value"],
            capture_output=True,
            text=True,
            timeout=10,
        )
        return done.stdout.strip()

    def stop(self) -> None:
        self._unshare.send_signal(signal.SIGKILL)
        self._unshare.wait()
        for name in CONTROLLERS:
            folder = BASE / name / self._name
            end = time.monotonic() + 5
            while folder.is_dir() and time.monotonic() < end:
                try:
                    for child in sorted(folder.rglob("*"), key=lambda p: len(p.parts), reverse=True):
                        if child.is_dir():
                            child.rmdir()
                    folder.rmdir()
                except OSError:  # its processes are still ending
                    time.sleep(0.05)
