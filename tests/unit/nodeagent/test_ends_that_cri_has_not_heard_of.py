"""An exit that the event stream tells before CRI knows of it is looked for until both agree."""

from __future__ import annotations

import pytest

from bamikube.nodeagent.pod.settling import LOOKS, pause, unsettled
from bamikube.nodeagent.pod.state import RuntimeState
from bamikube.nodeagent.runtime.port import Container, ContainerState, Sandbox


def state(container: ContainerState | None, *, ready: bool = True) -> RuntimeState:
    sandbox = Sandbox("s", "pod", "default", "uid", 0, ready, 1.0)
    containers = () if container is None else (Container("c", "s", "app", 0, container, 1.0),)
    return RuntimeState((sandbox,), containers)


@pytest.mark.parametrize(
    ("shown", "looks", "again"),
    [
        ("running", 0, True),
        ("created", 0, True),  # it ended before CRI said that it had started
        ("created", LOOKS - 1, True),
        ("running", LOOKS, False),  # the next listing of everything will find it
        ("exited", 0, False),
        (None, 0, True),  # this look may have begun before it was created
        (None, 1, False),  # removed since
    ],
)
def test_a_container(shown: ContainerState | None, looks: int, again: bool) -> None:
    assert unsettled({"c": looks}, state(shown)) == ({"c": looks + 1} if again else {})


def test_a_sandbox() -> None:
    assert unsettled({"s": 3}, state("running")) == {"s": 4}
    assert unsettled({"s": 3}, state("running", ready=False)) == {}


def test_the_looks_are_close_at_first_and_a_slow_runtime_is_asked_less_often() -> None:
    pauses = [pause({"c": looks}, took=0.002) for looks in range(1, LOOKS)]
    assert pauses == sorted(pauses) and pauses[0] < 0.012 and pauses[-1] == 0.5
    assert sum(pauses) > 9
    assert pause({"c": 1}, took=0.1) == pytest.approx(0.3)
    assert pause({"c": 1}, took=5.0) == 0.5
