"""One webhook asked about one request: where it is, the call, and what came of it.

Whatever goes wrong between us and a verdict is a :class:`CallFailed`; what that means for the request is the failure
policy's business.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson

from bamikube.api.resources import Resource
from bamikube.apiserver.admission.context import AdmissionContext
from bamikube.apiserver.admission.webhooks import figures
from bamikube.apiserver.admission.webhooks.hooks import Hook
from bamikube.apiserver.admission.webhooks.review import Unusable, Verdict, read, review
from bamikube.apiserver.outbound import JSON_HEADERS, Caller, CallError, Reply, Unresolved, of_client_config
from bamikube.apiserver.outbound.introductions import NO_INTRODUCTIONS, Introductions
from bamikube.apiserver.registry.reader import Reader
from bamikube.kit.world import World


class CallFailed(Exception):
    """No verdict. ``code`` is the HTTP status of the answer, 0 when there was none."""

    def __init__(self, hook: Hook, why: str, code: int = 0) -> None:
        super().__init__(f'failed calling webhook "{hook.name}": {why}')
        self.code = code


class Asker:
    """``kind`` is what metrics call the webhooks: ``admit`` or ``validating``."""

    def __init__(
        self,
        reader: Reader,
        caller: Caller,
        world: World,
        kind: str,
        introductions: Introductions = NO_INTRODUCTIONS,
    ) -> None:
        self._introductions = introductions
        self._reader = reader
        self._caller = caller
        self._world = world
        self._kind = kind

    async def ask(
        self, hook: Hook, row: Resource, ctx: AdmissionContext, obj: Any, old: Any, subresource: str
    ) -> Verdict:
        """Raises CallFailed."""
        started = self._world.clock.monotonic()
        code, rejected = 0, True
        try:
            verdict, code = await self._ask(hook, row, ctx, obj, old, subresource)
            rejected = not verdict.allowed
        except CallFailed as problem:
            code = problem.code
            raise
        finally:
            seconds = self._world.clock.monotonic() - started
            figures.called(hook.name, self._kind, ctx.operation, code, rejected, seconds)
        return verdict

    async def _ask(
        self, hook: Hook, row: Resource, ctx: AdmissionContext, obj: Any, old: Any, subresource: str
    ) -> tuple[Verdict, int]:
        if not hook.version:
            raise CallFailed(hook, "webhook does not accept known AdmissionReview versions (v1, v1beta1)")
        uid = self._world.chance.uuid()
        body = review(ctx, row, hook.version, uid, obj, old, subresource)
        url = ""
        try:
            try:
                to = of_client_config(hook.client, self._reader, self._world.chance)
            except Unresolved as problem:
                url = _url(hook)
                raise CallError(str(problem)) from None
            target = f"{to.path or '/'}?timeout={hook.timeout:g}s"
            url = to.shown(target)
            shown = self._introductions.of(hook.client, to.authority)
            reply = await self._caller.call(
                replace(to, pair=shown.pair) if shown.pair else to,
                "POST",
                target,
                headers=[*JSON_HEADERS, *shown.headers],
                body=body,
                timeout=hook.timeout,
            )
        except (CallError, OSError) as problem:
            raise CallFailed(hook, f'failed to call webhook: Post "{url}": {problem}') from None
        if not 200 <= reply.status < 300:
            raise CallFailed(hook, f"failed to call webhook: {_said(reply)}", reply.status)
        try:
            verdict = read(reply.body, hook.version, uid, mutating=self._kind == "admit")
        except Unusable as problem:
            raise CallFailed(hook, str(problem), reply.status) from None
        return verdict, reply.status


def _url(hook: Hook) -> str:
    """The URL of a webhook that cannot be found, for the message."""
    service = hook.client.get("service")
    if service is None:
        return f"{hook.client.get('url')}?timeout={hook.timeout:g}s"
    path = str(service.get("path") or "/")
    host = f"{service.get('name')}.{service.get('namespace')}.svc:{service.get('port') or 443}"
    return f"https://{host}{path if path.startswith('/') else f'/{path}'}?timeout={hook.timeout:g}s"


def _said(reply: Reply) -> str:
    """An HTTP error as Kubernetes' client words it."""
    try:
        status = orjson.loads(reply.body)
        if isinstance(status, dict) and status.get("kind") == "Status" and status.get("message"):
            return str(status["message"])
    except orjson.JSONDecodeError:
        pass
    if reply.status == 404:
        return "the server could not find the requested resource"
    if reply.status == 400:
        return "the server rejected our request for an unknown reason"
    if reply.status >= 500:
        text = reply.body[:2048].decode("utf-8", "replace").strip() or "unknown"
        return f"an error on the server ({orjson.dumps(text).decode()}) has prevented the request from succeeding"
    return f"the server responded with the status code {reply.status} but did not return more information"
