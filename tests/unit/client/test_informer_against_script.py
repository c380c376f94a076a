"""An informer against a server whose every answer is written down: lost watches, 410, broken chunks, silence."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import orjson

from bamikube.api.errors import expired
from bamikube.client.client import Client
from bamikube.client.informer import Informer
from bamikube.kit.chance import Chance
from bamikube.kit.clock import LoopClock
from bamikube.kit.http import Answer, Request, Response, Stream
from bamikube.kit.world import World
from tests.simulation.virtual import run

Object = dict[str, Any]
Step = Callable[[Request], Answer]


def pod(name: str, version: int, **meta: Any) -> Object:
    return {"metadata": {"name": name, "namespace": "default", "resourceVersion": str(version), **meta}}


def listed(version: int, *items: Object) -> Step:
    body = {"kind": "PodList", "metadata": {"resourceVersion": str(version)}, "items": list(items)}
    return lambda request: Response(200, orjson.dumps(body))


def event(type: str, obj: Object) -> bytes:
    return orjson.dumps({"type": type, "object": obj}) + b"\n"


def watched(*chunks: bytes, hang: bool = False, breaks: bool = False) -> Step:
    async def stream() -> AsyncIterator[bytes]:
        for chunk in chunks:
            yield chunk
        if breaks:
            raise ConnectionError("the cable is out")
        if hang:
            await asyncio.Event().wait()

    return lambda request: Stream(200, stream())


def refused(status: Object, code: int) -> Step:
    return lambda request: Response(code, orjson.dumps(status))


class Script:
    """Answers one request after another; the last step is repeated."""

    def __init__(self, *steps: Step) -> None:
        self.steps = list(steps)
        self.asked: list[str] = []

    async def send(
        self, method: str, target: str, *, headers: Mapping[str, str], body: bytes = b"", stream: bool = False
    ) -> Answer:
        request = Request.make(method, target, headers=headers, body=body)
        kind = "watch" if request.flag("watch") else "list"
        self.asked.append(f"{kind} {request.param('resourceVersion', '-')}")
        return (self.steps.pop(0) if len(self.steps) > 1 else self.steps[0])(request)

    async def close(self) -> None:
        return None


def follow(script: Script, seconds: float = 1.0, **options: Any) -> tuple[Informer, list[str]]:
    """Run an informer for some (virtual) seconds; returns it and what its callbacks saw."""
    told: list[str] = []

    def changed(key: str, old: Any, new: Any) -> None:
        told.append(("-" if new is None else "+" if old is None else "~") + key.partition("/")[2])

    async def main() -> Informer:
        world = World(LoopClock(), Chance(1))
        informer = Informer(Client(script, world), "pods", world, **options)
        informer.on_change(changed)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await informer.run()
        return informer

    return run(main()), told


def test_it_lists_once_and_follows() -> None:
    script = Script(
        listed(10, pod("a", 5)),
        watched(
            event("ADDED", pod("b", 11)),
            event("MODIFIED", pod("a", 12)),
            event("DELETED", pod("b", 13)),
            hang=True,
        ),
    )
    informer, told = follow(script)
    assert told == ["+a", "+b", "~a", "-b"]
    assert script.asked == ["list 0", "watch 10"]
    assert informer.revision == "13"


def test_events_may_come_in_any_pieces() -> None:
    data = event("ADDED", pod("a", 11)) + b"\n" + event("ADDED", pod("b", 12))
    pieces = [data[i : i + 7] for i in range(0, len(data), 7)]
    _, told = follow(Script(listed(10), watched(*pieces, hang=True)))
    assert told == ["+a", "+b"]


def test_items_of_a_list_get_their_kind() -> None:
    informer, _ = follow(Script(listed(10, pod("a", 5)), watched(hang=True)))
    assert informer.get("default/a")["kind"] == "Pod"


def test_a_lost_watch_goes_on_where_it_was() -> None:
    bookmark = event("BOOKMARK", {"metadata": {"resourceVersion": "20"}})
    script = Script(
        listed(10), watched(bookmark, breaks=True), watched(event("ADDED", pod("a", 21)), hang=True)
    )
    _, told = follow(script, 5)
    assert told == ["+a"]
    assert script.asked == ["list 0", "watch 10", "watch 20"]


def test_half_an_event_at_the_end_is_asked_for_again() -> None:
    whole = event("ADDED", pod("a", 11))
    script = Script(listed(10), watched(whole[:20]), watched(whole, hang=True))
    _, told = follow(script, 5)
    assert told == ["+a"] and script.asked[1:3] == ["watch 10", "watch 10"]


def test_garbage_in_the_stream_is_a_broken_connection() -> None:
    script = Script(listed(10), watched(b"<html>\n"), watched(event("ADDED", pod("a", 11)), hang=True))
    _, told = follow(script, 5)
    assert told == ["+a"]


def test_a_list_that_is_no_json_is_tried_again() -> None:
    script = Script(lambda request: Response(200, b"<html>"), listed(10, pod("a", 5)), watched(hang=True))
    _, told = follow(script, 5)
    assert told == ["+a"]


def test_too_old_means_listing_again_and_telling_the_difference() -> None:
    gone = event("ERROR", expired("too old").status())
    script = Script(
        listed(10, pod("a", 5), pod("kept", 6)),
        watched(gone),
        listed(40, pod("b", 30), pod("kept", 6)),
        watched(hang=True),
    )
    informer, told = follow(script, 5)
    assert told == ["+a", "+kept", "-a", "+b"]
    assert script.asked == ["list 0", "watch 10", "list -", "watch 40"]
    assert sorted(informer.keys()) == ["default/b", "default/kept"]


def test_a_name_that_was_given_anew_is_an_end_and_a_beginning() -> None:
    script = Script(
        listed(10, pod("a", 5, uid="1"), pod("kept", 6, uid="2")),
        watched(event("ERROR", expired("too old").status())),
        listed(40, pod("a", 30, uid="3"), pod("kept", 31, uid="2")),
        watched(hang=True),
    )
    _, told = follow(script, 5, project=lambda obj: obj["metadata"]["resourceVersion"])
    assert told == ["+a", "+kept", "-a", "+a", "~kept"]


def test_too_old_said_at_once_is_the_same() -> None:
    script = Script(
        listed(10), refused(expired("old").status(), 410), listed(40, pod("b", 30)), watched(hang=True)
    )
    _, told = follow(script, 5)
    assert told == ["+b"]


def test_a_server_restored_from_a_backup_is_listed_again() -> None:
    details = {"causes": [{"reason": "ResourceVersionTooLarge"}]}
    ahead = {"kind": "Status", "code": 504, "reason": "Timeout", "message": "Too large", "details": details}
    script = Script(listed(90, pod("a", 5)), refused(ahead, 504), listed(7, pod("a", 5)), watched(hang=True))
    informer, told = follow(script, 5)
    assert told == ["+a"] and informer.revision == "7"


def test_a_watch_that_says_nothing_is_given_up() -> None:
    script = Script(listed(10), watched(hang=True), watched(event("ADDED", pod("a", 11)), hang=True))
    _, told = follow(script, 210)
    assert told == ["+a"]


def test_a_server_that_ends_watches_at_once_is_not_asked_in_a_tight_loop() -> None:
    script = Script(listed(10), watched())
    follow(script, 60)
    assert len(script.asked) < 25


def test_the_first_list_can_be_a_consistent_one() -> None:
    script = Script(listed(10), watched(hang=True))
    follow(script, fresh=True)
    assert script.asked[0] == "list -"


def test_projection_indexes_and_a_wrong_callback() -> None:
    script = Script(
        listed(10, pod("a", 5, labels={"x": "1"}), pod("b", 6, labels={})),
        watched(event("MODIFIED", pod("a", 11, labels={"x": "2"})), hang=True),
    )

    async def main() -> Informer:
        world = World(LoopClock(), Chance(1))

        def project(obj: Object) -> str | None:
            return obj["metadata"]["labels"].get("x")

        informer = Informer(Client(script, world), "pods", world, project=project)
        informer.add_index("x", lambda value: [value])
        informer.on_change(lambda key, old, new: 1 / 0)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1):
                await informer.run()
        return informer

    informer = run(main())
    assert informer.items() == ["2"]
    assert informer.by_index("x", "2") == ["2"] and informer.by_index("x", "1") == []
