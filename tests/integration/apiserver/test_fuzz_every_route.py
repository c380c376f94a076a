"""Every route of the OpenAPI documents under strange requests; the long run is in tests/soak."""

from __future__ import annotations

import logging

import pytest

from bamikube.api import table
from tests.support.fuzz_run import fuzz
from tests.support.objects import example, where

from .conftest import Api

SECONDS = 40.0
SEED = 20340


async def test_no_request_makes_the_server_fail(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)
    account = {"metadata": {"name": "default"}}
    await api.call("POST", "/api/v1/namespaces/default/serviceaccounts", account, 201)
    for row in table.TABLE:
        outward = row.group in (
            "admissionregistration.k8s.io",
            "apiregistration.k8s.io",
            "apiextensions.k8s.io",
        )
        if (
            not row.virtual
            and not outward
            and row.storage_group is None
            and row.version == row.storage_version
        ):
            await api.call("POST", where(row), example(row, "fuzz"), 201)
    seen = await fuzz(api.server, SEED, SECONDS)
    assert {200, 201, 400, 404, 422} <= set(seen), seen
    assert not [record.getMessage() for record in caplog.records if record.exc_info]
