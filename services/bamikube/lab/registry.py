"""The lab's registry: what every node's containerd asks first, for any image name.

It answers the read half of the OCI distribution API (manifests and blobs, GET and HEAD) over plain HTTP on the
node's own loopback, out of folders of OCI content (:mod:`bamikube.lab.images.store`). containerd is told by
``certs.d/_default/hosts.toml`` to ask here before the real registries and says in ``?ns=docker.io`` whom it would
have asked. A name we do not hold is 404 ``MANIFEST_UNKNOWN``, and containerd goes on to the real registry.

Each node runs its own: pulling works while nodes are partitioned, and no node is the registry's single place.
Folders earlier in the list win, so an image loaded by the user goes before a built-in one of the same name.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import orjson

from bamikube.kit import log as logs
from bamikube.kit.lean import web
from bamikube.lab.images.names import is_digest
from bamikube.lab.images.store import Descriptor, ImageStore

log = logging.getLogger(__name__)

DEFAULT_NAMESPACE = "docker.io"


class Registry:
    """Finds names and blobs in several stores. Tables are read again when their file changed."""

    def __init__(self, stores: Sequence[ImageStore]) -> None:
        self._stores = stores
        self._tables: dict[Path, tuple[int, dict[str, Descriptor]]] = {}

    def _table(self, store: ImageStore) -> dict[str, Descriptor]:
        try:
            stamp = (store.folder / "index.json").stat().st_mtime_ns
        except FileNotFoundError:
            return {}
        kept = self._tables.get(store.folder)
        if kept is None or kept[0] != stamp:
            kept = (stamp, store.names())
            self._tables[store.folder] = kept
        return kept[1]

    def find(self, namespace: str, repository: str, reference: str) -> tuple[Descriptor, Path] | None:
        """The manifest that ``reference`` (tag or digest) means in a repository, and its file."""
        prefix = f"{namespace}/{repository}"
        for store in self._stores:
            table = self._table(store)
            if not is_digest(reference):
                descriptor = table.get(f"{prefix}:{reference}")
                if descriptor and (path := store.blob(descriptor.digest)):
                    return descriptor, path
            elif (path := store.blob(reference)) and any(name.startswith(prefix + ":") for name in table):
                media_type = _media_type(path)
                if media_type:
                    return Descriptor(media_type, reference, path.stat().st_size), path
        return None

    def blob(self, digest: str) -> Path | None:
        return next((path for store in self._stores if (path := store.blob(digest))), None)

    def tags(self, namespace: str, repository: str) -> list[str]:
        prefix = f"{namespace}/{repository}:"
        found = {
            name.removeprefix(prefix)
            for store in self._stores
            for name in self._table(store)
            if name.startswith(prefix)
        }
        return sorted(found)


def _media_type(path: Path) -> str:
    """The media type a manifest or index carries in itself; empty for anything else."""
    if path.stat().st_size > 4 << 20:
        return ""
    try:
        document = orjson.loads(path.read_bytes())
    except orjson.JSONDecodeError:
        return ""
    if not isinstance(document, dict) or document.get("schemaVersion") != 2:
        return ""
    if isinstance(document.get("mediaType"), str):
        return str(document["mediaType"])
    kind = "index" if "manifests" in document else "manifest"
    return f"application/vnd.oci.image.{kind}.v1+json"


def _error(status: int, code: str, message: str) -> web.Response:
    body = orjson.dumps({"errors": [{"code": code, "message": message, "detail": None}]})
    return web.Response(status=status, body=body, content_type="application/json")


class Exchange:
    """The HTTP side: ``/v2/<repository>/(manifests|blobs|tags)/...``."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.method not in ("GET", "HEAD"):
            return _error(
                405, "UNSUPPORTED", "this registry is read-only; use 'bamikube image load FILE.tar'"
            )
        path = request.path
        if path in ("/v2", "/v2/"):
            return web.json_response({}, headers={"Docker-Distribution-Api-Version": "registry/2.0"})
        parts = path.split("/")
        if len(parts) < 5 or parts[1] != "v2":
            return _error(404, "NAME_UNKNOWN", f"{path} is not a path of the distribution API")
        repository, what, reference = "/".join(parts[2:-2]), parts[-2], parts[-1]
        namespace = request.query.get("ns", DEFAULT_NAMESPACE)
        if what == "manifests":
            return self._manifest(request, namespace, repository, reference)
        if what == "blobs":
            return self._blob(reference)
        if what == "tags" and reference == "list":
            tags = self._registry.tags(namespace, repository)
            if tags:
                return web.json_response({"name": repository, "tags": tags})
            return _error(404, "NAME_UNKNOWN", f"no image {namespace}/{repository} in this lab")
        return _error(404, "NAME_UNKNOWN", f"{path} is not a path of the distribution API")

    def _manifest(
        self, request: web.BaseRequest, namespace: str, repository: str, reference: str
    ) -> web.StreamResponse:
        found = self._registry.find(namespace, repository, reference)
        if found is None:
            return _error(
                404, "MANIFEST_UNKNOWN", f"no image {namespace}/{repository}:{reference} in this lab"
            )
        descriptor, path = found
        headers = {"Docker-Content-Digest": descriptor.digest, "ETag": f'"{descriptor.digest}"'}
        return web.Response(body=path.read_bytes(), content_type=descriptor.media_type, headers=headers)

    def _blob(self, digest: str) -> web.StreamResponse:
        if not is_digest(digest):
            return _error(400, "DIGEST_INVALID", f"{digest} is not a sha256 digest")
        path = self._registry.blob(digest)
        if path is None:
            return _error(404, "BLOB_UNKNOWN", f"no blob {digest} in this lab")
        headers = {"Docker-Content-Digest": digest, "Content-Type": "application/octet-stream"}
        return web.FileResponse(path, headers=headers)


async def start(registry: Registry, host: str, port: int) -> tuple[web.ServerRunner, int]:
    """Serve on ``host:port`` (0: any free port). Returns what to ``cleanup()`` and the port."""
    runner = web.ServerRunner(web.Server(Exchange(registry).handle, access_log=None))
    await runner.setup()
    site = web.TCPSite(runner, host, port, reuse_address=True)
    await site.start()
    return runner, int(runner.addresses[0][1])


async def _serve(stores: Sequence[ImageStore], host: str, port: int) -> int:
    runner, port = await start(Registry(stores), host, port)
    log.info("serving %s on http://%s:%d", ", ".join(str(store.folder) for store in stores), host, port)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await stop.wait()
    await runner.cleanup()
    return 0


def main(argv: list[str] | None = None) -> int:
    """The registry as a process."""
    parser = argparse.ArgumentParser(prog="bamikube-registry", description=__doc__.split("\n")[0])
    parser.add_argument(
        "--store", action="append", required=True, metavar="DIR", help="folder of OCI content; the first wins"
    )
    parser.add_argument("--address", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=5000)
    given = parser.parse_args(argv)
    logs.setup("registry", 0, "text")
    return asyncio.run(
        _serve([ImageStore(Path(folder)) for folder in given.store], given.address, given.port)
    )


if __name__ == "__main__":
    sys.exit(main())
