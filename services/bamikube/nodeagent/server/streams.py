"""exec, attach, port-forward and run: requests carried to the runtime's streaming server.

Streams are not understood here: the runtime names a single-use URL on the node's loopback, the request is sent there
as it came (SPDY or websocket), and bytes are copied both ways.
"""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

from bamikube.kit.http import Answer, RawConnection, Request, Response, Tunnel
from bamikube.kit.tunnel import dial_socket, relay, request_head
from bamikube.nodeagent.pod import facts
from bamikube.nodeagent.pod.worker import PodWorker
from bamikube.nodeagent.runtime.port import Runtime
from bamikube.nodeagent.server import lookup
from bamikube.nodeagent.server.refusal import Refusal

RUN_TIMEOUT = 60.0  # seconds a /run command may take
_HOP_HEADERS = frozenset({"host", "authorization", "content-length"})


class Streams:
    """What is done inside a running container or pod."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    async def exec(self, request: Request, worker: PodWorker, name: str) -> Answer:
        wants = _wanted(request)
        container = lookup.running(worker.state, name)
        command = request.query.get("command") or []
        if not command:
            raise Refusal(400, "you must specify at least 1 command for the container")
        return await _carry(request, await self._runtime.exec_url(container.id, command, **wants))

    async def attach(self, request: Request, worker: PodWorker, name: str) -> Answer:
        wants = _wanted(request)
        meta = worker.pod["metadata"]
        container = lookup.running(
            worker.state, name, f"container {name} not found in pod {meta['name']}_{meta['namespace']}"
        )
        # Whether a process has a terminal was settled when it started, and a terminal has one output: who asks for two
        # is told so, as a kubelet tells them. kubectl then shows the log instead.
        wants["tty"] = bool((facts.container(worker.pod, name) or {}).get("tty"))
        if wants["tty"] and wants["stderr"]:
            raise Refusal(400, f'container "{name}" has a terminal: tty and stderr cannot both be true')
        return await _carry(request, await self._runtime.attach_url(container.id, **wants))

    async def run(self, request: Request, worker: PodWorker, name: str) -> Answer:
        container = lookup.running(worker.state, name)
        command = _form(request, "cmd").split()
        if not command:
            raise Refusal(400, "cmd: the command to run is missing")
        done = await self._runtime.exec_sync(container.id, command, RUN_TIMEOUT)
        if done.exit_code:
            said = done.stderr.decode(errors="replace")
            raise Refusal(500, f"command '{' '.join(command)}' exited with {done.exit_code}: {said}")
        return Response(200, done.stdout + done.stderr)

    async def port_forward(self, request: Request, worker: PodWorker) -> Answer:
        sandbox = worker.state.sandbox()
        if sandbox is None:
            meta = worker.pod["metadata"]
            raise Refusal(500, f'pod not found ("{meta["name"]}_{meta["namespace"]}")')
        texts = request.query.get("port") or request.query.get("ports") or []
        ports = []
        for text in (one for part in texts for one in part.split(",")):
            if not (text.isascii() and text.isdigit() and 0 < int(text) < 65536):
                raise Refusal(400, f'unable to parse "{text}" as a port')
            ports.append(int(text))
        return await _carry(request, await self._runtime.port_forward_url(sandbox.id, ports))


def _form(request: Request, name: str) -> str:
    """A parameter of the query or, as ``curl -d`` sends it, of a form in the body; the form counts first."""
    if request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        form = parse_qs(request.body.decode(errors="replace"))
        if name in form:
            return form[name][0]
    return request.param(name)


def _wanted(request: Request) -> dict[str, bool]:
    """Which streams are asked for, by the kubelet's names or the API's. Raises Refusal 400."""
    wants = {
        "stdin": request.flag("stdin") or request.flag("input"),
        "stdout": request.flag("stdout") or request.flag("output"),
        "stderr": request.flag("stderr") or request.flag("error"),
        "tty": request.flag("tty"),
    }
    if not (wants["stdin"] or wants["stdout"] or wants["stderr"]):
        raise Refusal(400, "you must specify at least 1 of stdin, stdout, stderr")
    return wants


async def _carry(request: Request, url: str) -> Answer:
    """Send the request on to the runtime's streaming server and copy bytes from then on."""
    target = urlsplit(url)
    host, port = target.hostname or "127.0.0.1", target.port or 80
    back = await dial_socket(host, port)
    path = target.path + (f"?{target.query}" if target.query else "")
    headers = [("Host", f"{host}:{port}")]
    headers += [(name, value) for name, value in request.headers.items() if name not in _HOP_HEADERS]

    async def serve(front: RawConnection) -> None:
        try:
            await back.write(request_head(request.method, path, headers))
            await relay(front, back)
        finally:
            back.close()

    return Tunnel(serve)
