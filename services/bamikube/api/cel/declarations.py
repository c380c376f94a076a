"""Are the rules of a schema worth keeping? What is asked when a CustomResourceDefinition is written.

Every rule must compile against its place in the schema, and what it may cost must fit: ten million for one rule, a
hundred million for all of a schema. A rule below a list or map costs as often as there may be elements, so the bounds
on the way (``maxItems``, ``maxProperties``) count as much as the rule itself.

Source: the validation of ``apiextensions.k8s.io/v1``, and Kubernetes' "Resource use by validation functions".
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from bamikube.api.cel.cost import UNBOUNDED, estimate
from bamikube.api.cel.environment import Program
from bamikube.api.cel.presence import VALIDATIONS, has_rules
from bamikube.api.cel.rules import Rule, compile_rules
from bamikube.api.cel.schemas import LARGEST_REQUEST, Decl, Schema, declare
from bamikube.api.errors import Cause
from bamikube.api.validation.rules import forbidden, invalid, not_supported, required, shown

RULE_LIMIT = 10_000_000
SCHEMA_LIMIT = 100_000_000

REASONS = ("FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired")
_ADVICE = (
    "(try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are "
    "declared)"
)
_SEGMENT = re.compile(r"\.([A-Za-z_][A-Za-z0-9_]*)|\['([^']*)'\]")


def over_budget(what: str, cost: int, limit: int) -> str:
    """Kubernetes' words for an estimate that is too high."""
    factor = cost / limit
    shown_factor = "more than 100x" if factor > 100 else f"{factor:f}x" if factor < 1.5 else f"{factor:.1f}x"
    return f"{what} exceeds budget by factor of {shown_factor} {_ADVICE}"


def violations(schema: Schema, path: str) -> list[Cause]:
    """What is wrong with the rules in ``schema``, which stands at ``path`` of a definition (``...openAPIV3Schema``)."""
    if not has_rules(schema):
        return []
    check = _Check()
    check.visit(schema, path, 1, "", root=True)
    return check.causes + check.total(path)


@dataclass(slots=True)
class _Check:
    causes: list[Cause] = field(default_factory=list)
    costs: list[tuple[int, str]] = field(default_factory=list)

    def visit(self, schema: Schema, path: str, count: int | None, lost: str, root: bool = False) -> None:
        """``count``: how many values may stand here, None when nothing bounds it. ``lost``: the list on the way whose
        elements cannot be told apart, so that there is no old value."""
        if schema.get(VALIDATIONS):
            self._rules(schema, path, count, lost, root)
        for prop, part in (schema.get("properties") or {}).items():
            if has_rules(part):
                self.visit(part, f"{path}.properties[{prop}]", count, lost)
        items, values = schema.get("items"), schema.get("additionalProperties")
        if isinstance(items, dict) and has_rules(items):
            keyed = schema.get("x-kubernetes-list-type") == "map"
            self.visit(
                items, f"{path}.items", _times(count, schema.get("maxItems")), lost or ("" if keyed else path)
            )
        if isinstance(values, dict) and has_rules(values):
            self.visit(
                values, f"{path}.additionalProperties", _times(count, schema.get("maxProperties")), lost
            )

    def _rules(self, schema: Schema, path: str, count: int | None, lost: str, root: bool) -> None:
        wrong = [
            cause
            for index, source in enumerate(schema[VALIDATIONS])
            for cause in _words(schema, source, f"{path}.{VALIDATIONS}[{index}]")
        ]
        self.causes += wrong
        decl = declare(schema, "schema.object", root)
        if wrong or decl is None:
            return
        if count is None:
            count = LARGEST_REQUEST // (decl.least + 1)
        for index, rule in enumerate(compile_rules(schema, decl)):
            self._rule(rule, decl, f"{path}.{VALIDATIONS}[{index}]", count, lost)

    def _rule(self, rule: Rule, decl: Decl, path: str, count: int, lost: str) -> None:
        if rule.error:
            self.causes.append(_refused(f"{path}.rule", rule, rule.error))
        elif rule.program is not None:
            self._cost("estimated rule cost", rule.program, decl, f"{path}.rule", count)
        if rule.message_error:
            self.causes.append(_refused(f"{path}.messageExpression", rule, rule.message_error))
        elif rule.message is not None:
            self._cost(
                "estimated messageExpression cost", rule.message, decl, f"{path}.messageExpression", count
            )
        if rule.changes and lost:
            text = f"oldSelf cannot be used on the uncorrelatable portion of the schema within {lost}"
            self.causes.append(invalid(f"{path}.rule", str(rule.source.get("rule") or ""), text))
        elif not rule.changes and not rule.error and rule.source.get("optionalOldSelf") is not None:
            text = "may not be set if oldSelf is not used in rule"
            self.causes.append(invalid(f"{path}.optionalOldSelf", rule.source["optionalOldSelf"], text))

    def _cost(self, what: str, program: Program, decl: Decl, path: str, count: int) -> None:
        once = estimate(program.checked, {"self": decl, "oldSelf": decl}).most
        cost = min(once * count, UNBOUNDED)
        if cost > RULE_LIMIT:
            self.causes.append(forbidden(path, over_budget(what, cost, RULE_LIMIT)))
        self.costs.append((cost, path))

    def total(self, path: str) -> list[Cause]:
        """All rules together."""
        total = min(sum(cost for cost, _ in self.costs), UNBOUNDED)
        if total <= SCHEMA_LIMIT:
            return []
        text = "contributed to estimated rule & messageExpression cost total exceeding cost limit for entire OpenAPIv3 schema"
        dearest = sorted(self.costs, key=lambda each: -each[0])[:4]
        causes = [forbidden(where, text) for cost, where in dearest if cost >= SCHEMA_LIMIT // 100]
        what = "x-kubernetes-validations estimated rule & messageExpression cost total for entire OpenAPIv3 schema"
        return [*causes, forbidden(path, over_budget(what, total, SCHEMA_LIMIT))]


def _times(count: int | None, bound: Any) -> int | None:
    return None if count is None or bound is None else min(count * max(0, int(bound)), UNBOUNDED)


def _go_text(value: Any) -> str:
    return shown(str(value or ""))


def _refused(path: str, rule: Rule, detail: str) -> Cause:
    """Kubernetes shows the whole rule as the invalid value, in Go's form."""
    source = rule.source
    reason = "(*apiextensions.FieldValueErrorReason)(nil)"
    if source.get("reason"):
        reason = "(*apiextensions.FieldValueErrorReason)(0xc000000000)"
    old = "(*bool)(nil)" if source.get("optionalOldSelf") is None else "(*bool)(0xc000000000)"
    value = (
        f"apiextensions.ValidationRule{{Rule:{_go_text(source.get('rule'))}, Message:{_go_text(source.get('message'))}, "
        f"MessageExpression:{_go_text(source.get('messageExpression'))}, Reason:{reason}, "
        f"FieldPath:{_go_text(source.get('fieldPath'))}, OptionalOldSelf:{old}}}"
    )
    return Cause("FieldValueInvalid", f"Invalid value: {value}: {detail}", path)


def _words(schema: Schema, source: dict[str, Any], path: str) -> list[Cause]:
    """What can be said about a rule without compiling it."""
    causes: list[Cause] = []
    rule, message = str(source.get("rule") or ""), str(source.get("message") or "")
    if not rule.strip():
        causes.append(required(f"{path}.rule", "rule is not specified"))
    elif message and not message.strip():
        causes.append(invalid(f"{path}.message", message, "message must be non-empty if specified"))
    elif "\n" in message.strip():
        causes.append(invalid(f"{path}.message", message, "message must not contain line breaks"))
    elif "\n" in rule.strip() and not message.strip():
        causes.append(required(f"{path}.message", "message must be specified if rule contains line breaks"))
    text = str(source.get("messageExpression") or "")
    if text and not text.strip():
        causes.append(
            required(f"{path}.messageExpression", "messageExpression must be non-empty if specified")
        )
    reason = source.get("reason")
    if reason is not None and reason not in REASONS:
        causes.append(not_supported(f"{path}.reason", reason, REASONS))
    where = str(source.get("fieldPath") or "")
    if where and not where.strip():
        causes.append(invalid(f"{path}.fieldPath", where, "fieldPath must be non-empty if specified"))
    elif "\n" in where:
        causes.append(invalid(f"{path}.fieldPath", where, "fieldPath must not contain line breaks"))
    elif where and not _leads_somewhere(schema, where.strip()):
        causes.append(invalid(f"{path}.fieldPath", where, "fieldPath must be a valid path"))
    return causes


def _leads_somewhere(schema: Schema, path: str) -> bool:
    """Whether ``.spec.a['b.c']`` names a field of the schema."""
    at = 0
    while at < len(path):
        match = _SEGMENT.match(path, at)
        if match is None:
            return False
        name = match.group(1) or match.group(2)
        part = (schema.get("properties") or {}).get(name)
        if part is None and isinstance(schema.get("additionalProperties"), dict):
            part = schema["additionalProperties"]
        if not isinstance(part, dict):
            return False
        schema, at = part, match.end()
    return True
