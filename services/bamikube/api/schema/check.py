"""What the API server asks of every body: are the types right, and which fields are unknown?

The wording is Go's, because clients and people match on it::

    Deployment in version "v1" cannot be handled as a Deployment: json: cannot unmarshal string into Go struct field
    DeploymentSpec.spec.replicas of type int32

    strict decoding error: unknown field "spec.foo", unknown field "spec.template.spec.bar"
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bamikube.api.errors import ApiError, Cause, bad_request
from bamikube.api.resources import Resource
from bamikube.api.schema.compile import Issue, visitor
from bamikube.api.schema.patched import Patched

_INDEX = re.compile(r"\[\d+\]")


@dataclass(slots=True)
class SchemaReport:
    """``errors``: the object cannot be decoded. ``unknown``: paths of fields that do not exist (and were dropped)."""

    errors: list[Cause] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    first: Issue | None = None  # of the errors


@dataclass(frozen=True, slots=True)
class Repeats:
    """Keys that a text gives more than once, worded as its reader words them, one by one.

    ``places``: where in a JSON text its paths stand, so that what is repeated and what is unknown can be told in the
    order of the text; ``spots``: where the repeated ones do. ``yaml``: the reader of YAML found them, all in one error.
    """

    texts: tuple[str, ...] = ()
    spots: tuple[int, ...] = ()
    places: Mapping[str, int] = field(default_factory=dict)
    yaml: bool = False

    def __bool__(self) -> bool:
        return bool(self.texts)

    @property
    def error(self) -> str:
        """All of it in the words of a strict reader."""
        return "yaml: unmarshal errors:\n  " + "\n  ".join(self.texts) if self.yaml else ", ".join(self.texts)


NO_REPEATS = Repeats()


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
            report.first = report.first or issue
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
    resource: Resource,
    obj: dict[str, Any],
    field_validation: str = "Warn",
    repeated: Repeats = NO_REPEATS,
    patch: Patched | None = None,
) -> list[str]:
    """Check ``obj`` as the query parameter ``fieldValidation`` wants it: Ignore, Warn or Strict.

    ``repeated`` are keys that its text gave twice; ``patch`` says that it is the outcome of one. Returns the warnings
    for the client (``unknown field "spec.foo"``, ``duplicate field "data.a"``). Raises ``ApiError`` when the object
    cannot be decoded, or has unknown or repeated fields under Strict: 400, or 422 for the outcome of a patch.
    """
    report = check(resource, obj)
    if report.errors:
        if patch is None or report.first is None:
            raise decode_error(resource, report)
        raise patch.mistyped(report.first, report.errors[0].message)
    if field_validation == "Ignore" or not (report.unknown or repeated):
        return []
    unknown = report.unknown if resource.custom is None else sorted(report.unknown)
    warnings = _in_order(repeated, unknown, typed=resource.custom is None)
    if field_validation == "Strict":
        told = [repeated.error, *warnings[len(repeated.texts) :]] if repeated.yaml else warnings
        message = f"strict decoding error: {', '.join(told)}"
        if patch is not None:
            raise patch.error(message)
        kind = resource.kind
        raise bad_request(f'{kind} in version "{resource.version}" cannot be handled as a {kind}: {message}')
    return warnings


def _in_order(repeated: Repeats, unknown: list[str], *, typed: bool) -> list[str]:
    """The decoder of a typed object tells both as it meets them; elsewhere the text's reader comes first."""
    missing = [f'unknown field "{path}"' for path in unknown]
    if not (typed and repeated.spots and missing):
        return [*repeated.texts, *missing]
    last = len(repeated.places)
    found = list(zip(repeated.spots, repeated.texts, strict=True))
    found += [(repeated.places.get(path, last), text) for path, text in zip(unknown, missing, strict=True)]
    return [text for _, text in sorted(found, key=lambda each: each[0])]
