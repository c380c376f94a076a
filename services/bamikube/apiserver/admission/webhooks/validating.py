"""ValidatingAdmissionWebhook: all webhooks at once, about the object as it would be stored."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import orjson

from bamikube.api import errors
from bamikube.api.errors import ApiError
from bamikube.api.resources import Resource
from bamikube.apiserver import latency
from bamikube.apiserver.admission.chain import Plugin
from bamikube.apiserver.admission.context import AdmissionContext
from bamikube.apiserver.admission.webhooks import figures
from bamikube.apiserver.admission.webhooks.asking import Asker, CallFailed
from bamikube.apiserver.admission.webhooks.conditions import Conditions
from bamikube.apiserver.admission.webhooks.forms import shown
from bamikube.apiserver.admission.webhooks.hooks import VALIDATING, Hook, Hooks, Match
from bamikube.apiserver.admission.webhooks.review import denial, named_annotations
from bamikube.apiserver.outbound import Caller
from bamikube.apiserver.outbound.introductions import NO_INTRODUCTIONS, Introductions
from bamikube.apiserver.registry.reader import Reader
from bamikube.kit.world import World

if TYPE_CHECKING:
    from bamikube.apiserver.authz.authorizer import Authorizer

log = logging.getLogger(__name__)

VALIDATE = "validating"


class ValidatingAdmissionWebhook(Plugin):
    """``rows`` are the resources served now; ``introductions`` what webhooks are shown of the API server."""

    name = "ValidatingAdmissionWebhook"

    def __init__(
        self,
        reader: Reader,
        world: World,
        caller: Caller,
        authorizer: Authorizer,
        rows: Callable[[], Sequence[Resource]],
        introductions: Introductions = NO_INTRODUCTIONS,
    ) -> None:
        self._reader = reader
        self._now = world.clock.monotonic
        self._conditions = Conditions(reader, authorizer)
        self._hooks = Hooks(reader, VALIDATING, rows)
        self._asker = Asker(reader, caller, world, VALIDATE, introductions)

    async def validate(self, ctx: AdmissionContext) -> None:
        matches = self._hooks.about(ctx.operation, ctx.resource, ctx.subresource)
        if not matches:
            return
        start = self._now()
        try:
            await self._all(ctx, matches)
        finally:
            latency.excuse(self._now() - start)

    async def _all(self, ctx: AdmissionContext, matches: Sequence[Match]) -> None:
        chosen = [
            (hook, row)
            for hook, row in matches
            if hook.selectors.choose(ctx, self._reader) and self._conditions.hold(hook, row, ctx)
        ]
        for hook, _ in chosen:
            if ctx.dry_run and not hook.dry:
                raise errors.bad_request(f'admission webhook "{hook.name}" does not support dry run')
        # The object is written out once for all webhooks that see it in the same form.
        written: dict[int, tuple[Any, Any]] = {}
        for _, row in chosen:
            if id(row) not in written:
                written[id(row)] = (_json(shown(ctx, row, ctx.object)), _json(shown(ctx, row, ctx.old)))
        outcomes = await asyncio.gather(
            *(
                self._one(ctx, hook, row, *written[id(row)], f"round_0_index_{position}")
                for position, (hook, row) in enumerate(chosen)
            )
        )
        # All have been heard; of several refusals the first in order is the answer, whoever was quickest.
        for refusal in outcomes:
            if refusal is not None:
                raise refusal

    async def _one(
        self, ctx: AdmissionContext, hook: Hook, row: Resource, obj: Any, old: Any, place: str
    ) -> ApiError | None:
        try:
            verdict = await self._asker.ask(hook, row, ctx, obj, old, ctx.subresource)
        except CallFailed as problem:
            if not hook.fails:
                log.warning("%s; the request goes on (failurePolicy Ignore)", problem)
                figures.opened(hook.name, VALIDATE)
                ctx.annotations[f"failed-open.validating.webhook.admission.k8s.io/{place}"] = hook.name
                return None
            figures.rejected(hook.name, VALIDATE, ctx.operation, "calling_webhook_error", problem.code)
            return errors.internal(str(problem))
        ctx.annotations.update(named_annotations(hook.name, verdict))
        ctx.warnings.extend(verdict.warnings)
        if verdict.allowed:
            return None
        refusal = denial(hook.name, verdict.status)
        figures.rejected(hook.name, VALIDATE, ctx.operation, "no_error", refusal.code)
        return refusal


def _json(obj: Any) -> Any:
    return None if obj is None else orjson.Fragment(orjson.dumps(obj))
