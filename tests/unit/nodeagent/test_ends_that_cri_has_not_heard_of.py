"""An exit that the event stream tells before CRI knows of it is looked for until both agree."""

from __future__ import annotations

import pytest

from bamikube.nodeagent.pod.settling import LOOKS, unsettled
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
