"""Image archives: what ``docker save`` and ``podman save`` write, into the store.

Two shapes exist, and newer docker writes both into one file:

* an **OCI layout**: ``index.json`` and ``blobs/sha256/...``; names in annotations of the index;
* the **docker-save** form: ``manifest.json``, a list of ``{Config, RepoTags, Layers}``, layers as plain tars.

Everything is checked before a name is set: each blob against the digest it is named by, each layer against the
``diff_ids`` of its configuration. Blobs nobody names are swept, so a bad archive leaves the store as it was.
"""

from __future__ import annotations

import gzip
import hashlib
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any

import orjson

from bamikube.lab.images.names import full_name, is_digest
from bamikube.lab.images.store import (
    CONFIG,
    INDEX,
    LAYER,
    LAYER_GZIP,
    MANIFEST,
    BadContent,
    Descriptor,
    ImageStore,
)

_NAME_KEYS = ("io.containerd.image.name", "com.docker.image.name", "org.opencontainers.image.ref.name")
_INDEX_TYPES = (INDEX, "application/vnd.docker.distribution.manifest.list.v2+json")
_MANIFEST_TYPES = (MANIFEST, "application/vnd.docker.distribution.manifest.v2+json")
_MAX_JSON = 8 << 20


class BadArchive(ValueError):
    """The file is not an image archive, or its content does not fit together."""


def load_archive(path: Path, store: ImageStore) -> list[str]:
    """Put the images of ``path`` into ``store``; returns their complete names. Raises BadArchive, storing nothing."""
    with store.writing():
        return _load(path, store)


def _load(path: Path, store: ImageStore) -> list[str]:
    try:
        with tarfile.open(path) as archive:
            members = {
                _clean(member.name): member
                for member in archive.getmembers()
                if member.isfile() or member.islnk() or member.issym()
            }
            names = _Loader(archive, members, store, path).load()
    except (tarfile.TarError, EOFError, gzip.BadGzipFile, OSError) as error:
        store.sweep()
        said = (
            "is not there"
            if isinstance(error, FileNotFoundError)
            else f"is not a readable tar archive: {error}"
        )
        raise BadArchive(f"{path}: {said}") from error
    except (BadContent, BadArchive) as error:
        store.sweep()
        raise BadArchive(f"{path}: {error}") from error
    store.tag(names)
    return sorted(names)


def _clean(name: str) -> str:
    return str(PurePosixPath(name)).removeprefix("/")


class _Loader:
    def __init__(
        self, archive: tarfile.TarFile, members: dict[str, tarfile.TarInfo], store: ImageStore, path: Path
    ) -> None:
        self._archive = archive
        self._members = members
        self._store = store
        self._path = path

    def load(self) -> dict[str, Descriptor]:
        if "index.json" in self._members and "oci-layout" in self._members:
            names = self._load_oci()
        elif "manifest.json" in self._members:
            names = self._load_docker()
        else:
            raise BadArchive(
                "neither index.json (OCI layout) nor manifest.json (docker save) is inside. "
                "Make the file with 'docker save -o FILE.tar IMAGE' or 'podman save --format oci-archive'"
            )
        if not names:
            raise BadArchive(
                "its images have no name. Save them by name ('docker save -o FILE.tar NAME:TAG'), not by id"
            )
        return names

    # -- OCI layout -----------------------------------------------------------------------------------------------

    def _load_oci(self) -> dict[str, Descriptor]:
        index = self._json("index.json")
        tags = self._docker_tags()
        names: dict[str, Descriptor] = {}
        for entry in _entries(index, "manifests", "index.json"):
            descriptor = self._descriptor(entry, "index.json")
            found = self._names_of(entry, tags)
            if not found:
                continue
            self._copy_tree(descriptor)
            names.update(dict.fromkeys(found, descriptor))
        return names

    def _names_of(self, entry: dict[str, Any], tags: list[str]) -> list[str]:
        """Names of an index entry: a full one in an annotation; else, if the file holds one image, its RepoTags."""
        annotations = entry.get("annotations") or {}
        for key in _NAME_KEYS:
            value = annotations.get(key, "")
            # The ref.name annotation may be a bare tag ("latest"), which names no repository.
            if value and ("/" in value or ":" in value):
                return [self._full(value)]
        bare = annotations.get("org.opencontainers.image.ref.name", "")
        matching = [tag for tag in tags if not bare or tag.endswith(":" + bare)]
        return (
            [self._full(tag) for tag in matching]
            if matching
            else ([self._full(bare)] if bare and not tags else [])
        )

    def _docker_tags(self) -> list[str]:
        if "manifest.json" not in self._members:
            return []
        listed = self._json("manifest.json")
        return [tag for entry in listed if isinstance(entry, dict) for tag in entry.get("RepoTags") or []]

    def _copy_tree(self, descriptor: Descriptor) -> None:
        """Copy a manifest, or an index with those of its manifests that are complete, and what they need."""
        name = f"blobs/{descriptor.digest.replace(':', '/')}"
        document = self._json(name)
        if descriptor.media_type in _INDEX_TYPES or "manifests" in document:
            children = [self._descriptor(e, name) for e in _entries(document, "manifests", name)]
            present = [child for child in children if self._has(child.digest)]
            if not present:
                raise BadArchive(f"none of the {len(children)} platforms of {descriptor.digest} is inside")
            for child in present:
                self._copy_tree(child)
        else:
            config = self._descriptor(document.get("config"), name)
            layers = [self._descriptor(entry, name) for entry in _entries(document, "layers", name)]
            for child in (config, *layers):
                self._copy_blob(child)
        self._copy_blob(descriptor)

    def _copy_blob(self, descriptor: Descriptor) -> None:
        if not self._has(descriptor.digest):
            raise BadArchive(f"blob {descriptor.digest} is named but not inside (was the file cut off?)")
        if self._store.blob(descriptor.digest):
            return
        with self._open(f"blobs/{descriptor.digest.replace(':', '/')}") as source:
            kept = self._store.add_stream(source, descriptor.media_type, descriptor.digest)  # type: ignore[arg-type]
        if kept.size != descriptor.size:
            raise BadArchive(
                f"blob {descriptor.digest} has {kept.size} bytes, its descriptor says {descriptor.size}"
            )

    def _has(self, digest: str) -> bool:
        return f"blobs/{digest.replace(':', '/')}" in self._members

    def _descriptor(self, entry: Any, where: str) -> Descriptor:
        if (
            not isinstance(entry, dict)
            or not is_digest(str(entry.get("digest", "")))
            or not isinstance(entry.get("size"), int)
        ):
            raise BadArchive(f"{where} holds an entry without a proper digest and size")
        return Descriptor(str(entry.get("mediaType") or MANIFEST), entry["digest"], entry["size"])

    # -- docker save ------------------------------------------------------------------------------------------------

    def _load_docker(self) -> dict[str, Descriptor]:
        names: dict[str, Descriptor] = {}
        listed = self._json("manifest.json")
        if not isinstance(listed, list):
            raise BadArchive("manifest.json is not a list of images")
        for entry in listed:
            if (
                not isinstance(entry, dict)
                or not isinstance(entry.get("Config"), str)
                or not isinstance(entry.get("Layers"), list)
            ):
                raise BadArchive("manifest.json holds an entry without Config and Layers")
            tags = entry.get("RepoTags") or []
            if not tags:
                continue
            config_name = _clean(entry["Config"])
            config_bytes = self._bytes(config_name)
            config = self._parse(config_bytes, config_name)
            expected = PurePosixPath(config_name).name.removesuffix(".json")
            actual = hashlib.sha256(config_bytes).hexdigest()
            if len(expected) == 64 and expected != actual:
                raise BadArchive(f"configuration {config_name} has digest {actual}")
            diff_ids = (config.get("rootfs") or {}).get("diff_ids") or []
            if len(diff_ids) != len(entry["Layers"]):
                raise BadArchive(
                    f"{config_name} lists {len(diff_ids)} layers, manifest.json {len(entry['Layers'])}"
                )
            layers = [
                self._docker_layer(_clean(str(layer)), str(diff_id))
                for layer, diff_id in zip(entry["Layers"], diff_ids, strict=True)
            ]
            manifest = self._store.add_json(
                {
                    "schemaVersion": 2,
                    "mediaType": MANIFEST,
                    "config": self._store.add_bytes(config_bytes, CONFIG).as_json(),
                    "layers": [layer.as_json() for layer in layers],
                },
                MANIFEST,
            )
            names.update({self._full(tag): manifest for tag in tags})
        return names

    def _docker_layer(self, name: str, diff_id: str) -> Descriptor:
        """A layer, plain or gzipped; in both cases its plain bytes must have the announced ``diff_id``."""
        with self._open(name) as source:
            zipped = source.read(2) == b"\x1f\x8b"
        with self._open(name) as source:
            if not zipped:
                return self._store.add_stream(source, LAYER, diff_id)  # type: ignore[arg-type]
            hasher = hashlib.sha256()
            with gzip.open(source) as plain:
                while chunk := plain.read(1 << 20):
                    hasher.update(chunk)
        if "sha256:" + hasher.hexdigest() != diff_id:
            raise BadArchive(f"layer {name} does not have the digest {diff_id} its image announces")
        with self._open(name) as source:
            return self._store.add_stream(source, LAYER_GZIP)  # type: ignore[arg-type]

    # -- members ----------------------------------------------------------------------------------------------------

    @contextmanager
    def _open(self, name: str) -> Iterator[IO[bytes]]:
        member = self._members.get(name)
        # docker save links layers that several images share; tarfile follows both kinds of links.
        try:
            source = self._archive.extractfile(member) if member else None
        except KeyError:
            source = None
        if source is None:
            raise BadArchive(f"{name} is named but not inside (was the file cut off?)")
        with source:
            yield source

    def _bytes(self, name: str) -> bytes:
        with self._open(name) as source:
            data = source.read(_MAX_JSON + 1)
        if len(data) > _MAX_JSON:
            raise BadArchive(f"{name} is larger than {_MAX_JSON >> 20} MiB: not an image's description")
        return data

    def _parse(self, data: bytes, name: str) -> Any:
        try:
            return orjson.loads(data)
        except orjson.JSONDecodeError as error:
            raise BadArchive(f"{name} is not JSON: {error}") from error

    def _json(self, name: str) -> Any:
        return self._parse(self._bytes(name), name)

    def _full(self, name: str) -> str:
        try:
            return full_name(name)
        except ValueError as error:
            raise BadArchive(str(error)) from error


def _entries(document: Any, key: str, where: str) -> list[Any]:
    entries = document.get(key) if isinstance(document, dict) else None
    if not isinstance(entries, list):
        raise BadArchive(f"{where} has no list {key!r}")
    return entries
