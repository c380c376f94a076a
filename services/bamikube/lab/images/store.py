"""A folder of OCI content: blobs by digest, and one table of names.

The layout on disk is that of the OCI image layout (``oci-layout``, ``blobs/sha256/<hex>``, ``index.json`` whose
entries carry the image's complete name in ``org.opencontainers.image.ref.name``), so other tools can read it. It is
written in one order only: blobs first, each under a temporary name until its digest has been checked, then the
table, replaced in one rename. A reader therefore never sees a name whose content is missing, and an interrupted
write leaves nothing but an unused temporary file, which the next writer removes.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import orjson

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
LAYER_GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
REF_NAME = "org.opencontainers.image.ref.name"

_CHUNK = 1 << 20


class BadContent(ValueError):
    """Bytes whose digest is not the one they were announced with."""


@dataclass(frozen=True, slots=True)
class Descriptor:
    """What points at a blob: media type, digest (``sha256:<hex>``) and size in bytes."""

    media_type: str
    digest: str
    size: int

    def as_json(self) -> dict[str, Any]:
        return {"mediaType": self.media_type, "digest": self.digest, "size": self.size}


class ImageStore:
    """One folder of images. Any number of processes may read it; writers take a lock."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.blobs = folder / "blobs" / "sha256"

    # -- reading ------------------------------------------------------------------------------------------------

    def names(self) -> dict[str, Descriptor]:
        """Every complete name and what it points at; empty if the folder does not exist."""
        try:
            index = orjson.loads((self.folder / "index.json").read_bytes())
        except FileNotFoundError:
            return {}
        found: dict[str, Descriptor] = {}
        for entry in index.get("manifests", ()):
            name = entry.get("annotations", {}).get(REF_NAME)
            if name:
                found[name] = Descriptor(entry["mediaType"], entry["digest"], entry["size"])
        return found

    def blob(self, digest: str) -> Path | None:
        """The file that holds ``digest``, or None."""
        algorithm, _, hexadecimal = digest.partition(":")
        if algorithm != "sha256" or len(hexadecimal) != 64 or not hexadecimal.isalnum():
            return None
        path = self.blobs / hexadecimal
        return path if path.is_file() else None

    # -- writing ------------------------------------------------------------------------------------------------

    def add_bytes(self, data: bytes, media_type: str) -> Descriptor:
        """Keep ``data`` and say how to point at it."""
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        if self.blob(digest) is None:
            self._place(iter((data,)), digest)
        return Descriptor(media_type, digest, len(data))

    def add_json(self, value: Mapping[str, Any], media_type: str) -> Descriptor:
        return self.add_bytes(orjson.dumps(value, option=orjson.OPT_SORT_KEYS), media_type)

    def add_stream(self, source: BinaryIO, media_type: str, expected: str = "") -> Descriptor:
        """Keep what ``source`` holds. Raises BadContent, keeping nothing, if its digest is not ``expected``."""
        digest, size = self._place(iter(lambda: source.read(_CHUNK), b""), expected)
        return Descriptor(media_type, digest, size)

    def _place(self, chunks: Iterator[bytes], expected: str) -> tuple[str, int]:
        self.blobs.mkdir(parents=True, exist_ok=True)
        temporary = self.blobs / f".partial-{os.getpid()}-{id(chunks)}"
        hasher, size = hashlib.sha256(), 0
        try:
            with temporary.open("wb") as out:
                for chunk in chunks:
                    hasher.update(chunk)
                    size += len(chunk)
                    out.write(chunk)
            digest = "sha256:" + hasher.hexdigest()
            if expected and digest != expected:
                raise BadContent(f"content is {digest}, but was announced as {expected}")
            temporary.replace(self.blobs / digest.removeprefix("sha256:"))
        finally:
            temporary.unlink(missing_ok=True)
        return digest, size

    def tag(self, additions: Mapping[str, Descriptor], remove: Iterable[str] = ()) -> None:
        """Point names at content, and forget others, all in one step."""
        with self._locked():
            table = self.names()
            for name in remove:
                table.pop(name, None)
            table.update(additions)
            entries = [{**table[name].as_json(), "annotations": {REF_NAME: name}} for name in sorted(table)]
            (self.folder / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
            written = self.folder / ".index.json.new"
            written.write_bytes(
                orjson.dumps(
                    {"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}, option=orjson.OPT_INDENT_2
                )
            )
            written.replace(self.folder / "index.json")

    def sweep(self) -> int:
        """Remove blobs no name leads to, and partial files. Returns how many files went."""
        with self._locked():
            keep: set[str] = set()
            queue = [descriptor.digest for descriptor in self.names().values()]
            while queue:
                digest = queue.pop()
                if digest in keep or (path := self.blob(digest)) is None:
                    continue
                keep.add(digest)
                if path.stat().st_size < 4 << 20:
                    queue.extend(_children(path.read_bytes()))
            gone = 0
            for path in list(self.blobs.glob("*")) + list(self.blobs.glob(".partial-*")):
                if "sha256:" + path.name not in keep:
                    path.unlink(missing_ok=True)
                    gone += 1
            return gone

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Held around everything that adds content and then names it: one writer at a time, no sweep in between."""
        with self._lock(".writer.lock"):
            yield

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with self._lock(".lock"):
            yield

    @contextmanager
    def _lock(self, name: str) -> Iterator[None]:
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / name).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _children(data: bytes) -> list[str]:
    """Digests a manifest or an index names; nothing for other content."""
    if not data.startswith(b"{"):
        return []
    try:
        document = orjson.loads(data)
    except orjson.JSONDecodeError:
        return []
    entries = [*document.get("manifests", []), *document.get("layers", [])]
    if isinstance(document.get("config"), dict) and "digest" in document["config"]:
        entries.append(document["config"])
    return [entry["digest"] for entry in entries if isinstance(entry, dict) and "digest" in entry]
