"""Whatever is asked of the node's API, the answer is the asker's fault or a good one."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any
from urllib.parse import quote

from hypothesis import example, given, settings
from hypothesis import strategies as st

from bamikube.kit.http import Request, Response
from bamikube.kit.world import World
from bamikube.nodeagent.pod.state import RuntimeState
from bamikube.nodeagent.runtime.port import Container, RuntimeFailure, Sandbox
from bamikube.nodeagent.server.app import NodeApi, Shown

ODD = st.text(max_size=12)
WORDS = st.sampled_from(
    ("exec", "attach", "run", "portForward", "containerLogs", "logs", "pods", "configz", "healthz", "metrics",
     "default", "web", "app", "ended", "u", "..", "", "ping")
)  # fmt: skip
NAMES = st.sampled_from(
    ("command", "cmd", "port", "ports", "stdin", "stdout", "output", "tty", "follow", "previous", "tailLines", "tail",
     "limitBytes", "sinceSeconds", "sinceTime", "stream", "timestamps", "verbose")
)  # fmt: skip
VALUES = ODD | st.sampled_from(
    ("1", "0", "-1", "9" * 5000, "all", "Stderr", "2026-01-01T00:00:00Z", "80,", "²")
)


class Worker:
    uid = "u"

    def __init__(self) -> None:
        self.pod: dict[str, Any] = {
            "metadata": {"name": "web", "namespace": "default", "uid": "u"},
            "spec": {"containers": [{"name": "app"}, {"name": "ended"}]},
        }
        self.status: dict[str, Any] = {
            "containerStatuses": [{"name": "app", "state": {"running": {}}, "containerID": "containerd://c"}]
        }
        running = Container("c", "s", "app", 0, "running", 1.0, log_path="/none")
        self.state = RuntimeState((Sandbox("s", "web", "default", "u", 0, True, 1.0),), (running,))
        self.probed: dict[Any, int] = {}
        self.probes_took: dict[Any, Any] = {}
        self.absent = False


class Everything:
    """Agent, runtime and authorizer in one: one pod, a runtime that refuses what it is told to do."""

    relisted = 1.0

    def __init__(self) -> None:
        self.workers = {"u": Worker()}

    def worker(self, namespace: str, name: str) -> Worker | None:
        return self.workers["u"] if (namespace, name) == ("default", "web") else None

    def mirrors(self) -> int:
        return 0

    def turns(self) -> bool:
        return True

    async def check(self, request: Request) -> None:
        return None

    async def list_sandboxes(self) -> list[Sandbox]:
        return []

    async def list_containers(self) -> list[Container]:
        return []

    async def _refuse(self, *args: Any, **more: Any) -> Any:
        raise RuntimeFailure("NOT_FOUND", "no such container")

    exec_sync = exec_url = attach_url = port_forward_url = checkpoint = _refuse


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(("GET", "POST", "HEAD", "PUT", "BREW")),
    st.lists(WORDS | ODD, max_size=5),
    st.lists(st.tuples(NAMES, VALUES), max_size=4),
)
@example("GET", ["containerLogs", "default", "web", "app"], [("tailLines", "9" * 5000)])
@example("GET", ["", "metrics"], [])
@example("GET", ["/", "stats", "summary"], [])
@example("POST", ["portForward", "default", "web"], [("port", "99999")])
def test_no_request_is_our_fault(method: str, words: list[str], query: list[tuple[str, str]]) -> None:
    everything: Any = Everything()
    shown = Shown({}, Path("/proc/self/fdinfo"))
    api = NodeApi(everything, everything, World(), everything, everything, shown)
    path = "/" + "/".join(quote(word, safe="") for word in words)
    text = "&".join(f"{name}={quote(value, safe='')}" for name, value in query)
    request = Request.make(method, f"{path}?{text}")
    if request.path.strip("/").split("/")[0] in ("metrics", "stats"):
        return  # they need a whole node, and take no input
    answer = asyncio.run(api.handle(request))
    if isinstance(answer, Response):
        said = answer.joined().decode()
        assert answer.status < 500 or "not found" in said, (answer.status, said)
