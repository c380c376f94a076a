"""``/logs/``: the node's own log files, and folders as a list of links.

A pod may be allowed to write below the folder, so a link there that leads out of it is treated as if nothing were
there: it would hand out any file of the machine.
"""

from __future__ import annotations

import html
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote

from bamikube.kit.http import Answer, Response, Stream
from bamikube.nodeagent.server.refusal import Refusal

CHUNK = 256 * 1024  # bytes read at once


def answer(root: Path, path: str) -> Answer:
    """The file or folder at ``path`` below ``root``. Raises Refusal 404 and 403."""
    base = root.resolve()
    try:
        target = (base / path.strip("/")).resolve()
    except (OSError, ValueError, RuntimeError):
        raise _missing() from None
    if not target.is_relative_to(base):
        raise _missing()
    try:
        if target.is_dir():
            if not path.endswith("/"):
                name = target.name if path else "logs"
                return Response(301, b"", {"Location": f"{quote(name)}/"})
            return Response(200, _listing(target), content_type="text/html; charset=utf-8")
        if target.is_file():
            return Stream(200, _content(target), content_type="text/plain; charset=utf-8")
    except PermissionError:
        raise Refusal(403, "403 Forbidden\n") from None
    raise _missing()


def _missing() -> Refusal:
    return Refusal(404, "404 page not found\n")


def _listing(folder: Path) -> bytes:
    lines = []
    for entry in sorted(folder.iterdir(), key=lambda e: e.name):
        name = entry.name + ("/" if entry.is_dir() else "")
        lines.append(f'<a href="{quote(name)}">{html.escape(name)}</a>')
    return ("<!doctype html>\n<meta name=\"viewport\" content=\"width=device-width\">\n<pre>\n"
            + "".join(f"{line}\n" for line in lines) + "</pre>\n").encode()  # fmt: skip


async def _content(path: Path) -> AsyncIterator[bytes]:
    """The file as long as it was when it was opened: a log that grows has an end all the same."""
    with path.open("rb") as file:
        left = path.stat().st_size
        while left > 0 and (data := file.read(min(CHUNK, left))):
            left -= len(data)
            yield data
