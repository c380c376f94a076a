"""The node's API on 10250, as the API server and metrics-server call it.

=============================================  =================================================
``/containerLogs/<ns>/<pod>/<container>``      a log, perhaps followed
``/exec|attach/<ns>/<pod>[/<uid>]/<container>`` a stream: bytes carried to the runtime's streaming server
``/portForward/<ns>/<pod>[/<uid>]``            the same, into the pod's network
``/run/<ns>/<pod>/<container>?cmd=``           a command, its output as the answer
``/pods /stats/summary /metrics[/resource]``   what is and what it uses
=============================================  =================================================

Streams are not understood here: the runtime names a single-use URL on the node's loopback, the request is sent there
as it came (SPDY or websocket), and bytes are copied both ways.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import orjson

from bamikube.api import errors
from bamikube.api.errors import ApiError
from bamikube.kit import metrics
from bamikube.kit.clock import parse_rfc3339
from bamikube.kit.http import Answer, RawConnection, Request, Response, Stream, Tunnel
from bamikube.kit.tunnel import dial, relay, request_head
from bamikube.kit.world import World
from bamikube.nodeagent.agent import PodAgent
from bamikube.nodeagent.pod import facts
from bamikube.nodeagent.pod.worker import PodWorker
from bamikube.nodeagent.runtime.port import Container, Runtime, RuntimeFailure
from bamikube.nodeagent.server.auth import Delegated
from bamikube.nodeagent.server.logs import LogOptions, read
from bamikube.nodeagent.server.usage import Usage

log = logging.getLogger(__name__)

RUN_TIMEOUT = 60.0  # seconds a /run command may take
_HOP_HEADERS = frozenset({"host", "authorization", "content-length"})


class NodeApi:
    """``handle(Request) -> Answer`` for the node's HTTPS port."""

    def __init__(
        self, agent: PodAgent, runtime: Runtime, world: World, auth: Delegated, usage: Usage
    ) -> None:
        self._agent, self._runtime, self._world = agent, runtime, world
        self._auth, self._usage = auth, usage

    async def handle(self, request: Request) -> Answer:
        """Every failure is a Status object."""
        try:
            await self._auth.check(request)
            return await self._route(request)
        except RuntimeFailure as failure:
            code = 404 if failure.code == "NOT_FOUND" else 500
            return _failure(ApiError(code, "NotFound" if code == 404 else "InternalError", failure.message))
        except OSError as error:
            return _failure(errors.unavailable(f"the node cannot do this now: {error}"))
        except ApiError as error:
            return _failure(error)

    async def _route(self, request: Request) -> Answer:
        verb, *parts = request.path.strip("/").split("/")
        if verb == "healthz" and not [p for p in parts if p not in ("ping", "syncloop")]:
            return Response(200, b"ok", content_type="text/plain; charset=utf-8")
        if verb in ("pods", "runningpods") and not parts:
            items = [w.pod | {"status": w.status} for w in self._agent.workers.values()]
            return Response(
                200, orjson.dumps({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items})
            )
        if request.path == "/stats/summary":
            return Response(200, orjson.dumps(await self._usage.summary()))
        if request.path == "/metrics":
            return Response(200, metrics.render(), content_type="text/plain; version=0.0.4; charset=utf-8")
        if request.path == "/metrics/resource":
            body = (await self._usage.resource_metrics()).encode()
            return Response(200, body, content_type="text/plain; version=0.0.4; charset=utf-8")
        if verb == "containerLogs" and len(parts) == 3:
            return await self._logs(request, *parts)
        if verb in ("exec", "attach", "run") and len(parts) in (3, 4):
            container = self._container(parts[0], parts[1], parts[-1], running=True)
            spec = facts.container(self._worker(parts[0], parts[1]).pod, parts[-1]) or {}
            return await self._stream(verb, request, container, terminal=bool(spec.get("tty")))
        if verb == "portForward" and len(parts) in (2, 3):
            return await self._port_forward(request, self._worker(parts[0], parts[1]))
        raise errors.no_such_path()

    # -- finding things ----------------------------------------------------------------------------------------

    def _worker(self, namespace: str, name: str) -> PodWorker:
        worker = self._agent.worker(namespace, name)
        if worker is None:
            raise errors.not_found("pods", name)
        return worker

    def _container(
        self, namespace: str, pod: str, name: str, *, running: bool, previous: bool = False
    ) -> Container:
        worker = self._worker(namespace, pod)
        if facts.container(worker.pod, name) is None:
            raise errors.bad_request(f"container {name} is not valid for pod {pod}")
        history = [c for c in worker.state.history(name) if c.state != "created"]
        if previous:
            history = (
                [c for c in history if c.state != "running"][:1]
                if history[:1] and history[0].state == "running"
                else history[1:2]
            )
            if not history:
                raise errors.bad_request(f'previous terminated container "{name}" in pod "{pod}" not found')
        if not history:
            reason = "ContainerCreating"
            for item in worker.status.get("containerStatuses") or ():
                if item["name"] == name:
                    reason = (item["state"].get("waiting") or {}).get("reason", reason)
            raise errors.bad_request(f'container "{name}" in pod "{pod}" is waiting to start: {reason}')
        if running and history[0].state != "running":
            raise ApiError(500, "InternalError", f'container "{name}" in pod "{pod}" is not running')
        return history[0]

    # -- logs --------------------------------------------------------------------------------------------------

    async def _logs(self, request: Request, namespace: str, pod: str, name: str) -> Answer:
        options = _log_options(request, self._world.clock.now())
        container = self._container(namespace, pod, name, running=False, previous=request.flag("previous"))
        path = Path(container.log_path)
        if not path.exists():
            raise errors.not_found("logs", name)

        async def running() -> bool:
            worker = self._agent.worker(namespace, pod)
            latest = (
                next((c for c in worker.state.containers if c.id == container.id), None) if worker else None
            )
            return latest is not None and latest.state == "running"

        chunks: AsyncIterator[bytes] = read(path, options, self._world.clock, running)
        return Stream(200, chunks, content_type="text/plain; charset=utf-8")

    # -- streams -----------------------------------------------------------------------------------------------

    async def _stream(self, verb: str, request: Request, container: Container, *, terminal: bool) -> Answer:
        if request.method not in ("GET", "POST"):
            raise errors.method_not_allowed()
        command = request.query.get("command") or request.query.get("cmd") or []
        if verb == "run":
            words = command[0].split() if len(command) == 1 else command
            done = await self._runtime.exec_sync(container.id, words, RUN_TIMEOUT)
            return Response(200, done.stdout + done.stderr, content_type="text/plain; charset=utf-8")
        wants = {"stdin": _either(request, "stdin", "input"), "stdout": _either(request, "stdout", "output")}
        wants |= {"stderr": _either(request, "stderr", "error"), "tty": request.flag("tty")}
        if verb == "attach":
            if terminal:
                # Whether a process has a terminal was settled when it started, and a terminal has one output: who asks
                # for two is told so, as a kubelet tells them. kubectl then shows the log instead.
                if wants["stderr"]:
                    raise errors.bad_request(
                        f'container "{container.name}" has a terminal: tty and stderr cannot both be true'
                    )
                wants["tty"] = True
            url = await self._runtime.attach_url(container.id, **wants)
        else:
            if not command:
                raise errors.bad_request("you must specify at least 1 command for the container")
            url = await self._runtime.exec_url(container.id, command, **wants)
        return await _carry(request, url)

    async def _port_forward(self, request: Request, worker: PodWorker) -> Answer:
        sandbox = worker.state.sandbox()
        if sandbox is None:
            raise errors.bad_request(f"pod {worker.pod['metadata']['name']} has no running sandbox")
        texts = request.query.get("port") or request.query.get("ports") or []
        ports = [int(text) for part in texts for text in part.split(",") if text.isdigit()]
        return await _carry(request, await self._runtime.port_forward_url(sandbox.id, ports))


async def _carry(request: Request, url: str) -> Answer:
    """Send the request on to the runtime's streaming server and copy bytes from then on."""
    target = urlsplit(url)
    host, port = target.hostname or "127.0.0.1", target.port or 80
    back = await dial(host, port)
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


def _either(request: Request, *names: str) -> bool:
    return any(request.flag(name) for name in names)


def _failure(error: ApiError) -> Response:
    return Response(error.code, orjson.dumps(error.status()), dict(error.headers))


def _log_options(request: Request, now: float) -> LogOptions:
    """PodLogOptions from the query. Raises ApiError 400 naming the parameter."""

    def number(name: str) -> int | None:
        text = request.param(name)
        if not text:
            return None
        try:
            return int(text)
        except ValueError:
            raise errors.bad_request(f"{name}: {text!r} is not a whole number") from None

    since = None
    if (seconds := number("sinceSeconds")) is not None:
        since = now - seconds
    elif request.param("sinceTime"):
        try:
            since = parse_rfc3339(request.param("sinceTime"))
        except ValueError:
            raise errors.bad_request(
                f"sinceTime: {request.param('sinceTime')!r} is not an RFC 3339 time"
            ) from None
    tail, limit = number("tailLines"), number("limitBytes")
    return LogOptions(
        follow=request.flag("follow"),
        tail=None if tail is None or tail < 0 else tail,
        since=since,
        timestamps=request.flag("timestamps"),
        limit=limit,
        stream=request.param("stream") or "All",
    )
