"""The node's API on 10250, as the API server, metrics-server and Prometheus call it.

================================================  ==============================================
``/containerLogs/<ns>/<pod>/<container>``         a log, perhaps followed
``/exec|attach/<ns>/<pod>[/<uid>]/<container>``   a stream: :mod:`.streams`
``/portForward/<ns>/<pod>[/<uid>]``               the same, into the pod's network
``/run/<ns>/<pod>[/<uid>]/<container>?cmd=``      a command, its output as the answer
``/pods /runningpods``                            what is bound here; what the runtime runs
``/stats/summary /metrics[/resource|/cadvisor]``  what it uses
``/metrics /metrics/probes``                      what the node agent has done, how probes came out
``/configz``                                      the configuration in effect
``/logs/<path>``                                  files below ``/var/log``
``/checkpoint/<ns>/<pod>/<container>``            a container written to a file: :mod:`.checkpoints`
``/healthz[/ping|/syncloop]``                     whether it works
================================================  ==============================================

A refusal is a status and a line of text (:mod:`.refusal`), in the kubelet's words.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import orjson

from bamikube.kit import metrics
from bamikube.kit.http import Answer, Request, Response, Stream
from bamikube.kit.world import World
from bamikube.nodeagent import figures
from bamikube.nodeagent.agent import PodAgent
from bamikube.nodeagent.node.certificates import UNUSED
from bamikube.nodeagent.pod.facts import JSON
from bamikube.nodeagent.pod.worker import PodWorker
from bamikube.nodeagent.runtime.port import Runtime, RuntimeFailure
from bamikube.nodeagent.server import debugging, logfiles, lookup
from bamikube.nodeagent.server.auth import Delegated
from bamikube.nodeagent.server.checkpoints import checkpoint
from bamikube.nodeagent.server.logoptions import log_options
from bamikube.nodeagent.server.logs import read
from bamikube.nodeagent.server.refusal import TEXT, Refusal, no_page, no_pod, wrong_method
from bamikube.nodeagent.server.running import running_pods
from bamikube.nodeagent.server.streams import Streams
from bamikube.nodeagent.stats.own import Standing, probe_metrics
from bamikube.nodeagent.stats.provider import Stats

log = logging.getLogger(__name__)

_READ = ("GET", "HEAD")
_STREAM = ("GET", "POST")
_PATHS = frozenset(
    ("attach", "checkpoint", "configz", "containerLogs", "debug", "exec", "healthz", "logs", "metrics", "pods", "portForward", "run",
     "runningpods", "stats")
)  # fmt: skip
_METHODS = frozenset(("OPTIONS", "GET", "HEAD", "POST", "PUT", "DELETE", "TRACE", "CONNECT"))
_CHECKS = ("ping", "log", "syncloop")
_DEBUG = frozenset(
    ("attach", "checkpoint", "containerLogs", "exec", "logs", "portForward", "run", "runningpods")
)


@dataclass(frozen=True, slots=True)
class Shown:
    """What the API shows of the node agent itself: its configuration, the folder of the node's logs, and until when its
    certificates are good (towards the API server, and its own; seconds since the epoch), and where checkpoints go. ``debugging`` and
    ``files``: whether there is what looks into pods, and the folder of logs; ``profiles`` and ``flags``: what is below /debug."""

    configuration: JSON
    logs: Path
    certificates: Callable[[], tuple[float, float]] = lambda: (UNUSED, UNUSED)
    checkpoints: Path = Path("/var/lib/kubelet/checkpoints")
    debugging: bool = True
    files: bool = True
    profiles: bool = False
    flags: bool = False


class NodeApi:
    """``handle(Request) -> Answer`` for the node's HTTPS port; without ``auth`` for the port that everybody may read."""

    def __init__(
        self,
        agent: PodAgent,
        runtime: Runtime,
        world: World,
        auth: Delegated | None,
        stats: Stats,
        shown: Shown,
    ) -> None:
        self._agent, self._runtime, self._world = agent, runtime, world
        self._auth, self._stats, self._shown = auth, stats, shown
        self._streams = Streams(runtime)
        self._began = world.clock.now()

    async def handle(self, request: Request) -> Answer:
        """Every failure is an answer."""
        labels = _counted(request)
        figures.HTTP_REQUESTS.labels(*labels).inc()
        with (
            figures.HTTP_INFLIGHT.labels(*labels).track_inprogress(),
            figures.HTTP_SECONDS.labels(*labels).time(),
        ):
            return await self._answer(request)

    async def _answer(self, request: Request) -> Answer:
        to_stream = "upgrade" in request.headers.get("connection", "").lower()
        try:
            if self._auth is not None:
                await self._auth.check(request)
            return await self._route(request)
        except Refusal as refusal:
            return refusal.response(to_stream=to_stream)
        except RuntimeFailure as failure:
            code = {"NOT_FOUND": 404, "RESOURCE_EXHAUSTED": 429}.get(failure.code, 500)
            return Refusal(code, failure.in_go()).response(to_stream=to_stream)
        except OSError as error:
            text = f"the node cannot do this now: {error}"
            return Refusal(503, text).response(to_stream=to_stream)

    async def _route(self, request: Request) -> Answer:
        verb, *parts = request.path.strip("/").split("/")
        if (verb in _DEBUG or [verb, *parts[:1]] == ["debug", "pprof"]) and not self._shown.debugging:
            raise Refusal(405, "Debug endpoints are disabled.\n")
        if verb == "logs" and not self._shown.files:
            raise Refusal(405, "logs endpoint is disabled.\n")
        if verb in ("exec", "attach", "run", "portForward"):
            return await self._in_pod(request, verb, parts)
        if verb == "containerLogs" and len(parts) == 3:
            _only(request, _READ)
            return await self._logs(request, *parts)
        if verb == "checkpoint" and len(parts) == 3:
            _only(request, ("POST",))
            worker, now = self._worker(parts[0], parts[1]), self._world.clock.now()
            return await checkpoint(request, worker, parts[2], self._runtime, self._shown.checkpoints, now)
        if verb == "debug" and parts[:1] in (["pprof"], ["flags"]):
            shown = self._shown
            return await debugging.answer(request, parts, profiles=shown.profiles, flags=shown.flags)
        answer = await self._page(request, verb, parts)
        _only(request, _READ)
        return answer

    async def _page(self, request: Request, verb: str, parts: list[str]) -> Answer:
        """What has no pod in its path. Raises Refusal 404."""
        if verb == "healthz" and (not parts or (len(parts) == 1 and parts[0] in _CHECKS)):
            return _health(request, parts[0] if parts else "", self._agent.turns())
        if verb == "pods" and not parts:
            return _pod_list([w.pod | {"status": w.status} for w in self._agent.workers.values()])
        if verb == "runningpods" and not parts:
            return _pod_list(
                running_pods(await self._runtime.list_sandboxes(), await self._runtime.list_containers())
            )
        if verb == "configz" and not parts and self._shown.debugging:
            return Response(200, orjson.dumps({"kubeletconfig": self._shown.configuration}))
        if verb == "logs":
            return logfiles.answer(self._shown.logs, request.path.removeprefix("/logs"))
        match "/".join([verb, *parts]):
            case "stats/summary":
                short = request.flag("only_cpu_and_memory")
                return Response(200, orjson.dumps(await self._stats.summary(short)))
            case "metrics":
                workers = list(self._agent.workers.values())
                standing = Standing(self._agent.relisted, *self._shown.certificates(), self._agent.mirrors())
                return _exposition(await self._stats.own_metrics(workers, standing))
            case "metrics/probes":
                return _exposition(probe_metrics(list(self._agent.workers.values()), self._began))
            case "metrics/resource":
                return _exposition(await self._stats.resource_metrics())
            case "metrics/cadvisor":
                return _exposition(await self._stats.cadvisor_metrics())
        raise no_page()

    # -- pods --------------------------------------------------------------------------------------------------

    def _worker(self, namespace: str, name: str, uid: str = "") -> PodWorker:
        """A pod's worker; where the path names a uid it has to be that pod. Raises Refusal 404."""
        worker = self._agent.worker(namespace, name)
        if worker is None:
            raise no_pod()
        if uid and uid not in self._agent.uids(worker):
            raise Refusal(404, "pod not found")
        return worker

    async def _in_pod(self, request: Request, verb: str, parts: list[str]) -> Answer:
        """exec, attach and run name a container, portForward does not; a uid may stand before it."""
        container = verb != "portForward"
        if len(parts) - container not in (2, 3):
            raise no_page()
        _only(request, ("POST",) if verb == "run" else _STREAM)
        uid = parts[2] if len(parts) - container == 3 else ""
        worker = self._worker(parts[0], parts[1], uid)
        match verb:
            case "exec":
                return await self._streams.exec(request, worker, parts[-1])
            case "attach":
                return await self._streams.attach(request, worker, parts[-1])
            case "run":
                return await self._streams.run(request, worker, parts[-1])
        return await self._streams.port_forward(request, worker)

    async def _logs(self, request: Request, namespace: str, pod: str, name: str) -> Answer:
        options = log_options(request, self._world.clock.now())
        worker = self._agent.worker(namespace, pod)
        if worker is None:
            raise Refusal(404, f'pod "{pod}" does not exist\n')
        container_id = lookup.log_owner(worker.pod, worker.status, name, request.flag("previous"))
        owner = next((c for c in worker.state.containers if c.id == container_id), None)
        if owner is None:
            raise Refusal(400, f"unable to retrieve container logs for containerd://{container_id}")
        path = Path(owner.log_path)
        if not path.exists():
            missing = (
                f'failed to try resolving symlinks in path "{path}": lstat {path}: no such file or directory'
            )
            raise Refusal(400, missing)

        async def running() -> bool:
            now = self._agent.worker(namespace, pod)
            known = now.state.containers if now is not None else ()
            return any(c.id == container_id and c.state in ("created", "running") for c in known)

        chunks: AsyncIterator[bytes] = read(path, options, self._world.clock, running)
        return Stream(200, chunks, content_type=TEXT)


def _counted(request: Request) -> tuple[str, str, str, str]:
    """The labels under which a request is counted: only its first word is of interest, and only if it is a known one."""
    first, *more = request.path.strip("/").split("/")
    long = first in ("exec", "attach", "portForward", "debug") or request.flag("follow")
    path = first if first in _PATHS else "other"
    if first == "metrics" and more:
        path = f"metrics/{more[0]}" if more[0] in ("cadvisor", "probes", "resource") else "other"
    method = request.method if request.method in _METHODS else "other"
    return str(long).lower(), method, path, "readwrite"


def _only(request: Request, methods: tuple[str, ...]) -> None:
    if request.method not in methods:
        raise wrong_method()


def _exposition(text: bytes) -> Response:
    return Response(200, text, content_type=metrics.CONTENT_TYPE)


def _pod_list(items: list[JSON]) -> Response:
    return Response(
        200, orjson.dumps({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items})
    )


def _health(request: Request, check: str, turns: bool) -> Response:
    """One check alone, or all of them; what failed is named, why is in the log."""
    well = turns or check not in ("", "syncloop")
    if well and not request.flag("verbose"):
        return Response(200, b"ok", content_type=TEXT)
    if not well and check:
        text = "internal server error: sync Loop took longer than expected\n"
        return Response(500, text.encode(), content_type=TEXT)
    shown = (check,) if check else _CHECKS
    lines = [
        f"[+]{one} ok" if turns or one != "syncloop" else f"[-]{one} failed: reason withheld" for one in shown
    ]
    lines.append("healthz check passed" if well else "healthz check failed")
    return Response(200 if well else 500, ("\n".join(lines) + "\n").encode(), content_type=TEXT)
