"""A line for each request, in text and as JSON."""

from __future__ import annotations

import json
import logging

from bamikube.apiserver import accesslog, requestinfo
from bamikube.kit import log as logs
from bamikube.kit.http import Peer, Request, Response


def record() -> logging.LogRecord:
    request = Request.make(
        "GET", "/api/v1/pods?limit=5", headers={"user-agent": 'x"y'}, peer=Peer("10.0.0.1")
    )
    answer = Response(200, b"{}", {"Audit-Id": "a-1"})
    fields = accesslog.fields(request, requestinfo.parse(request), answer, 0.0019)
    made = logging.LogRecord("access", logging.INFO, "", 0, "HTTP", None, None)
    made.fields = fields
    return made


def test_text() -> None:
    line = logs._Text("apiserver").format(record())
    assert line.endswith(
        ' I apiserver HTTP verb="LIST" URI="/api/v1/pods?limit=5" latency="1.900ms" userAgent="x\\"y" '
        'audit-ID="a-1" srcIP="10.0.0.1" resp=200'
    )


def test_json() -> None:
    entry = json.loads(logs._Json("apiserver").format(record()))
    assert entry["msg"] == "HTTP" and entry["verb"] == "LIST" and entry["resp"] == 200
    assert entry["srcIP"] == "10.0.0.1"
