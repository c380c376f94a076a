"""A containerd of the test's own: own root, state, socket, cgroups, and a network namespace around the test.

``network_namespace`` moves the calling thread (and every process it starts) into a fresh network namespace, so pod
links never appear on the machine, and back again. Images are made here: pause, and busybox from Debian's static build.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bamikube.lab.images import debian
from bamikube.lab.images.pause import pause_program
from bamikube.lab.launch import children

CACHE = Path(__file__).resolve().parents[2] / ".cache"

_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)

CONFIG = """
version = 2
root = "{base}/root"
state = "{base}/state"
disabled_plugins = ["io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs"]
[grpc]
  address = "{base}/containerd.sock"
[ttrpc]
  address = "{base}/containerd.sock.ttrpc"
[plugins."io.containerd.internal.v1.opt"]
  path = "{base}/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "bamikube.test/pause:1"
  restrict_oom_score_adj = true
  stream_server_address = "127.0.0.1"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{base}/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      SystemdCgroup = {systemd}
      Root = "{base}/runc"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.second]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.second.options]
      SystemdCgroup = false
      Root = "{base}/second"
"""

CNI = {
    "cniVersion": "0.4.0",
    "name": "test",
    "plugins": [
        {
            "type": "ptp",
            "ipMasq": False,
            "ipam": {
                "type": "host-local",
                "subnet": "10.213.0.0/24",
                "routes": [{"dst": "0.0.0.0/0"}],
                "dataDir": "{base}/addresses",
            },
        }
    ],
}


@contextlib.contextmanager
def network_namespace() -> Iterator[None]:
    """Run the body (this thread and its children) in a network namespace of its own, loopback up."""
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    if _libc.unshare(_CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "cannot make a network namespace: run as root")
    try:
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        yield
    finally:
        _libc.setns(before, _CLONE_NEWNET)
        os.close(before)


def image_archive(
    name: str, files: dict[str, bytes], links: dict[str, str], config: dict[str, object]
) -> bytes:
    """A docker-save archive with one layer."""
    return layered_archive(name, [image_layer(files, links)], config)


def image_layer(files: dict[str, bytes], links: dict[str, str]) -> bytes:
    """One layer as a tar file."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        for folder in ("bin", "tmp", "etc"):
            info = tarfile.TarInfo(folder)
            info.type, info.mode = tarfile.DIRTYPE, 0o1777 if folder == "tmp" else 0o755
            tar.addfile(info)
        for path, data in files.items():
            info = tarfile.TarInfo(path)
            info.size, info.mode = len(data), 0o755
            tar.addfile(info, io.BytesIO(data))
        for path, target in links.items():
            info = tarfile.TarInfo(path)
            info.type, info.linkname = tarfile.SYMTYPE, target
            tar.addfile(info)
    return layer.getvalue()


def layered_archive(name: str, layers: list[bytes], config: dict[str, object]) -> bytes:
    """A docker-save archive of these layers, the lowest first."""
    document = {
        "architecture": "amd64",
        "os": "linux",
        "config": config,
        "rootfs": {
            "type": "layers",
            "diff_ids": ["sha256:" + hashlib.sha256(layer).hexdigest() for layer in layers],
        },
    }
    text = json.dumps(document).encode()
    config_name = hashlib.sha256(text).hexdigest() + ".json"
    names = [f"layer{index}.tar" for index in range(len(layers))]
    manifest = [{"Config": config_name, "RepoTags": [name], "Layers": names}]
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for path, data in (
            (config_name, text),
            *zip(names, layers, strict=True),
            ("manifest.json", json.dumps(manifest).encode()),
        ):
            info = tarfile.TarInfo(path)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return archive.getvalue()


def _busybox() -> tuple[bytes, list[str]]:
    """Debian's static busybox and the names of its applets, from the package cache that the lab's images use too."""
    try:
        packages = debian.closure(["busybox-static"])
    except debian.AptError:
        debian.update()
        packages = debian.closure(["busybox-static"])
    deb = debian.fetch(packages, CACHE / "debs")["busybox-static"]
    with tempfile.TemporaryDirectory() as folder:
        debian.unpack(deb, Path(folder))
        binary = next(
            path for path in Path(folder).rglob("busybox") if path.is_file() and os.access(path, os.X_OK)
        )
        listed = subprocess.run([binary, "--list"], capture_output=True, text=True, check=True).stdout.split()
        return binary.read_bytes(), listed


def images() -> list[bytes]:
    """Archives of pause and busybox. Fetches busybox' package the first time."""
    architecture = {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine]
    busybox, applets = _busybox()
    links = {f"bin/{applet}": "busybox" for applet in applets if applet != "busybox"}
    path = ["PATH=/bin"]
    return [
        image_archive(
            "bamikube.test/pause:1", {"pause": pause_program(architecture)}, {}, {"Entrypoint": ["/pause"]}
        ),
        image_archive(
            "bamikube.test/busybox:1", {"bin/busybox": busybox}, links, {"Cmd": ["sh"], "Env": path}
        ),
    ]


def unmount_below(base: Path) -> None:
    """Take away every mount in a folder that is going to be removed."""
    points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for point in sorted(points, key=len, reverse=True):
        if point.startswith(f"{base}/"):
            subprocess.run(["umount", "-l", point], check=False)


class PrivateContainerd:
    """A running containerd; ``endpoint`` is its CRI address. ``inside``: the command that starts it in other namespaces, those of a
    ``systemd`` that makes its cgroups."""

    def __init__(self, base: Path, inside: tuple[str, ...] = ()) -> None:
        self.base, self._inside = base, inside
        self.endpoint = f"unix://{base}/containerd.sock"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        (self.base / "cni").mkdir(parents=True, exist_ok=True)
        (self.base / "cni" / "10-test.conflist").write_text(json.dumps(CNI).replace("{base}", str(self.base)))
        (self.base / "config.toml").write_text(
            CONFIG.format(base=self.base, systemd=str(bool(self._inside)).lower())
        )
        with (self.base / "containerd.log").open("ab") as out:
            self._process = subprocess.Popen(
                [*self._inside, "containerd", "--config", str(self.base / "config.toml")],
                stdout=out,
                stderr=out,
            )
        deadline = time.monotonic() + 30
        while subprocess.run([*self._ctr(), "version"], capture_output=True).returncode:
            if time.monotonic() > deadline or self._process.poll() is not None:
                raise RuntimeError(
                    f"containerd did not start:\n{(self.base / 'containerd.log').read_text()[-3000:]}"
                )
            time.sleep(0.05)

    def load_images(self, archives: list[bytes]) -> None:
        for archive in archives:
            done = subprocess.run([*self._ctr(), "images", "import", "-"], input=archive, capture_output=True)
            if done.returncode:
                raise RuntimeError(done.stderr.decode())

    def _ctr(self) -> list[str]:
        return [
            "ctr",
            "--address",
            f"{self.base}/containerd.sock",
            "--namespace",
            "k8s.io",
            "--connect-timeout",
            "2s",
        ]

    def kill(self) -> None:
        """End containerd at once; shims and containers stay. ``start`` begins it again."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def pause(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """Kill containerd, its shims and what they hold."""
        names = self.namespaces()
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._kill_shims()
        time.sleep(0.2)
        self._remove_namespaces(names)
        unmount_below(self.base)

    def _kill_shims(self) -> None:
        for pid in self.shims():
            for one in [*children(pid), pid]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(one, signal.SIGKILL)

    def shims(self) -> list[int]:
        """The pids of this containerd's shims."""
        found = []
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit():
                with contextlib.suppress(OSError):
                    line = (folder / "cmdline").read_bytes().decode(errors="replace")
                    if "containerd-shim-runc-v2" in line and f"{self.base}/containerd.sock" in line:
                        found.append(int(folder.name))
        return sorted(found)

    def addresses(self) -> set[str]:
        """The addresses that pods hold."""
        return {p.name for p in (self.base / "addresses" / "test").glob("10.*")}

    def namespaces(self) -> set[str]:
        """The network namespaces of pods, as files."""
        found = set()
        for bundle in self.base.glob("state/io.containerd.runtime.v2.task/k8s.io/*/config.json"):
            with contextlib.suppress(OSError, ValueError):
                for item in json.loads(bundle.read_text())["linux"]["namespaces"]:
                    if item["type"] == "network" and "netns/" in item.get("path", ""):
                        found.add(str(item["path"]))
        return found

    def _remove_namespaces(self, names: set[str]) -> None:
        for name in names:
            subprocess.run(["umount", "-l", name], check=False, capture_output=True)
            Path(name).unlink(missing_ok=True)

    def reboot(self) -> None:
        """What a machine that loses its power does to containerd: no process, no mount and no file of ``state`` is left."""
        names = self.namespaces()
        self.kill()
        self._kill_shims()
        time.sleep(0.2)
        self._remove_namespaces(names)
        unmount_below(self.base)
        for folder in ("state", "runc", "second"):
            shutil.rmtree(self.base / folder, ignore_errors=True)
        self.start()
