"""MutatingAdmissionWebhook: one webhook after the other, each sees what those before it made of the object."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import orjson

from bamikube.api import errors, patches
from bamikube.api.resources import Resource
from bamikube.apiserver import latency
from bamikube.apiserver.admission.chain import Plugin
from bamikube.apiserver.admission.context import AdmissionContext
from bamikube.apiserver.admission.rounds import Rounds
from bamikube.apiserver.admission.webhooks import figures
from bamikube.apiserver.admission.webhooks.asking import Asker, CallFailed
from bamikube.apiserver.admission.webhooks.conditions import Conditions
from bamikube.apiserver.admission.webhooks.forms import shown, take_over
from bamikube.apiserver.admission.webhooks.hooks import MUTATING, Hook, Hooks, Match
from bamikube.apiserver.admission.webhooks.review import Verdict, denial, named_annotations
from bamikube.apiserver.audit.trail import records_bodies
from bamikube.apiserver.decoding import syntax
from bamikube.apiserver.outbound import Caller
from bamikube.apiserver.outbound.introductions import NO_INTRODUCTIONS, Introductions
from bamikube.apiserver.registry.reader import Reader
from bamikube.kit.world import World

if TYPE_CHECKING:
    from bamikube.apiserver.authz.authorizer import Authorizer

log = logging.getLogger(__name__)

ADMIT = "admit"


class MutatingAdmissionWebhook(Plugin):
    """``rows`` are the resources served now; ``introductions`` what webhooks are shown of the API server."""

    name = "MutatingAdmissionWebhook"

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
        self._hooks = Hooks(reader, MUTATING, rows)
        self._asker = Asker(reader, caller, world, ADMIT, introductions)

    def changes(self, ctx: AdmissionContext) -> bool:
        return bool(self._hooks.about(ctx.operation, ctx.resource, ctx.subresource))

    async def mutate(self, ctx: AdmissionContext) -> None:
        matches = self._hooks.about(ctx.operation, ctx.resource, ctx.subresource)
        if not matches:
            return
        start = self._now()
        try:
            await self._all(ctx, matches)
        finally:
            latency.excuse(self._now() - start)

    async def _all(self, ctx: AdmissionContext, matches: Sequence[Match]) -> None:
        if ctx.rounds is None:
            ctx.rounds = Rounds()
        rounds = ctx.rounds
        seen = rounds.of(self.name)
        if rounds.number:
            seen.finds(ctx.object)
        for position, (hook, row) in enumerate(matches):
            if not hook.selectors.choose(ctx, self._reader):
                continue
            if rounds.number and hook.ident not in seen.due:
                continue
            if not self._conditions.hold(hook, row, ctx):
                continue
            changed = await self._one(ctx, hook, row, f"round_{rounds.number}_index_{position}")
            if changed:
                seen.changed()
                rounds.again = True
            if hook.again:
                seen.saw(hook.ident)
        seen.leaves(ctx.object)

    async def _one(self, ctx: AdmissionContext, hook: Hook, row: Resource, place: str) -> bool:
        """Whether the object was changed. Raises ApiError."""
        if ctx.dry_run and not hook.dry:
            raise errors.bad_request(f'admission webhook "{hook.name}" does not support dry run')
        obj = shown(ctx, row, ctx.object)
        try:
            verdict = await self._asker.ask(hook, row, ctx, obj, shown(ctx, row, ctx.old), ctx.subresource)
        except CallFailed as problem:
            if not hook.fails:
                log.warning("%s; the request goes on (failurePolicy Ignore)", problem)
                figures.opened(hook.name, ADMIT)
                ctx.annotations[f"failed-open.mutation.webhook.admission.k8s.io/{place}"] = hook.name
                return False
            figures.rejected(hook.name, ADMIT, ctx.operation, "calling_webhook_error", problem.code)
            raise errors.internal(str(problem)) from None
        ctx.annotations.update(named_annotations(hook.name, verdict))
        ctx.warnings.extend(verdict.warnings)
        if not verdict.allowed:
            refusal = denial(hook.name, verdict.status)
            figures.rejected(hook.name, ADMIT, ctx.operation, "no_error", refusal.code)
            raise refusal
        changed = self._patch(ctx, hook, row, obj, verdict)
        outcome = {"configuration": hook.configuration, "webhook": hook.name, "mutated": changed}
        ctx.annotations[f"mutation.webhook.admission.k8s.io/{place}"] = orjson.dumps(outcome).decode()
        if changed and verdict.patch is not None and records_bodies():
            told = {"configuration": hook.configuration, "webhook": hook.name}
            told |= {"patch": orjson.loads(verdict.patch), "patchType": "JSONPatch"}
            ctx.annotations[f"patch.webhook.admission.k8s.io/{place}"] = orjson.dumps(told).decode()
        return changed

    @staticmethod
    def _patch(
        ctx: AdmissionContext, hook: Hook, row: Resource, obj: dict[str, object] | None, verdict: Verdict
    ) -> bool:
        """Whether the object was changed. A patch that cannot be applied is no failed call: the failure policy does not
        excuse it. Raises ApiError 500."""
        if verdict.patch is None:
            return False
        try:
            operations = _operations(verdict.patch)
            if operations in (None, []):
                return False
            if ctx.object is None or obj is None:
                raise errors.internal(
                    f'admission webhook "{hook.name}" attempted to modify the object, which is not supported for '
                    "this operation"
                )
            patched = patches.json_patch(obj, operations)
            if patched == obj:
                return False
            take_over(ctx, row, patched)
        except ValueError as problem:
            figures.rejected(hook.name, ADMIT, ctx.operation, "apiserver_internal_error", 500)
            raise errors.internal(f'the patch of admission webhook "{hook.name}": {problem}') from None
        return True


def _operations(text: bytes) -> Any:
    """A patch as its webhook wrote it. Raises ValueError in the words of Go's reader."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise ValueError(syntax(text, error)) from None
