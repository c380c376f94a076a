"""Admission of connections: exec, attach, port-forward and proxy are the operation CONNECT.

What admission sees is the connection's options, made from the query, under the name of the pod, service or node::

    POST .../pods/web/exec?command=sh&stdin=true
    CONNECT pods/exec web   {"kind": "PodExecOptions", "command": ["sh"], "stdin": true}

It comes before everything else, so that a refusal is an ordinary answer and not the end of a stream.
"""

from __future__ import annotations

from typing import Any

from bamikube.api.numbers import whole
from bamikube.apiserver.admission.context import AdmissionContext
from bamikube.apiserver.admission.matching import kind_of
from bamikube.apiserver.call import Call, SpecialHandler
from bamikube.kit.http import Answer, Request

_FLAGS = ("stdin", "stdout", "stderr", "tty")


def admitted(handler: SpecialHandler) -> SpecialHandler:
    """``handler``, once admission lets the connection happen."""

    async def handle(call: Call) -> Answer:
        admission = call.services.admission
        if admission is not None:
            options = options_of(call.request, kind_of(call.resource, call.subresource)[2])
            ctx = AdmissionContext(
                "CONNECT",
                call.resource,
                call.namespace,
                call.name,
                call.user,
                options,
                None,
                call.subresource,
            )
            await admission.mutate(ctx)
            await admission.validate(ctx)
        return await handler(call)

    return handle


def options_of(request: Request, kind: str) -> dict[str, Any]:
    """The options object of a connection."""
    options: dict[str, Any] = {"kind": kind, "apiVersion": "v1"}
    if kind in ("PodExecOptions", "PodAttachOptions"):
        options |= {flag: True for flag in _FLAGS if request.flag(flag)}
        if container := request.param("container"):
            options["container"] = container
        if kind == "PodExecOptions":
            options["command"] = request.query.get("command") or []
    elif kind == "PodPortForwardOptions":
        given = (whole(text) for text in request.query.get("ports") or ())
        ports = [port for port in given if port is not None]
        if ports:
            options["ports"] = ports
    else:
        options["path"] = request.path.partition("/proxy")[2] or "/"
    return options
