"""Errors as Kubernetes answers them: every failure of a request is a ``Status`` object.

Source: the API conventions ("Response Status Kind") and ``metav1.StatusReason``. The messages follow the wording
clients already match on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Cause:
    """One thing that is wrong with an object. ``field`` is a path such as ``spec.containers[0].name``."""

    reason: str  # FieldValueRequired, FieldValueInvalid, FieldValueNotSupported, FieldValueDuplicate, FieldValueForbidden ...
    message: str
    field: str


class ApiError(Exception):
    """A failed request: HTTP code, reason, message and details."""

    def __init__(
        self,
        code: int,
        reason: str,
        message: str,
        details: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        """``metadata`` is the Status's ListMeta: only an expired list has any."""
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.details = details
        self.headers = headers or {}
        self.metadata = metadata or {}

    def status(self) -> dict[str, Any]:
        """The ``v1.Status`` object."""
        status: dict[str, Any] = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": self.metadata,
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
        }
        if self.details is not None:
            status["details"] = self.details
        status["code"] = self.code
        return status

    @classmethod
    def of(cls, status: dict[str, Any]) -> ApiError:
        """The error that a ``Status`` object received from a server stands for."""
        return cls(
            int(status.get("code") or 500),
            str(status.get("reason") or ""),
            str(status.get("message") or ""),
            status.get("details"),
        )


def _qualified(resource: str, group: str) -> str:
    return f"{resource}.{group}" if group else resource


def _details(name: str, group: str, kind: str, **more: Any) -> dict[str, Any]:
    details: dict[str, Any] = {}
    if name:
        details["name"] = name
    if group:
        details["group"] = group
    if kind:
        details["kind"] = kind
    return details | more


_REASONS = {
    400: "BadRequest", 401: "Unauthorized", 403: "Forbidden", 404: "NotFound", 405: "MethodNotAllowed", 406: "NotAcceptable",
    409: "Conflict", 415: "UnsupportedMediaType", 422: "Invalid", 429: "TooManyRequests", 503: "ServiceUnavailable",
    504: "Timeout",
}  # fmt: skip


def reason_of(code: int) -> str:
    """Kubernetes' reason for what another server answered with a bare status."""
    return _REASONS.get(code, "InternalError" if code >= 500 else "Unknown")


def bad_request(message: str) -> ApiError:
    return ApiError(400, "BadRequest", message)


def unauthorized(message: str = "Unauthorized") -> ApiError:
    return ApiError(401, "Unauthorized", message)


def forbidden(resource: str, name: str, message: str, group: str = "") -> ApiError:
    subject = (
        f'{_qualified(resource, group)} "{name}" is forbidden'
        if name
        else f"{_qualified(resource, group)} is forbidden"
    )
    return ApiError(403, "Forbidden", f"{subject}: {message}", _details(name, group, resource))


def not_found(resource: str, name: str, group: str = "") -> ApiError:
    return ApiError(
        404, "NotFound", f'{_qualified(resource, group)} "{name}" not found', _details(name, group, resource)
    )


def no_such_path() -> ApiError:
    return ApiError(404, "NotFound", "the server could not find the requested resource", {})


def method_not_allowed(
    message: str = "the server does not allow this method on the requested resource",
) -> ApiError:
    return ApiError(405, "MethodNotAllowed", message, {})


def not_acceptable(message: str, details: dict[str, Any] | None = None) -> ApiError:
    return ApiError(406, "NotAcceptable", message, details)


def already_exists(resource: str, name: str, group: str = "") -> ApiError:
    return ApiError(
        409,
        "AlreadyExists",
        f'{_qualified(resource, group)} "{name}" already exists',
        _details(name, group, resource),
    )


def none_left(resource: str, name: str, group: str = "") -> ApiError:
    """409: every name that was made up for an object is taken; the last one was ``name``."""
    taken = already_exists(resource, name, group)
    taken.message += ", the server was not able to generate a unique name for the object"
    taken.details = {**(taken.details or {}), "retryAfterSeconds": 1}
    taken.headers["Retry-After"] = "1"
    return taken


def conflict(resource: str, name: str, message: str, group: str = "") -> ApiError:
    return ApiError(
        409,
        "Conflict",
        f'Operation cannot be fulfilled on {_qualified(resource, group)} "{name}": {message}',
        _details(name, group, resource),
    )


MODIFIED = "the object has been modified; please apply your changes to the latest version and try again"


def gone(message: str) -> ApiError:
    return ApiError(410, "Gone", message)


def expired(message: str, token: str = "") -> ApiError:
    """``token`` continues a list whose revision is gone, at what there is now."""
    return ApiError(410, "Expired", message, metadata={"continue": token} if token else None)


def too_large(message: str) -> ApiError:
    return ApiError(413, "RequestEntityTooLarge", message)


def slow_body(message: str) -> ApiError:
    """408: the client took too long to say what it wants."""
    return ApiError(408, "Timeout", message)


def head_too_large(message: str) -> ApiError:
    """431: the request line and the headers. Kubernetes has no reason of its own for it."""
    return ApiError(431, "RequestEntityTooLarge", message)


def unsupported_media_type(message: str, details: dict[str, Any] | None = None) -> ApiError:
    return ApiError(415, "UnsupportedMediaType", message, details)


def invalid(kind: str, name: str, causes: Sequence[Cause], group: str = "") -> ApiError:
    """422: the object was understood and is wrong. ``causes`` must not be empty; what several say is said once."""
    parts = list(
        dict.fromkeys(f"{each.field}: {each.message}" if each.field else each.message for each in causes)
    )
    text = parts[0] if len(parts) == 1 else "[" + ", ".join(parts) + "]"
    listed = [
        {"reason": each.reason, "message": each.message} | ({"field": each.field} if each.field else {})
        for each in causes
    ]
    return ApiError(
        422,
        "Invalid",
        f'{_qualified(kind, group)} "{name}" is invalid: {text}',
        _details(name, group, kind, causes=listed),
    )


def too_many_requests(message: str, retry_after: int = 1) -> ApiError:
    return ApiError(
        429, "TooManyRequests", message, {"retryAfterSeconds": retry_after}, {"Retry-After": str(retry_after)}
    )


def internal(message: str) -> ApiError:
    return ApiError(
        500, "InternalError", f"Internal error occurred: {message}", {"causes": [{"message": message}]}
    )


def unavailable(message: str) -> ApiError:
    return ApiError(503, "ServiceUnavailable", message)


def timeout(message: str) -> ApiError:
    return ApiError(
        504, "Timeout", message, {}
    )  # no Retry-After: clients would send a write again by themselves
