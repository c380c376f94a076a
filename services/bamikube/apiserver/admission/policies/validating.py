"""ValidatingAdmissionPolicy: rules in CEL about the object as it would be stored.

Every policy whose rules and match conditions fit is evaluated for every binding, with every set of parameters. What
its validations find is denied, warned about or noted in the audit, as the binding says; of several denials the first
is the answer.

Source: Kubernetes' "Validating Admission Policy".
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from bamikube.api import errors
from bamikube.api.errors import ApiError
from bamikube.api.resources import Resource
from bamikube.apiserver.admission.chain import Plugin
from bamikube.apiserver.admission.context import AdmissionContext
from bamikube.apiserver.admission.expressions import ConditionFailed, Scene, conditions_hold
from bamikube.apiserver.admission.policies import figures
from bamikube.apiserver.admission.policies.held import Binding, Policies, Policy, Rows
from bamikube.apiserver.admission.policies.params import NoParams, params_of
from bamikube.apiserver.registry.reader import Reader
from bamikube.kit.world import World

if TYPE_CHECKING:
    from bamikube.api.cel.policies import Validation
    from bamikube.apiserver.admission.policies.evaluating import Evaluation
    from bamikube.apiserver.authz.authorizer import Authorizer

log = logging.getLogger(__name__)

_CODES = {"Unauthorized": 401, "Forbidden": 403, "Invalid": 422, "RequestEntityTooLarge": 413}
_FAILURES = "validation.policy.admission.k8s.io/validation_failure"
LONGEST_MESSAGE = 5120


@dataclass(frozen=True, slots=True)
class Finding:
    """A validation that did not hold, or could not be evaluated."""

    message: str
    reason: str = "Invalid"
    index: int = 0


class ValidatingAdmissionPolicy(Plugin):
    """``rows`` are the resources served now."""

    name = "ValidatingAdmissionPolicy"

    def __init__(self, reader: Reader, world: World, authorizer: Authorizer, rows: Rows) -> None:
        self._reader = reader
        self._world = world
        self._authorizer = authorizer
        self._rows = rows
        self._policies = Policies(
            reader, "validatingadmissionpolicies", "validatingadmissionpolicybindings", rows
        )

    async def validate(self, ctx: AdmissionContext) -> None:
        policies = self._policies.about(ctx)
        if policies:
            self._all(ctx, policies)

    def _all(self, ctx: AdmissionContext, policies: tuple[Policy, ...]) -> None:
        scenes: dict[int, Scene] = {}
        denial: ApiError | None = None
        failures: list[dict[str, Any]] = []
        for policy in policies:
            row = self._policies.chosen(policy.match, ctx)
            if row is None:
                continue
            for binding in policy.bindings:
                if binding.match is not None and self._policies.chosen(binding.match, ctx) is None:
                    continue
                started = self._world.clock.monotonic()
                found = list(self._judge(ctx, policy, binding, row, scenes))
                seconds = self._world.clock.monotonic() - started
                figures.judged(policy.name, binding.name, binding.actions, bool(found), seconds)
                for finding in found:
                    refused = self._act(ctx, policy, binding, finding, failures)
                    denial = denial or refused  # the first one is the answer; all are warned of and noted
        if failures:
            ctx.annotations[_FAILURES] = orjson.dumps(failures).decode()
        if denial is not None:
            raise denial

    def _act(
        self,
        ctx: AdmissionContext,
        policy: Policy,
        binding: Binding,
        finding: Finding,
        failures: list[dict[str, Any]],
    ) -> ApiError | None:
        """Do what the binding says about a finding; the refusal when it is to be denied."""
        where = f"ValidatingAdmissionPolicy '{policy.name}' with binding '{binding.name}'"
        if "Warn" in binding.actions:
            ctx.warnings.append(f"Validation failed for {where}: {finding.message}")
        if "Audit" in binding.actions:
            failures.append(
                {
                    "message": finding.message,
                    "policy": policy.name,
                    "binding": binding.name,
                    "expressionIndex": finding.index,
                    "validationActions": sorted(binding.actions),
                }
            )
        if "Deny" not in binding.actions:
            return None
        return refusal(ctx, f"{where} denied request: {finding.message}", finding.reason)

    def _judge(
        self, ctx: AdmissionContext, policy: Policy, binding: Binding, row: Resource, scenes: dict[int, Scene]
    ) -> Iterator[Finding]:
        """What a policy finds under one binding."""
        try:
            every = params_of(policy, binding.param_ref, ctx, self._reader, self._rows)
        except NoParams as problem:
            if policy.fails:
                yield Finding(f"failed to configure binding: {problem}")
            return
        if policy.compiled.causes:
            if policy.fails:
                cause = policy.compiled.causes[0]
                yield Finding(f"failed to configure policy: {cause.field}: {cause.message}")
            return
        from bamikube.apiserver.admission.policies.evaluating import Evaluation

        scene = scenes.get(id(row))
        if scene is None:
            scene = scenes[id(row)] = Scene(ctx, row, self._reader, self._authorizer)
        for params in every:
            evaluation = Evaluation(
                policy.compiled, scene.variables, params, has_params=policy.param_kind is not None
            )
            try:
                if not conditions_hold(policy.compiled.conditions, evaluation.scene):
                    continue
            except ConditionFailed as problem:
                if policy.fails:
                    yield Finding(str(problem))
                continue
            yield from _validations(policy, evaluation)
            self._annotate(ctx, policy, evaluation)

    def _annotate(self, ctx: AdmissionContext, policy: Policy, evaluation: Evaluation) -> None:
        from bamikube.api.cel.types import BudgetExceeded, CelError

        for each in policy.compiled.annotations:
            key = f"{policy.name}/{each.name}"
            try:
                value = evaluation.run(each.program)
            except (CelError, BudgetExceeded) as error:
                log.warning("audit annotation %s: %s", key, error)
                continue
            if not isinstance(value, str) or not (value := value.strip()):
                continue
            before = ctx.annotations.get(key)
            parts = before.split(", ") if before else []
            if value not in parts:
                ctx.annotations[key] = ", ".join([*parts, value])


def _validations(policy: Policy, evaluation: Evaluation) -> Iterator[Finding]:
    from bamikube.api.cel.types import BudgetExceeded, CelError
    from bamikube.apiserver.admission.policies.evaluating import OUT_OF_BUDGET

    for index, each in enumerate(policy.compiled.validations):
        try:
            value = evaluation.run(each.program)
        except BudgetExceeded:
            if policy.fails:
                yield Finding(OUT_OF_BUDGET, index=index)
            return
        except CelError as error:
            if policy.fails:
                yield Finding(f"expression '{each.expression}' resulted in error: {error}", index=index)
            continue
        if value is not True:
            yield Finding(_message(each, evaluation), each.reason or "Invalid", index)


def _message(validation: Validation, evaluation: Evaluation) -> str:
    from bamikube.api.cel.types import BudgetExceeded, CelError

    if validation.message_program is not None:
        try:
            text = evaluation.run(validation.message_program)
            text = text.strip() if isinstance(text, str) else ""
            if text and "\n" not in text and len(text) <= LONGEST_MESSAGE:
                return text
        except (CelError, BudgetExceeded) as error:
            log.warning("messageExpression %s: %s", validation.message_program.expression, error)
    return validation.message or f"failed expression: {validation.expression}"


def refusal(ctx: AdmissionContext, text: str, reason: str) -> ApiError:
    """The refusal of a policy, with the reason it chose."""
    error = errors.forbidden(ctx.resource.plural, ctx.name, text, ctx.resource.group)
    error.code, error.reason = _CODES.get(reason, 422), reason
    error.details = (error.details or {}) | {"causes": [{"message": text}]}
    return error
