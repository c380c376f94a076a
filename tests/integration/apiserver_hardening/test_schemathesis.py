"""An independent fuzzer against the API's own documents, over TLS; the long run is in tests/soak."""

from __future__ import annotations

from pathlib import Path

from tests.support.private_api import private_api
from tests.support.schemathesis_run import Wire, furnish, judge

SECONDS = 60.0
SEED = 20341


def test_schemathesis_finds_nothing(tmp_path: Path) -> None:
    with private_api(tmp_path, controllers=False) as api:
        furnish(Wire(api))
        seen = judge(api, SEED, SECONDS)
        assert {200, 400, 404, 422} <= set(seen), seen
        assert "Traceback" not in api.log("apiserver")
