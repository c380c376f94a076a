"""PodLogOptions as they stand in a query, checked as the kubelet checks them."""

from __future__ import annotations

from bamikube.kit.clock import parse_rfc3339
from bamikube.kit.http import Request
from bamikube.nodeagent.server.logs import LogOptions
from bamikube.nodeagent.server.refusal import Refusal

_STREAMS = ("All", "Stdout", "Stderr")


def log_options(request: Request, now: float) -> LogOptions:
    """Raises Refusal: 400 for what cannot be read, 422 for what cannot be meant."""
    seconds = _number(request, "sinceSeconds", 1)
    since = None
    if request.param("sinceTime"):
        if seconds is not None:
            raise _invalid("at most one of sinceTime and sinceSeconds may be given")
        try:
            since = parse_rfc3339(request.param("sinceTime"))
        except ValueError:
            raise Refusal(
                400, '{"message": "Unable to decode query: sinceTime is not an RFC 3339 time"}'
            ) from None
    elif seconds is not None:
        since = now - seconds
    tail = None
    if request.param("tail") not in ("", "all"):  # what tailLines was called once
        tail = _number(request, "tail", 0)
    if request.param("tailLines"):
        tail = _number(request, "tailLines", 0)
    stream = request.param("stream") or "All"
    if stream not in _STREAMS:
        raise _invalid(f"stream must be one of {', '.join(_STREAMS)}")
    if stream != "All" and tail is not None:
        raise _invalid("tailLines and a single stream cannot be asked for together")
    return LogOptions(
        follow=request.flag("follow"),
        tail=tail,
        since=since,
        timestamps=request.flag("timestamps"),
        limit=_number(request, "limitBytes", 1),
        stream=stream,
    )


def _number(request: Request, name: str, least: int) -> int | None:
    text = request.param(name)
    if not text:
        return None
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdigit() and len(digits) < 20):
        raise Refusal(400, f'{{"message": "Unable to decode query: {name} is not a whole number"}}')
    if (value := int(text)) < least:
        raise _invalid(f"{name} must be at least {least}")
    return value


def _invalid(why: str) -> Refusal:
    return Refusal(422, f'{{"message": "Invalid request: {why}"}}')
