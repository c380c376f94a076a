"""``image load``: good archives in both shapes, and every way an archive can be bad, which must leave nothing behind."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from bamikube.lab.images.archive import BadArchive, load_archive
from bamikube.lab.images.store import CONFIG, INDEX, LAYER, MANIFEST, ImageStore


def digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def write_tar(path: Path, members: dict[str, bytes], links: dict[str, str] | None = None) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        for name, target in (links or {}).items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            archive.addfile(info)
    return path


def layer_bytes(text: str) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        info = tarfile.TarInfo("hello.txt")
        info.size = len(text)
        archive.addfile(info, io.BytesIO(text.encode()))
    return out.getvalue()


LAYER_DATA = layer_bytes("hello")
CONFIG_DATA = json.dumps(
    {
        "architecture": "amd64",
        "os": "linux",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": [digest(LAYER_DATA)]},
    }
).encode()


def docker_members(**changes: Any) -> dict[str, bytes]:
    entry = {
        "Config": "config.json",
        "RepoTags": ["mine/app:v1", "other:2"],
        "Layers": ["one/layer.tar"],
    } | changes
    return {
        "manifest.json": json.dumps([entry]).encode(),
        "config.json": CONFIG_DATA,
        "one/layer.tar": LAYER_DATA,
    }


def oci_members(name: str = "docker.io/mine/app:v1") -> dict[str, bytes]:
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {"mediaType": CONFIG, "digest": digest(CONFIG_DATA), "size": len(CONFIG_DATA)},
            "layers": [{"mediaType": LAYER, "digest": digest(LAYER_DATA), "size": len(LAYER_DATA)}],
        }
    ).encode()
    entry: dict[str, Any] = {"mediaType": MANIFEST, "digest": digest(manifest), "size": len(manifest)}
    if name:
        entry["annotations"] = {"io.containerd.image.name": name}
    index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}
    blobs = {f"blobs/{digest(data).replace(':', '/')}": data for data in (manifest, CONFIG_DATA, LAYER_DATA)}
    return {
        "oci-layout": b'{"imageLayoutVersion":"1.0.0"}',
        "index.json": json.dumps(index).encode(),
        **blobs,
    }


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    return ImageStore(tmp_path / "store")


def assert_untouched(store: ImageStore) -> None:
    assert store.names() == {}
    assert list(store.blobs.glob("*")) == [] if store.blobs.exists() else True


def test_docker_save(tmp_path: Path, store: ImageStore) -> None:
    names = load_archive(write_tar(tmp_path / "a.tar", docker_members()), store)
    assert names == ["docker.io/library/other:2", "docker.io/mine/app:v1"]
    assert store.blob(digest(LAYER_DATA)) is not None
    manifest_path = store.blob(store.names()["docker.io/mine/app:v1"].digest)
    assert manifest_path is not None
    manifest = json.loads(manifest_path.read_bytes())
    assert manifest["layers"][0]["digest"] == digest(LAYER_DATA)
    assert manifest["config"]["digest"] == digest(CONFIG_DATA)


def test_docker_save_with_linked_and_with_zipped_layers(tmp_path: Path, store: ImageStore) -> None:
    members = docker_members(Layers=["two/layer.tar"])
    load_archive(write_tar(tmp_path / "a.tar", members, {"two/layer.tar": "../one/layer.tar"}), store)
    zipped = docker_members(RepoTags=["zipped:1"]) | {"one/layer.tar": gzip.compress(LAYER_DATA)}
    load_archive(write_tar(tmp_path / "b.tar", zipped), store)
    assert set(store.names()) == {
        "docker.io/mine/app:v1",
        "docker.io/library/other:2",
        "docker.io/library/zipped:1",
    }


def test_oci_layout(tmp_path: Path, store: ImageStore) -> None:
    assert load_archive(write_tar(tmp_path / "a.tar", oci_members()), store) == ["docker.io/mine/app:v1"]


def test_an_oci_layout_whose_names_stand_in_manifest_json(tmp_path: Path, store: ImageStore) -> None:
    members = oci_members("") | {"manifest.json": json.dumps([{"RepoTags": ["both:1"]}]).encode()}
    assert load_archive(write_tar(tmp_path / "a.tar", members), store) == ["docker.io/library/both:1"]


def test_a_compressed_archive(tmp_path: Path, store: ImageStore) -> None:
    plain = write_tar(tmp_path / "a.tar", oci_members())
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress(plain.read_bytes()))
    assert load_archive(tmp_path / "a.tar.gz", store) == ["docker.io/mine/app:v1"]


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({"readme": b"x"}, "docker save"),
        (docker_members(RepoTags=None), "no name"),
        (docker_members(RepoTags=["UPPER:1"]), "image name"),
        (docker_members(Layers=["gone.tar"]), "gone.tar"),
        (docker_members(Layers=[]), "layers"),
        (docker_members() | {"one/layer.tar": LAYER_DATA + b"x"}, "announced"),
        (docker_members() | {"config.json": b"{"}, "not JSON"),
        (docker_members() | {"manifest.json": b"{}"}, "not a list"),
        (docker_members(Config="a" * 64 + ".json") | {"a" * 64 + ".json": CONFIG_DATA}, "digest"),
        (oci_members(""), "no name"),
        ({k: v for k, v in oci_members().items() if k != f"blobs/{digest(LAYER_DATA).replace(':', '/')}"}, "not inside"),
        (oci_members() | {f"blobs/{digest(LAYER_DATA).replace(':', '/')}": b"other"}, "announced"),
        (oci_members() | {"index.json": b'{"manifests": [{"digest": "x"}]}'}, "digest"),
    ],
)  # fmt: skip
def test_a_bad_archive_is_explained_and_leaves_nothing(
    tmp_path: Path, store: ImageStore, members: dict[str, bytes], said: str
) -> None:
    path = write_tar(tmp_path / "bad.tar", members)
    with pytest.raises(BadArchive) as caught:
        load_archive(path, store)
    assert said in str(caught.value)
    assert str(path) in str(caught.value)
    assert_untouched(store)


def test_files_that_are_no_archives(tmp_path: Path, store: ImageStore) -> None:
    (tmp_path / "text").write_text("hello")
    whole = write_tar(tmp_path / "a.tar", oci_members()).read_bytes()
    (tmp_path / "cut.tar").write_bytes(whole[: len(whole) // 3])
    for name in ("text", "cut.tar", "missing.tar"):
        with pytest.raises(BadArchive, match=name):
            load_archive(tmp_path / name, store)
        assert_untouched(store)


def test_a_bad_archive_does_not_harm_what_was_loaded_before(tmp_path: Path, store: ImageStore) -> None:
    load_archive(write_tar(tmp_path / "a.tar", oci_members()), store)
    before = sorted(path.name for path in store.blobs.iterdir())
    with pytest.raises(BadArchive):
        load_archive(write_tar(tmp_path / "b.tar", docker_members(Layers=["gone.tar"])), store)
    assert sorted(path.name for path in store.blobs.iterdir()) == before
    assert list(store.names()) == ["docker.io/mine/app:v1"]
