"""The event recorder: counting, combining, cutting off, and never failing."""

from __future__ import annotations

import asyncio
from typing import Any

from bamikube.api.errors import forbidden, not_found
from bamikube.client.events import EventRecorder
from bamikube.kit.chance import Chance
from bamikube.kit.clock import LoopClock
from bamikube.kit.world import World
from tests.simulation.virtual import run

Object = dict[str, Any]
POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "web", "namespace": "default", "uid": "u", "resourceVersion": "7"},
}


class Events:
    """Keeps what is written; ``failures`` are raised first."""

    def __init__(self, *failures: Exception) -> None:
        self.held: dict[str, Object] = {}
        self.failures = list(failures)

    async def create(self, resource: str, body: Object) -> Object:
        if self.failures:
            raise self.failures.pop(0)
        self.held[body["metadata"]["name"]] = body
        return body

    async def patch(self, resource: str, name: str, patch: Object, namespace: str) -> Object:
        if name not in self.held:
            raise not_found("events", name)
        self.held[name] |= patch
        return self.held[name]


def record(
    events: Events, *steps: tuple[str, float], seconds: float = 5.0, obj: Object = POD
) -> list[Object]:
    """Record ``(message, pause after it)``; returns the Event objects."""

    async def main() -> None:
        client: Any = events
        recorder = EventRecorder(client, World(LoopClock(), Chance(1)), "test", "host")
        running = asyncio.ensure_future(recorder.run())
        for message, pause in steps:
            recorder.event(obj, "Normal", "Tested", message)
            await asyncio.sleep(pause)
        await asyncio.sleep(seconds)
        assert not running.done()
        running.cancel()

    run(main())
    return list(events.held.values())


def test_the_same_event_is_counted() -> None:
    (one,) = record(Events(), ("hello", 1), ("hello", 1), ("hello", 1))
    assert one["count"] == 3 and one["firstTimestamp"] != one["lastTimestamp"]
    assert one["involvedObject"]["uid"] == "u" and one["source"] == {"component": "test", "host": "host"}


def test_an_event_counts_on_however_old_the_last_one_is() -> None:
    (one,) = record(Events(), ("hello", 7000), ("hello", 1))
    assert one["count"] == 2


def test_similar_events_are_combined_from_the_tenth_message_on() -> None:
    found = record(Events(), *((f"created pod {n}", 0.1) for n in range(14)))
    assert len(found) == 10 and found[-2]["message"] == "created pod 8"
    assert (
        found[-1]["message"] == "(combined from similar events): created pod 13" and found[-1]["count"] == 5
    )


def test_what_is_similar_does_not_depend_on_the_container() -> None:
    events = Events()

    async def main() -> None:
        client: Any = events
        recorder = EventRecorder(client, World(LoopClock(), Chance(1)), "test")
        running = asyncio.ensure_future(recorder.run())
        for n in range(12):
            path = f"spec.containers{{c{n}}}"
            recorder.event(POD, "Normal", "Tested", f"pulled {n}", field_path=path)
            recorder.event(POD, "Normal", "Other", "the same", field_path=path)
            await asyncio.sleep(400)
        running.cancel()

    run(main())
    tested = [one["message"] for one in events.held.values() if one["reason"] == "Tested"]
    assert len(tested) == 10 and tested[-1] == "(combined from similar events): pulled 11"
    assert [one["count"] for one in events.held.values() if one["reason"] == "Other"] == [1] * 12


def test_messages_of_long_ago_are_not_similar() -> None:
    found = record(Events(), *((f"created pod {n}", 700) for n in range(14)))
    assert len(found) == 14


def test_a_noisy_source_is_cut_off_and_what_was_cut_off_still_counts() -> None:
    noise = [("again", 0.01)] * 100
    (one,) = record(Events(), *noise)
    assert one["count"] == 25
    (one,) = record(Events(), *noise, ("again", 300), ("again", 1))
    assert one["count"] == 102


def test_an_event_that_has_gone_is_made_again() -> None:
    events = Events()

    async def main() -> None:
        client: Any = events
        recorder = EventRecorder(client, World(LoopClock(), Chance(1)), "test")
        running = asyncio.ensure_future(recorder.run())
        recorder.event(POD, "Normal", "Tested", "hello")
        await asyncio.sleep(1)
        events.held.clear()
        recorder.event(POD, "Normal", "Tested", "hello")
        await asyncio.sleep(1)
        running.cancel()

    run(main())
    assert [one["count"] for one in events.held.values()] == [2]


def test_a_lost_server_is_waited_for_and_a_refusal_is_not() -> None:
    assert len(record(Events(ConnectionError("down"), TimeoutError()), ("hello", 1))) == 1
    minute = [ConnectionError("down")] * 10
    assert len(record(Events(*minute), ("hello", 1), ("bye", 1), seconds=90)) == 2
    assert record(Events(forbidden("events", "x", "terminating")), ("hello", 1)) == []


def test_events_of_nodes_stand_in_default() -> None:
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n" * 253, "uid": "u"}}
    (one,) = record(Events(), ("hello", 1), obj=node)
    assert one["metadata"]["namespace"] == "default" and len(one["metadata"]["name"]) <= 253


def test_components_of_one_process_sign_their_own_events() -> None:
    events = Events()

    async def main() -> None:
        client: Any = events
        recorder = EventRecorder(client, World(LoopClock(), Chance(1)), "test")
        running = asyncio.ensure_future(recorder.run())
        for component in ("a-controller", "", "a-controller"):
            recorder.event(POD, "Normal", "Tested", "hello", component=component)
        await asyncio.sleep(1)
        running.cancel()

    run(main())
    found = [
        (one["source"]["component"], one["reportingComponent"], one["count"]) for one in events.held.values()
    ]
    assert found == [("a-controller", "a-controller", 2), ("test", "test", 1)]


def test_what_is_noted_for_programs_is_an_annotation_of_the_event() -> None:
    events = Events()

    async def main() -> None:
        client: Any = events
        recorder = EventRecorder(client, World(LoopClock(), Chance(1)), "test")
        running = asyncio.ensure_future(recorder.run())
        recorder.event(POD, "Warning", "Evicted", "It has to go", annotations={"starved_resource": "memory"})
        await asyncio.sleep(1)
        running.cancel()

    run(main())
    (made,) = events.held.values()
    assert made["metadata"]["annotations"] == {"starved_resource": "memory"}
