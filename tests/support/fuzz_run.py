"""A fuzzer let loose on a server: never a 5xx, every error a Status, and the server well afterwards."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import Any

import orjson
import yaml

from bamikube.apiserver.server import ApiServer
from bamikube.kit.http import Request, Response, Stream
from tests.support.fuzzing import Fuzzer, Shot

TOGETHER = 8  # requests under way at once
# What would make the server call out to nobody, and rightly fail: tried, but never kept.
_NOT_KEPT = ("/admissionregistration.k8s.io/", "/apiextensions.k8s.io/", "/apiregistration.k8s.io/")


class Harm(AssertionError):
    """The server did what it must not. Says the seed and the request."""


async def documents(server: ApiServer) -> list[Any]:
    """All OpenAPI v3 documents of the server."""
    index = await server.handle(Request.make("GET", "/openapi/v3"))
    assert isinstance(index, Response)
    found = []
    for path in orjson.loads(index.joined())["paths"].values():
        answer = await server.handle(Request.make("GET", path["serverRelativeURL"]))
        assert isinstance(answer, Response) and answer.status == 200
        found.append(orjson.loads(answer.joined()))
    return found


def _request(shot: Shot) -> Request:
    target = shot.target
    if any(group in target for group in _NOT_KEPT) and shot.method != "GET":
        joint = "&" if "?" in target else "?"
        target = f"{target.replace('dryRun=', 'x=')}{joint}dryRun=All"
    return Request.make(shot.method, target, headers=shot.headers, body=shot.body)


def _judge(shot: Shot, answer: Response) -> str:
    """What is wrong with an answer; "" when nothing is."""
    body = answer.joined()
    if answer.status < 400 or (answer.status, body) == (404, b"404 page not found\n"):
        return ""
    try:
        status = yaml.safe_load(body) if "yaml" in answer.content_type else orjson.loads(body)
    except (yaml.YAMLError, orjson.JSONDecodeError):
        return "" if "protobuf" in answer.content_type else "an error that is no Status"
    if (status.get("kind"), status.get("code")) != ("Status", answer.status) or not status.get("message"):
        return "an error that is no Status"
    if answer.status < 500:
        return ""
    if status.get("reason") == "Timeout" and "Too large resource version" in status["message"]:
        return ""
    if status.get("reason") == "ServiceUnavailable" and "/proxy" in shot.target:
        return ""
    if (
        "range is full" in status["message"]
    ):  # a range of services that was deleted gives nothing; Kubernetes' own 500
        return ""
    if "no key to sign service account tokens" in status["message"]:  # how the tests start it
        return ""
    return "an answer that blames the server"


async def fuzz(server: ApiServer, seed: int, seconds: float) -> Counter[int]:
    """Send requests to every operation in turn until the time is up. How often each status was answered."""
    fuzzer = Fuzzer(await documents(server), seed)
    end = time.monotonic() + seconds
    seen: Counter[int] = Counter()
    harms: dict[tuple[str, str], str] = {}  # the first of each operation
    turn = 0

    async def work() -> None:
        nonlocal turn
        while time.monotonic() < end:
            operation = fuzzer.operations[turn % len(fuzzer.operations)]
            turn += 1
            shot = fuzzer.shot(operation)
            answer = await server.handle(_request(shot))
            seen[answer.status] += 1
            if isinstance(answer, Stream):
                await answer.chunks.aclose()  # type: ignore[attr-defined]
            elif isinstance(answer, Response) and (wrong := _judge(shot, answer)):
                harms.setdefault(
                    (operation.method, operation.path),
                    f"{wrong} ({answer.status} {answer.joined()[:300]!r}) to {shot}",
                )

    await asyncio.gather(*(work() for _ in range(TOGETHER)))
    if harms:
        raise Harm("\n".join([f"seed {seed}, {len(harms)} operations:", *harms.values()]))
    if turn < len(fuzzer.operations):
        raise Harm(f"only {turn} of {len(fuzzer.operations)} operations were tried in {seconds:.0f} s")
    ready = await server.handle(Request.make("GET", "/readyz"))
    assert isinstance(ready, Response) and ready.joined() == b"ok"
    return seen
