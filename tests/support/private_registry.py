"""A registry with one image that is shown only to who knows the word: ``127.0.0.1:PORT/private/app:1``, user ``me``, password ``right``.

As a process (``python -m tests.support.private_registry FOLDER PORT``) it can be put into the network of a node of the lab.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import sys
from pathlib import Path
from typing import Any

from aiohttp import web

from bamikube.lab.images.archive import load_archive
from bamikube.lab.images.pause import pause_program
from bamikube.lab.images.store import ImageStore
from bamikube.lab.registry import Exchange, Registry
from tests.support.private_containerd import image_archive

NAME = "private/app:1"
RIGHT = "Basic " + base64.b64encode(b"me:right").decode()


def docker_config(place: str, password: str) -> str:
    """``.dockerconfigjson`` for a pull secret."""
    return json.dumps({"auths": {place: {"username": "me", "password": password}}})


async def start(folder: Path, port: int = 0) -> tuple[web.ServerRunner, str]:
    """Serve on loopback. What to ``cleanup()``, and the registry's name."""
    architecture = {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine]
    archive = folder / "image.tar"
    program = {"pause": pause_program(architecture)}
    described: dict[str, Any] = {"Entrypoint": ["/pause"], "Env": ["MINE=1"]}
    archive.write_bytes(image_archive(f"docker.io/{NAME}", program, {}, described))
    store = ImageStore(folder / "store")
    load_archive(archive, store)
    exchange = Exchange(Registry([store]))

    async def guarded(request: web.BaseRequest) -> web.StreamResponse:
        if request.headers.get("Authorization") != RIGHT:
            return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="test"'})
        return await exchange.handle(request)

    runner = web.ServerRunner(web.Server(guarded, access_log=None))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    return runner, f"127.0.0.1:{runner.addresses[0][1]}"


async def _main(folder: Path, port: int) -> None:
    await start(folder, port)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_main(Path(sys.argv[1]), int(sys.argv[2])))
