"""MutatingAdmissionPolicy: changes of objects, written in CEL.

Policies run one after the other, by name; each sees what those before it made of the object. A mutation is either a
JSON patch that the expression makes, or an object to be applied: then it is merged as server-side apply merges, field
by field and list element by list element. A policy with ``reinvocationPolicy: IfNeeded`` sees the object once more
when somebody changed it afterwards (:mod:`bamikube.apiserver.admission.rounds`).

Worked example: ``Object{spec: Object.spec{replicas: 3}}`` sets one field; ``[JSONPatch{op: "add", path: "/spec/paused",
value: true}]`` adds another.

Source: Kubernetes' "Mutating Admission Policy".
"""

from __future__ import annotations

import base64
import logging
from typing import TYPE_CHECKING, Any

import orjson

from bamikube.api import errors, fields, patches
from bamikube.api.errors import ApiError
from bamikube.api.resources import Resource
from bamikube.apiserver.admission.chain import Plugin
from bamikube.apiserver.admission.context import AdmissionContext
from bamikube.apiserver.admission.expressions import ConditionFailed, Scene, conditions_hold
from bamikube.apiserver.admission.policies import figures
from bamikube.apiserver.admission.policies.held import Binding, Policies, Policy, Rows
from bamikube.apiserver.admission.policies.params import NoParams, params_of
from bamikube.apiserver.admission.rounds import Rounds
from bamikube.apiserver.admission.webhooks.forms import shown, take_over
from bamikube.apiserver.registry.reader import Reader

if TYPE_CHECKING:
    from bamikube.api.cel.policies import Mutation
    from bamikube.apiserver.authz.authorizer import Authorizer

log = logging.getLogger(__name__)

Object = dict[str, Any]


class Unfit(Exception):
    """A mutation that cannot be made. The text says why."""


class MutatingAdmissionPolicy(Plugin):
    """``rows`` are the resources served now."""

    name = "MutatingAdmissionPolicy"

    def __init__(self, reader: Reader, authorizer: Authorizer, rows: Rows) -> None:
        self._reader = reader
        self._authorizer = authorizer
        self._rows = rows
        self._policies = Policies(
            reader, "mutatingadmissionpolicies", "mutatingadmissionpolicybindings", rows
        )

    def changes(self, ctx: AdmissionContext) -> bool:
        return bool(self._policies.about(ctx))

    async def mutate(self, ctx: AdmissionContext) -> None:
        if ctx.operation == "DELETE" or ctx.object is None:
            return
        policies = self._policies.about(ctx)
        if policies:
            self._all(ctx, policies)

    def _all(self, ctx: AdmissionContext, policies: tuple[Policy, ...]) -> None:
        if ctx.rounds is None:
            ctx.rounds = Rounds()
        rounds = ctx.rounds
        seen = rounds.of(self.name)
        if rounds.number:
            seen.finds(ctx.object)
        for policy in policies:
            if rounds.number and policy.name not in seen.due:
                continue
            row = self._policies.chosen(policy.match, ctx)
            if row is None:
                continue
            for binding in policy.bindings:
                if binding.match is not None and self._policies.chosen(binding.match, ctx) is None:
                    continue
                if self._binding(ctx, policy, binding, row):
                    seen.changed()
                    rounds.again = True
            if policy.again:
                seen.saw(policy.name)
        seen.leaves(ctx.object)

    def _binding(self, ctx: AdmissionContext, policy: Policy, binding: Binding, row: Resource) -> bool:
        """Whether the object was changed. Raises ApiError 403 for what a policy that fails cannot do."""
        before = orjson.dumps(ctx.object)
        try:
            for params in self._params(ctx, policy, binding):
                self._mutate(ctx, policy, row, params)
        except Unfit as problem:
            figures.mutated(policy.name, binding.name, "invalid_error")
            if policy.fails:
                raise _denied(ctx, policy, binding, str(problem)) from None
            log.warning(
                "policy %s with binding %s: %s (failurePolicy Ignore)", policy.name, binding.name, problem
            )
        else:
            figures.mutated(policy.name, binding.name, "no_error")
        return orjson.dumps(ctx.object) != before

    def _params(self, ctx: AdmissionContext, policy: Policy, binding: Binding) -> list[Object | None]:
        if policy.compiled.causes:
            cause = policy.compiled.causes[0]
            raise Unfit(f"failed to configure policy: {cause.field}: {cause.message}")
        try:
            return params_of(policy, binding.param_ref, ctx, self._reader, self._rows)
        except NoParams as problem:
            raise Unfit(f"failed to configure binding: {problem}") from None

    def _mutate(self, ctx: AdmissionContext, policy: Policy, row: Resource, params: Object | None) -> None:
        """All mutations of a policy, each on what the one before made."""
        from bamikube.api.cel.types import BudgetExceeded, CelError
        from bamikube.apiserver.admission.policies.evaluating import OUT_OF_BUDGET, Evaluation

        for position, mutation in enumerate(policy.compiled.mutations):
            scene = Scene(ctx, row, self._reader, self._authorizer)
            evaluation = Evaluation(
                policy.compiled, scene.variables, params, has_params=policy.param_kind is not None
            )
            if position == 0:
                try:
                    if not conditions_hold(policy.compiled.conditions, evaluation.scene):
                        return
                except ConditionFailed as problem:
                    raise Unfit(str(problem)) from None
            try:
                made = evaluation.run(mutation.program)
            except BudgetExceeded:
                raise Unfit(OUT_OF_BUDGET) from None
            except CelError as error:
                text = f"expression '{mutation.program.expression}' resulted in error: {error}"
                raise Unfit(text) from None
            self._apply(ctx, row, mutation, made)

    def _apply(self, ctx: AdmissionContext, row: Resource, mutation: Mutation, made: Any) -> None:
        obj = shown(ctx, row, ctx.object)
        assert obj is not None
        try:
            changed = _patched(obj, made) if mutation.patch else _merged(row, obj, made)
            for name in ("name", "namespace", "uid"):  # who an object is, no policy may change
                if (changed.get("metadata") or {}).get(name) != (obj.get("metadata") or {}).get(name):
                    raise Unfit(f"metadata.{name} may not be changed")
            if changed != obj:
                take_over(ctx, row, changed)
        except ValueError as problem:
            raise Unfit(str(problem)) from None


def _patched(obj: Object, made: Any) -> Object:
    if not isinstance(made, list):
        raise Unfit("the expression must make a list of JSONPatch")
    operations = []
    for each in made:
        if not isinstance(each, dict):
            raise Unfit("the expression must make a list of JSONPatch")
        operation = {name: json_of(value) for name, value in each.items()}
        if operation.get("op") in ("add", "replace", "test"):
            operation.setdefault("value", None)
        operations.append(operation)
    done: Object = patches.json_patch(obj, operations)
    return done


def _merged(row: Resource, obj: Object, made: Any) -> Object:
    if not isinstance(made, dict):
        raise Unfit("the expression must make an Object")
    doc = json_of(made)
    for name in ("apiVersion", "kind"):
        if doc.get(name, obj.get(name)) != obj.get(name):
            raise Unfit(f"{name} may not be changed")
    kind = row.custom.compiled.type if row.custom is not None else fields.defined_object_type(row.definition)
    done: Object = kind.merge(orjson.loads(orjson.dumps(obj)), doc)
    return done


def json_of(value: Any) -> Any:
    """The JSON of a value that an expression made. Raises Unfit for what has none."""
    from bamikube.api.cel import operators
    from bamikube.api.cel.types import Duration, Optional, Timestamp

    if isinstance(value, dict):
        return {_key(key): json_of(each) for key, each in value.items()}
    if isinstance(value, list):
        return [json_of(each) for each in value]
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, (int, float)):
        return int(value) if isinstance(value, int) else value
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, (Timestamp, Duration)):
        return operators.to_string(value)
    if isinstance(value, Optional):
        raise Unfit("an optional is no value: use orValue(), or ? before the field")
    text = getattr(value, "text", None)
    if isinstance(text, str):
        return text
    raise Unfit(f"{operators.type_name(value)} has no form in JSON")


def _key(key: Any) -> str:
    if not isinstance(key, str):
        raise Unfit("the keys of objects must be strings")
    return key


def _denied(ctx: AdmissionContext, policy: Policy, binding: Binding, text: str) -> ApiError:
    return errors.forbidden(
        ctx.resource.plural,
        ctx.name,
        f"policy '{policy.name}' with binding '{binding.name}' denied request: {text}",
        ctx.resource.group,
    )
