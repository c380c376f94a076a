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
    """What a webhook said. ``patch`` is a list of JSON patch operations, None without one."""

    allowed: bool
    status: Mapping[str, Any] | None = None
    patch: Any = None
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
    """The options of the operation that is performed, which for a patch are those of an update."""
    kind = _OPTIONS.get(ctx.operation)
    if kind is None:
        return None
    given = {key: value for key, value in ctx.options.items() if value not in (None, "", [], {})}
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
    wanted = f"admission.k8s.io/{version}, Kind=AdmissionReview"
    got = f"{answer.get('apiVersion') or ''}, Kind={answer.get('kind') or ''}"
    if got != wanted:
        raise Unusable(f"expected webhook response of {wanted}, got {got}")
    response = answer.get("response")
    if not isinstance(response, dict):
        raise Unusable("webhook response was absent")
    # v1beta1 never asked for the uid or a patchType.
    if version != "v1beta1" and response.get("uid") != uid:
        raise Unusable(f'expected response.uid="{uid}", got "{response.get("uid") or ""}"')
    patch = _patch(response, version, mutating)
    status = response.get("status")
    annotations = response.get("auditAnnotations")
    warnings = response.get("warnings")
    if not isinstance(response.get("allowed", False), bool):
        raise Unusable("response.allowed must be a boolean")
    return Verdict(
        response.get("allowed") is True,
        status if isinstance(status, dict) else None,
        patch,
        tuple(str(one) for one in warnings) if isinstance(warnings, list) else (),
        {str(key): str(value) for key, value in annotations.items()} if isinstance(annotations, dict) else {},
    )


def _patch(response: Mapping[str, Any], version: str, mutating: bool) -> Any:
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
        if kind is not None and kind != "JSONPatch":
            raise Unusable(f'webhook returned invalid response.patchType of "{kind}"')
    if not text:
        return None
    try:
        return orjson.loads(base64.b64decode(text, validate=True))
    except (TypeError, ValueError, binascii.Error) as error:
        raise Unusable(f"response.patch is not a JSON patch in base64: {error}") from None


def denial(name: str, status: Mapping[str, Any] | None) -> ApiError:
    """The refusal a client gets, in the webhook's words."""
    status = status or {}
    code = status.get("code")
    code = code if isinstance(code, int) and 400 <= code < 600 else 400
    denied = f'admission webhook "{name}" denied the request'
    message, reason = str(status.get("message") or ""), str(status.get("reason") or "")
    text = f"{denied}: {message or reason}" if message or reason else f"{denied} without explanation"
    details = status.get("details")
    return ApiError(code, reason, text, dict(details) if isinstance(details, dict) else None)


def named_annotations(name: str, verdict: Verdict) -> dict[str, str]:
    """The verdict's audit annotations, under the webhook's name; keys that are none are left out."""
    found = {f"{name}/{key}": value for key, value in verdict.annotations.items()}
    return {key: value for key, value in found.items() if not is_qualified_name(key)}
