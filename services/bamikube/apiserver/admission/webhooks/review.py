"""AdmissionReview: the question to a webhook, and what its answer means.

Pure. The question holds the object as it would be stored now, in the version the webhook's rules name; the answer is
a verdict, and from a mutating webhook a JSON patch::

    {"request": {"uid": "7", "operation": "CREATE", "object": {...}, ...}}
    {"response": {"uid": "7", "allowed": true, "patchType": "JSONPatch", "patch": base64([{"op": "add", ...}])}}

Source: the API reference, admission.k8s.io/v1 AdmissionReview; the messages are those of
``k8s.io/apiserver/pkg/admission/plugin/webhook``.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from bamikube.api.errors import ApiError
from bamikube.api.names import is_qualified_name
from bamikube.api.resources import Resource
from bamikube.apiserver.admission.context import AdmissionContext
from bamikube.apiserver.admission.matching import NAMESPACES, kind_of
from bamikube.apiserver.identity import user_info

_OPTIONS = {"CREATE": "CreateOptions", "UPDATE": "UpdateOptions", "DELETE": "DeleteOptions"}


class Unusable(Exception):
    """An answer that is none. The text says why."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a webhook said. ``patch`` is the text of a JSON patch, None without one."""

    allowed: bool
    status: Mapping[str, Any] | None = None
    patch: bytes | None = None
    warnings: tuple[str, ...] = ()
    annotations: Mapping[str, str] = field(default_factory=dict)


def review(
    ctx: AdmissionContext, row: Resource, version: str, uid: str, obj: Any, old: Any, subresource: str
) -> bytes:
    """The encoded AdmissionReview. ``obj`` and ``old`` are in the form of ``row``: dictionaries, or JSON made already
    (``orjson.Fragment``), or None."""
    request: dict[str, Any] = {
        "uid": uid,
        "kind": _gvk(kind_of(row, subresource)),
        "resource": {"group": row.group, "version": row.version, "resource": row.plural},
    }
    if subresource:
        request["subResource"] = subresource
    asked = ctx.resource
    request["requestKind"] = _gvk(kind_of(asked, subresource))
    request["requestResource"] = {"group": asked.group, "version": asked.version, "resource": asked.plural}
    if subresource:
        request["requestSubResource"] = subresource
    if ctx.name:
        request["name"] = ctx.name
    if namespace := ctx.namespace or _own_namespace(ctx):
        request["namespace"] = namespace
    request |= {
        "operation": ctx.operation,
        "userInfo": user_info(ctx.user),
        "object": obj,
        "oldObject": old,
        "dryRun": ctx.dry_run,
        "options": options_of(ctx),
    }
    return orjson.dumps(
        {"kind": "AdmissionReview", "apiVersion": f"admission.k8s.io/{version}", "request": request}
    )


def _gvk(kind: tuple[str, str, str]) -> dict[str, str]:
    return {"group": kind[0], "version": kind[1], "kind": kind[2]}


def _own_namespace(ctx: AdmissionContext) -> str:
    """Requests about a namespace are requests in it, once it is there."""
    return ctx.name if ctx.resource.key == NAMESPACES and ctx.operation != "CREATE" else ""


def options_of(ctx: AdmissionContext) -> dict[str, Any] | None:
    """The options of the operation that is performed, which for a patch are those of an update: they know no ``force``."""
    kind = _OPTIONS.get(ctx.operation)
    if kind is None:
        return None
    given = {
        key: value for key, value in ctx.options.items() if value not in (None, "", [], {}) and key != "force"
    }
    return {"kind": kind, "apiVersion": "meta.k8s.io/v1", **given}


def read(body: bytes, version: str, uid: str, *, mutating: bool) -> Verdict:
    """The verdict of an answer. Raises Unusable."""
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Unusable(
            f"failed to call webhook: couldn't get version/kind; json parse error: {error}"
        ) from None
    try:
        return _read(answer, version, uid, mutating)
    except Unusable as problem:
        raise Unusable(f"received invalid webhook response: {problem}") from None


def _read(answer: Any, version: str, uid: str, mutating: bool) -> Verdict:
    if not isinstance(answer, dict):
        raise Unusable("the answer is no AdmissionReview")
    response = answer.get("response")
    if response is None:
        raise Unusable("webhook response was absent")
    _check_types(response)
    # v1beta1 never asked for the uid or a patchType.
    if version != "v1beta1" and response.get("uid") != uid:
        raise Unusable(f'expected response.uid="{uid}", got "{response.get("uid") or ""}"')
    wanted = f"admission.k8s.io/{version}, Kind=AdmissionReview"
    got = _kind_text(str(answer.get("apiVersion") or ""), str(answer.get("kind") or ""))
    if got != wanted:
        raise Unusable(f"expected webhook response of {wanted}, got {got}")
    return Verdict(
        response.get("allowed") is True,
        response.get("status"),
        _patch(response, version, mutating),
        tuple(response.get("warnings") or ()),
        response.get("auditAnnotations") or {},
    )


def _kind_text(api_version: str, kind: str) -> str:
    """``apps/v1, Kind=Scale``; the core group is an empty one: ``/v1, Kind=Pod``."""
    return f"{api_version if '/' in api_version else f'/{api_version}'}, Kind={kind}"


# The fields of a response as Go declares them: a wrong type makes the answer unreadable.
_TYPES: dict[str, tuple[type, str]] = {
    "uid": (str, "types.UID"),
    "allowed": (bool, "bool"),
    "status": (dict, "v1.Status"),
    "patchType": (str, "v1.PatchType"),
    "patch": (str, "[]uint8"),
    "auditAnnotations": (dict, "map[string]string"),
    "warnings": (list, "[]string"),
}
_JSON = {str: "string", bool: "bool", int: "number", float: "number", list: "array", dict: "object"}


def _check_types(response: Any) -> None:
    """Raises Unusable, in the words of Go's JSON decoder, for the first field that is of another type."""
    if not isinstance(response, dict):
        raise Unusable(_mismatch(response, "AdmissionReview.response", "v1.AdmissionResponse"))
    for name, (wanted, told) in _TYPES.items():
        value = response.get(name)
        if value is not None and not isinstance(value, wanted):
            raise Unusable(_mismatch(value, f"AdmissionResponse.response.{name}", told))
    texts = [("warnings", each) for each in response.get("warnings") or ()]
    texts += [("auditAnnotations", each) for each in (response.get("auditAnnotations") or {}).values()]
    status = response.get("status") or {}
    texts += [(f"status.{name}", status.get(name) or "") for name in ("status", "message", "reason")]
    for name, text in texts:
        if not isinstance(text, str):
            raise Unusable(_mismatch(text, f"AdmissionResponse.response.{name}", "string"))
    code = status.get("code")
    if code is not None and (not isinstance(code, int) or isinstance(code, bool)):
        raise Unusable(_mismatch(code, "Status.response.status.code", "int32"))
    details = status.get("details")
    if details is not None and not isinstance(details, dict):
        raise Unusable(_mismatch(details, "Status.response.status.details", "v1.StatusDetails"))


def _mismatch(value: Any, field: str, wanted: str) -> str:
    return f"json: cannot unmarshal {_JSON.get(type(value), 'null')} into Go struct field {field} of type {wanted}"


def _patch(response: Mapping[str, Any], version: str, mutating: bool) -> bytes | None:
    text, kind = response.get("patch"), response.get("patchType")
    if not mutating:
        if version != "v1beta1" and text:
            raise Unusable("validating webhook may not return response.patch")
        if version != "v1beta1" and kind is not None:
            raise Unusable("validating webhook may not return response.patchType")
        return None
    if version != "v1beta1":
        if text and kind is None:
            raise Unusable("webhook returned response.patch but not response.patchType")
        if not text and kind is not None:
            raise Unusable("webhook returned response.patchType but not response.patch")
        if kind == "":
            raise Unusable('webhook returned invalid response.patchType of ""')
        if kind is not None and kind != "JSONPatch" and response.get("allowed") is True:
            raise Unusable(f'unsupported patch type "{kind}"')
    if not text:
        return None
    try:
        return base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        raise Unusable("illegal base64 data in response.patch") from None


def denial(name: str, status: Mapping[str, Any] | None) -> ApiError:
    """The refusal a client gets, in the webhook's words."""
    status = status or {}
    code = status.get("code") or 0
    code = code if 400 <= code < 600 else 400
    denied = f'admission webhook "{name}" denied the request'
    message, reason = str(status.get("message") or ""), str(status.get("reason") or "")
    text = f"{denied}: {message or reason}" if message or reason else f"{denied} without explanation"
    details = status.get("details")
    return ApiError(code, reason, text, dict(details) if details else None)


def named_annotations(name: str, verdict: Verdict) -> dict[str, str]:
    """The verdict's audit annotations, under the webhook's name; keys that are none are left out."""
    found = {f"{name}/{key}": value for key, value in verdict.annotations.items()}
    return {key: value for key, value in found.items() if not is_qualified_name(key)}
