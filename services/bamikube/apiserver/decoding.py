"""Bodies as objects, and what Kubernetes says of those that are none.

A body is read in steps, each with words of its own. Here: its text (JSON, YAML or protobuf) and the kind and version it
states::

    the object provided is unrecognized (must be of type ConfigMap): couldn't get version/kind; json parse error:
    invalid character 'x' looking for beginning of value (7820 ...)

Whether that kind is what is served at the path decides :mod:`bamikube.api.kinds`, and what stands behind the kind the
schema (:mod:`bamikube.api.schema.check`).
"""

from __future__ import annotations

from typing import Any

import orjson
import yaml

from bamikube.api import errors, gojson, protobuf
from bamikube.api.errors import ApiError
from bamikube.api.kinds import unregistered
from bamikube.api.schema import NO_REPEATS, Repeats
from bamikube.apiserver import bodies
from bamikube.apiserver.negotiation import JSON, PROTOBUF, SUPPORTED, YAML, content_type
from bamikube.kit.http import Request

SHOWN = 30  # bytes of a body that nobody recognizes
_TYPE_META = (
    r'struct { APIVersion string "json:\"apiVersion,omitempty\""; Kind string "json:\"kind,omitempty\"" }'
)
_UNVERSIONED = "couldn't get version/kind; json parse error: "
_MAGIC = "provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]"

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Strings(_Loader):  # type: ignore[misc,valid-type]
    """YAML as JSON would say it: no dates, no sexagesimal numbers."""


_Strings.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in _Loader.yaml_implicit_resolvers.items()
}


class Unreadable(ValueError):
    """A text that stands for no object; the words say why."""


def decode_body(request: Request, kind: str) -> dict[str, Any]:
    """The body as an object, which is to be a ``kind``. An absent Content-Type is taken for JSON.

    Raises ApiError 400 or 415.
    """
    media = content_type(request) or JSON
    try:
        if media in (JSON, "text/json"):
            return _stated(load_json(request.body))
        if media in (YAML, "application/x-yaml", "text/yaml"):
            return _stated(load_yaml(request.body))
        if media == PROTOBUF:
            return _protobuf(request.body, kind)
    except Unreadable as error:
        raise unrecognized(kind, str(error), request.body) from None
    raise errors.unsupported_media_type(
        f"the body of the request was in an unknown format - accepted media types include: {SUPPORTED}"
    )


def unrecognized(kind: str, why: str, body: bytes) -> ApiError:
    """400: not even its kind can be told. The body is shown as text if it looks like JSON, else as hex."""
    start = body[:SHOWN]
    shown = start.decode(errors="replace") if body[:1] == b"{" else start.hex()
    summary = (shown + (" ..." if len(body) > SHOWN else "")) if body else "<empty>"
    return errors.bad_request(
        f"the object provided is unrecognized (must be of type {kind}): {why} ({summary})"
    )


def _protobuf(body: bytes, kind: str) -> dict[str, Any]:
    if not body:
        raise Unreadable("empty data")
    if not body.startswith(protobuf.MAGIC):
        raise Unreadable(_MAGIC)
    if body == protobuf.MAGIC:
        raise Unreadable("empty body")
    try:
        return protobuf.decode(body)
    except protobuf.UnknownKind as unknown:
        raise unregistered(unknown.api_version, unknown.kind, kind) from None
    except ValueError as error:
        raise Unreadable(str(error)) from None


def repeated_keys(request: Request, obj: dict[str, Any]) -> Repeats:
    """The keys that the body, decoded as ``obj``, gives more than once. Call it before ``obj`` changes."""
    media = content_type(request) or JSON
    if media in (JSON, "text/json"):
        return bodies.duplicate_keys(request.body, obj)
    return bodies.survey_yaml(request.body) if media != PROTOBUF else NO_REPEATS


def syntax(body: bytes, error: ValueError) -> str:
    """What is wrong with a JSON text that our reader refused with ``error``."""
    return gojson.syntax_error(body) or str(error)


def load_json(body: bytes) -> Any:
    """The value of a JSON text. Raises :class:`Unreadable`."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Unreadable(_UNVERSIONED + syntax(body, error)) from None


def load_yaml(body: bytes) -> Any:
    """The value of a YAML document, made one that JSON can say. Raises :class:`Unreadable`."""
    try:
        bodies.survey_yaml(body)
        value = yaml.load(body, Loader=_Strings)  # a safe loader, see _Strings
        # What JSON cannot say (dates, sets, keys that are no text) is refused or made text here.
        return orjson.loads(orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS))
    except yaml.MarkedYAMLError as error:
        raise Unreadable(_yaml_fault(error)) from None
    except (yaml.YAMLError, TypeError, ValueError, RecursionError) as error:
        raise Unreadable(f"yaml: {' '.join(str(error).split())}") from None


def _yaml_fault(error: yaml.MarkedYAMLError) -> str:
    """The fault in the words of Go's reader, which names the line (of the context, if there is one) unless it is the first."""
    mark = error.context_mark if error.context_mark and error.context_mark.line else error.problem_mark
    line = mark.line + isinstance(error, yaml.scanner.ScannerError) if mark and mark.line else 0
    return (
        f"yaml: {f'line {line}: ' if line else ''}{error.problem or 'unknown problem parsing YAML content'}"
    )


def _stated(value: Any) -> dict[str, Any]:
    """``value``, an object whose kind and version, if it states them, are texts. Raises :class:`Unreadable`."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise Unreadable(
            f"{_UNVERSIONED}json: cannot unmarshal {gojson.kind_of(value)} into Go value of type {_TYPE_META}"
        )
    for name in ("apiVersion", "kind"):
        given = value.get(name)
        if given is None:
            value.pop(name, None)
        elif not isinstance(given, str):
            found = gojson.kind_of(given)
            raise Unreadable(
                f"{_UNVERSIONED}json: cannot unmarshal {found} into Go struct field .{name} of type string"
            )
    if str(value.get("apiVersion") or "").count("/") > 1:
        raise Unreadable(f"unexpected GroupVersion string: {value['apiVersion']}")
    return value
