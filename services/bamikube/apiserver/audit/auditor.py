"""The auditor of a server: its policy, and where the events go."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import yaml

from bamikube.apiserver.audit import figures
from bamikube.apiserver.audit.buffered import Buffered
from bamikube.apiserver.audit.collector import Collector
from bamikube.apiserver.audit.log import DAY, MEGABYTE, LogFile
from bamikube.apiserver.audit.policy import Policy, policy_of
from bamikube.apiserver.audit.trail import Trail
from bamikube.apiserver.audit.truncating import Sink, Truncating
from bamikube.apiserver.options import ApiServerOptions
from bamikube.apiserver.outbound import Caller
from bamikube.kit.http import Answer, Request
from bamikube.kit.tasks import Tasks
from bamikube.kit.world import World
from bamikube.pki import kubeconfig
from bamikube.pki.kubeconfig import KubeconfigError


class Auditor:
    """Records what ``policy`` wants recorded in all ``backends``."""

    figures = figures

    def __init__(self, policy: Policy, backends: list[Sink], world: World, *, strict: bool = False) -> None:
        self.policy = policy
        self.strict = strict  # no request goes on that could not be recorded
        self.world = world
        self._backends = backends

    async def follow(self, request: Request, handle: Callable[[Request, Trail], Awaitable[Answer]]) -> Answer:
        """Let ``handle`` answer ``request``, and record it."""
        ident = request.headers.get("audit-id") or self.world.chance.uuid()
        request.headers = {**request.headers, "audit-id": ident}
        return await Trail(self, request, ident, self.world.clock.now()).follow(handle)

    def record(self, event: dict[str, Any]) -> bool:
        """Whether all backends have taken the event."""
        figures.recorded()
        taken = [backend.write(event) for backend in self._backends]  # every one of them is told
        return all(taken)

    def start(self, tasks: Tasks) -> None:
        """Begin to deliver batches."""
        for backend in self._backends:
            behind = backend.sink if isinstance(backend, Truncating) else backend
            if isinstance(behind, Collector | Buffered):
                tasks.spawn(behind.run(), "audit")

    def close(self) -> None:
        for backend in self._backends:
            backend.close()


def auditor_of(options: ApiServerOptions, world: World, caller: Caller | None) -> Auditor | None:
    """The auditor that the flags describe, None without a policy. ``caller`` None calls over real sockets.

    Raises ValueError that names the flag and what is wrong with its file.
    """
    if not options.audit_policy_file:
        return None
    backends: list[Sink] = []
    path = options.audit_policy_file
    try:
        policy = policy_of(yaml.safe_load(Path(path).read_bytes()))
    except OSError as error:
        raise ValueError(f"--audit-policy-file {path}: {error.strerror}") from None
    except (ValueError, yaml.YAMLError) as error:
        raise ValueError(f"--audit-policy-file {path}: {error}") from None
    if options.audit_log_path:
        try:
            backends.append(_log(options, world))
        except OSError as error:
            raise ValueError(f"--audit-log-path {options.audit_log_path}: {error.strerror}") from None
    if options.audit_webhook_config_file:
        collector: Sink = _collector(options, world, caller)
        if options.audit_webhook_truncate_enabled:
            collector = Truncating(collector, options.audit_webhook_truncate_max_event_size)
        backends.append(collector)
    return Auditor(policy, backends, world, strict=options.audit_log_mode == "blocking-strict")


def _log(options: ApiServerOptions, world: World) -> Sink:
    sink: Sink = LogFile(
        options.audit_log_path,
        world.clock,
        size=options.audit_log_maxsize * MEGABYTE,
        backups=options.audit_log_maxbackup,
        age=options.audit_log_maxage * DAY,
    )
    if options.audit_log_mode == "batch":
        sink = Buffered(
            sink,
            world,
            size=options.audit_log_batch_max_size,
            wait=options.audit_log_batch_max_wait,
            buffer=options.audit_log_batch_buffer_size,
        )
    if options.audit_log_truncate_enabled:
        sink = Truncating(sink, options.audit_log_truncate_max_event_size)
    return sink


def _collector(options: ApiServerOptions, world: World, caller: Caller | None) -> Collector:
    path = options.audit_webhook_config_file
    try:
        access = kubeconfig.load(path)
    except (KubeconfigError, OSError) as error:
        raise ValueError(f"--audit-webhook-config-file {path}: {error}") from None
    return Collector(
        access,
        caller or _own_caller(),
        world,
        size=options.audit_webhook_batch_max_size,
        wait=options.audit_webhook_batch_max_wait,
        buffer=options.audit_webhook_batch_buffer_size,
        pause=options.audit_webhook_initial_backoff,
        most=options.audit_webhook_truncate_max_batch_size if options.audit_webhook_truncate_enabled else 0,
    )


def _own_caller() -> Caller:
    from bamikube.apiserver.outbound.caller import HttpCaller

    return HttpCaller()
