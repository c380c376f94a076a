"""What the API server asks of every body: are the types right, and which fields are unknown?

The wording is Go's, because clients and people match on it::

    Deployment in version "v1" cannot be handled as a Deployment: json: cannot unmarshal string into Go struct field
    DeploymentSpec.spec.replicas of type int32

    strict decoding error: unknown field "spec.foo", unknown field "spec.template.spec.bar"
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from bamikube.api.errors import ApiError, Cause, bad_request
from bamikube.api.resources import Resource
from bamikube.api.schema.compile import Issue, visitor

_INDEX = re.compile(r"\[\d+\]")


@dataclass(slots=True)
class SchemaReport:
    """``errors``: the object cannot be decoded. ``unknown``: paths of fields that do not exist (and were dropped)."""

    errors: list[Cause] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)


def _message(issue: Issue) -> str:
    if issue.message:
        return issue.message
    path = _INDEX.sub("", issue.path)  # Go's path names the field, not the element
    place = f"field {issue.struct}.{path}" if issue.struct else "value"
    joint = "Go struct " if issue.struct else "Go "
    return f"json: cannot unmarshal {issue.found} into {joint}{place} of type {issue.wanted}"


def _report(issues: list[Issue]) -> SchemaReport:
    report = SchemaReport()
    for issue in issues:
        if issue.unknown:
            report.unknown.append(issue.path)
        else:
            report.errors.append(Cause("FieldValueTypeInvalid", _message(issue), issue.path))
    return report


def check_definition(name: str, obj: Any) -> SchemaReport:
    """Check ``obj`` against the definition ``name``, in place as :func:`check`."""
    holder = [obj]
    issues = visitor(name)(obj, holder, 0)
    return SchemaReport() if issues is None else _report(issues)


def check(resource: Resource, obj: dict[str, Any], *, strict: bool = False) -> SchemaReport:
    """Types and unknown fields of ``obj``.

    In place: nulls and unknown fields are dropped, times and numeric quantities written canonically. With ``strict``
    unknown fields are errors as well, worded as the strict decoder words them.
    """
    if resource.custom is not None:
        report = _report(resource.custom.shape(obj))
    else:
        report = check_definition(resource.definition, obj)
    if strict and report.unknown:
        report.errors.extend(
            Cause("FieldValueInvalid", f'unknown field "{path}"', path) for path in report.unknown
        )
    return report


def prune(resource: Resource, obj: dict[str, Any]) -> list[str]:
    """Drop unknown fields (and nulls) in place; the paths that went."""
    return check(resource, obj).unknown


def decode_error(resource: Resource, report: SchemaReport) -> ApiError:
    """The 400 for a body of the wrong types."""
    kind = resource.kind
    return bad_request(
        f'{kind} in version "{resource.version}" cannot be handled as a {kind}: {report.errors[0].message}'
    )


def ensure(
    resource: Resource, obj: dict[str, Any], field_validation: str = "Warn", repeated: Sequence[str] = ()
) -> list[str]:
    """Check ``obj`` as the query parameter ``fieldValidation`` wants it: Ignore, Warn or Strict.

    ``repeated`` are paths of keys that its text gave twice. Returns the warnings for the client
    (``unknown field "spec.foo"``, ``duplicate field "data.a"``). Raises ``ApiError`` 400 when the object cannot
    be decoded, or has unknown or repeated fields under Strict.
    """
    report = check(resource, obj)
    if report.errors:
        raise decode_error(resource, report)
    if field_validation == "Ignore" or not (report.unknown or repeated):
        return []
    warnings = [f'duplicate field "{path}"' for path in repeated]
    warnings += [f'unknown field "{path}"' for path in report.unknown]
    if field_validation == "Strict":
        kind = resource.kind
        raise bad_request(
            f'{kind} in version "{resource.version}" cannot be handled as a {kind}: '
            f"strict decoding error: {', '.join(warnings)}"
        )
    return warnings
