"""Putting the CNI plugin and its configuration where the container runtime looks. Each file appears whole or not."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import orjson

from bamikube.network import plugin

CONFIG = "10-bamikube.conflist"
NAME = "bamikube"
PLUGIN = "bamikube-cni"


def write_atomically(path: Path, data: bytes, mode: int) -> bool:
    """Replace the file in one step; False when it held the very same already."""
    if (
        path.exists()
        and not path.is_symlink()
        and path.read_bytes() == data
        and path.stat().st_mode & 0o777 == mode
    ):
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(data)
    temporary.chmod(mode)
    temporary.replace(path)
    return True


def executable(socket_path: str) -> bytes:
    """The plugin's text, run by this very interpreter, talking to this agent's socket."""
    source = Path(plugin.__file__).read_text(encoding="utf-8")
    source = source.replace("#!/usr/bin/python3 -IS", f"#!{os.path.realpath(sys.executable)} -IS", 1)
    return source.replace(f'SOCKET = "{plugin.SOCKET}"', f'SOCKET = "{socket_path}"', 1).encode()


def install_plugin(directory: Path, socket_path: str) -> None:
    """``bamikube-cni``, and ``loopback`` where no other package has brought one: containerd asks for it by name."""
    text = executable(socket_path)
    write_atomically(directory / PLUGIN, text, 0o755)
    loopback = directory / "loopback"
    if not loopback.exists():
        write_atomically(loopback, text, 0o755)


def install_config(directory: Path) -> None:
    """The network list. Its appearance is what makes the runtime report the network as ready: write it last."""
    config = {
        "cniVersion": "1.0.0",
        "name": NAME,
        "plugins": [{"type": PLUGIN, "capabilities": {"portMappings": True}}],
    }
    write_atomically(directory / CONFIG, orjson.dumps(config, option=orjson.OPT_INDENT_2) + b"\n", 0o644)
