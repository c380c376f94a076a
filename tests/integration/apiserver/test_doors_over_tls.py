"""The whole service over TLS and real etcd: who gets in without credentials, with a certificate, and with a token."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest

from tests.support.doors import Doors, open_doors
from tests.support.etcd import EtcdServer


@pytest.fixture
async def doors(etcd: EtcdServer, tmp_path: Path) -> AsyncIterator[Doors]:
    async with open_doors(etcd.endpoint, tmp_path) as opened:
        yield opened


async def test_without_credentials_only_health_and_version_are_open(doors: Doors) -> None:
    async with aiohttp.ClientSession() as session:
        for path in ("/healthz", "/livez", "/readyz", "/version"):
            assert (await doors.call(session, path, doors.trusting))[0] == 200, path
        for path in ("/", "/api", "/api/v1/pods", "/metrics", "/openid/v1/jwks", "/healthz/etcd", "/nowhere"):
            code, status = await doors.call(session, path, doors.trusting)
            assert code == 401 and status["reason"] == "Unauthorized" and status["kind"] == "Status", path


async def test_certificate_and_token_open_the_same_doors_inline_and_not(doors: Doors) -> None:
    inline: list[str] = []
    finish = doors.process.server._quick._finish

    def counted(request: Any, info: Any, answer: Any, start: float) -> None:
        inline.append(request.path)
        finish(request, info, answer, start)

    doors.process.server._quick._finish = counted
    path = "/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication"
    async with aiohttp.ClientSession() as session:
        found = [await doors.call(session, path, doors.admin) for _ in range(3)]
        assert found[0] == found[1] == found[2] and found[0][0] == 200 and inline == [path] * 2
        data = found[0][1]["data"]
        assert data["client-ca-file"] == (doors.pki / "ca.crt").read_text()
        assert data["requestheader-client-ca-file"] == (doors.pki / "front-proxy-ca.crt").read_text()
        assert orjson.loads(data["requestheader-allowed-names"]) == ["front-proxy-client"]
        # The same header lines over a connection without certificate open nothing.
        assert [(await doors.call(session, path, doors.trusting))[0] for _ in range(3)] == [401] * 3
        accounts = "/api/v1/namespaces/default/serviceaccounts"
        made = await doors.call(
            session, accounts, doors.admin, method="POST", json={"metadata": {"name": "robot"}}
        )
        assert made[0] == 201
        _, asked = await doors.call(
            session, f"{accounts}/robot/token", doors.admin, method="POST", json={"spec": {}}
        )
        bearer = {"Authorization": f"Bearer {asked['status']['token']}"}
        known = "/.well-known/openid-configuration"
        code, issuer = await doors.call(session, known, doors.trusting, headers=bearer)
        assert code == 200 and issuer["jwks_uri"] == f"{doors.url}/openid/v1/jwks"
        code, keys = await doors.call(session, "/openid/v1/jwks", doors.trusting, headers=bearer)
        assert code == 200 and keys["keys"][0]["alg"] == "RS256"
        assert (await doors.call(session, path, doors.trusting, headers=bearer))[0] == 403
