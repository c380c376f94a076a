"""Layers are reproducible, the pause program is an executable, the course's application answers as the course says."""

from __future__ import annotations

import os
import signal
import subprocess
import tarfile
from io import BytesIO
from pathlib import Path

import pytest

from bamikube.lab.images import course_app
from bamikube.lab.images.debian import parse_index
from bamikube.lab.images.layer import Directory, File, Layer, Link
from bamikube.lab.images.names import full_name
from bamikube.lab.images.pause import pause_program
from bamikube.lab.images.recipes import all_recipes
from bamikube.lab.images.store import LAYER, BadContent, ImageStore


def test_a_layer_depends_only_on_its_content(tmp_path: Path) -> None:
    first, second = Layer(), Layer()
    first.add({"b/file": File(b"x", 0o755), "a": Link("b/file")})
    second.add({"a": Link("b/file")})
    second.add({"/b/file": File(b"x", 0o755)})
    assert first.tar() == second.tar()
    with tarfile.open(fileobj=BytesIO(first.tar())) as archive:
        assert [(m.name, m.uid, m.mode) for m in archive] == [
            ("a", 0, 0o777),
            ("b", 0, 0o755),
            ("b/file", 0, 0o755),
        ]


def test_a_tree_becomes_a_layer_without_what_is_skipped(tmp_path: Path) -> None:
    (tmp_path / "usr/share/doc").mkdir(parents=True)
    (tmp_path / "usr/share/doc/readme").write_text("x")
    (tmp_path / "usr/tool").write_text("y")
    (tmp_path / "link").symlink_to("usr/tool")
    layer = Layer()
    layer.add_tree(tmp_path, ("usr/share/doc",))
    assert layer.entries["link"] == Link("usr/tool")
    assert isinstance(layer.entries["usr"], Directory)
    assert not any("doc" in path for path in layer.entries)


def test_the_store_refuses_content_with_another_digest(tmp_path: Path) -> None:
    store = ImageStore(tmp_path)
    with pytest.raises(BadContent):
        store.add_stream(BytesIO(b"abc"), LAYER, "sha256:" + "0" * 64)
    assert list(store.blobs.iterdir()) == []


def test_sweep_keeps_what_names_lead_to(tmp_path: Path) -> None:
    store = ImageStore(tmp_path)
    layer = store.add_bytes(b"layer", LAYER)
    manifest = store.add_json(
        {"schemaVersion": 2, "layers": [layer.as_json()]}, "application/vnd.oci.image.manifest.v1+json"
    )
    store.add_bytes(b"nobody wants me", LAYER)
    store.tag({full_name("x"): manifest})
    assert store.sweep() == 1
    assert store.blob(layer.digest) is not None
    store.tag({}, remove=[full_name("x")])
    assert store.sweep() == 2


@pytest.mark.parametrize("architecture", ["amd64", "arm64"])
def test_the_pause_program_is_a_small_elf(architecture: str) -> None:
    program = pause_program(architecture)
    assert program[:4] == b"\x7fELF"
    assert len(program) < 700


def test_an_unknown_architecture_is_refused() -> None:
    with pytest.raises(ValueError, match="riscv64"):
        pause_program("riscv64")


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="runs the amd64 program")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_pause_program_waits_and_ends_when_asked(tmp_path: Path, number: signal.Signals) -> None:
    path = tmp_path / "pause"
    path.write_bytes(pause_program("amd64"))
    path.chmod(0o755)
    with subprocess.Popen([str(path)]) as process:
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.1)
        process.send_signal(signal.SIGCHLD)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.1)
        process.send_signal(number)
        assert process.wait(5) == 0


def test_the_course_application() -> None:
    health = course_app.Health()
    assert course_app.answer("/version", health) == (200, "Version : v1\n")
    assert course_app.answer("/hostname", health)[1] == f"Hostname : {os.uname().nodename}\n"
    assert course_app.answer("/health", health)[0] == 200
    assert course_app.answer("/unhealthy-3", health)[0] == 200
    assert [course_app.answer("/health", health)[0] for _ in range(5)] == [500, 500, 500, 200, 200]
    course_app.answer("/status500", health)
    assert {course_app.answer("/health", health)[0] for _ in range(5)} == {500}
    assert course_app.answer("/unhealthy-x", health)[0] == 400
    assert course_app.answer("/nothing", health)[0] == 404


def test_every_name_people_use_is_in_a_recipe_once() -> None:
    names = [full_name(n) for r in all_recipes("amd64") for v in r.variants for n in v.names]
    assert len(names) == len(set(names))
    wanted = [
        "nginx",
        "nginx:stable",
        "busybox",
        "kubetm/app:v1",
        "kubetm/app:v2",
        "kubetm/app",
        "kubetm/init:v1",
    ]
    wanted += [
        "kubetm/shopping:v1",
        "kubetm/customer:v1",
        "kubetm/order:v2",
        "registry.k8s.io/pause:3.10",
        "bamikube/client",
    ]
    assert {full_name(name) for name in wanted} <= set(names)


def test_the_package_index_is_read() -> None:
    text = (
        "Package: curl\nVersion: 2\nPre-Depends: libc6 (>= 2.34)\nDepends: libcurl4 (= 2), zlib1g:any | zlib\n\n"
        "Package: curl\nVersion: 1\nDepends: old\n\nPackage: all\nVersion: 1\n"
    )
    index = parse_index(text)
    assert index["curl"].version == "2"
    assert index["curl"].depends == ("libc6", "libcurl4", "zlib1g")
    assert index["all"].depends == ()
