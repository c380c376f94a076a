"""What a gRPC probe sends."""

from __future__ import annotations

from bamikube.nodeagent.probing.grpc_check import health_request


def test_a_service_is_named_however_long_its_name() -> None:
    assert health_request("") == b""
    assert health_request("db") == b"\x0a\x02db"
    assert health_request("x" * 200) == b"\x0a\xc8\x01" + b"x" * 200
