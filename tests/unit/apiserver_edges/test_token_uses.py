"""Uses of old tokens are counted, dated on the Secret, and told to the client."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import pytest

from bamikube.apiserver.authn import BadCredentials
from bamikube.apiserver.authn.token_uses import (
    AUTO,
    AUTO_GENERATED,
    CONFIG_MAPS,
    INVALID,
    LAST_USED,
    MANUAL,
    NAME,
    SECRETS,
    STALE,
    VALID,
    TokenUses,
)
from bamikube.kit.chance import Chance
from bamikube.kit.clock import parse_rfc3339
from bamikube.kit.world import World
from bamikube.pki.tokens import Bound
from bamikube.store.model import ModelStore
from tests.unit.apiserver_edges.conftest import running
from tests.unit.apiserver_edges.test_credentials import ISSUER, accounts, showing

NOON = parse_rfc3339("2026-03-01T12:00:00Z")


class At:
    """A clock that stands still."""

    def __init__(self, now: float) -> None:
        self.time = now

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)


def total(counter: Any) -> float:
    return float(counter._value.get())


def secret(token: str, **labels: str) -> dict[str, Any]:
    metadata = {"name": "t", "namespace": "web", "uid": "s1", "labels": labels}
    return {"metadata": metadata, "data": {"token": base64.b64encode(token.encode()).decode()}}


async def test_each_use_of_a_secrets_token_counts_and_an_auto_generated_one_warns(reader: Any) -> None:
    signer, answer = accounts(reader)
    token = signer.sign_secret("web", "bot", "a1", "t")
    account: dict[str, Any] = {"metadata": {"name": "bot", "namespace": "web", "uid": "a1"}}
    reader.put(("", "serviceaccounts"), account)
    reader.put(SECRETS, secret(token))
    before = total(MANUAL), total(AUTO), total(INVALID)
    user = await answer.authenticate(showing(None, authorization=f"Bearer {token}"))
    assert user is not None and user.warnings == ()
    reader.put(("", "serviceaccounts"), {**account, "secrets": [{"name": "t"}]})
    user = await answer.authenticate(showing(None, authorization=f"Bearer {token}"))
    assert user is not None and user.warnings == (AUTO_GENERATED,)
    reader.put(SECRETS, secret(token, **{"kubernetes.io/legacy-token-invalid-since": "2026-01-01"}))
    with pytest.raises(BadCredentials, match="has been marked invalid"):
        await answer.review(token, [])
    assert (total(MANUAL), total(AUTO), total(INVALID)) == (before[0] + 1, before[1] + 1, before[2] + 1)


async def test_a_pods_token_that_should_have_been_replaced_is_stale(reader: Any) -> None:
    signer, answer = accounts(reader)
    reader.put(("", "serviceaccounts"), {"metadata": {"name": "bot", "namespace": "web", "uid": "a1"}})
    reader.put(("", "pods"), {"metadata": {"name": "p", "namespace": "web", "uid": "p1"}})
    pod = Bound("p", "p1")
    good, _ = signer.sign("web", "bot", "a1", audiences=[ISSUER], pod=pod, lifetime=99999, warn_after=3607)
    old, _ = signer.sign("web", "bot", "a1", audiences=[ISSUER], pod=pod, lifetime=99999, warn_after=-10)
    before = total(VALID), total(STALE)
    for token in (good, good, old):
        assert await answer.authenticate(showing(None, authorization=f"Bearer {token}"))
    assert (total(VALID), total(STALE)) == (before[0] + 2, before[1] + 1)


async def test_the_last_use_is_written_once_a_day_and_the_tracking_is_dated() -> None:
    clock = At(NOON)
    uses = TokenUses(World(clock=clock))  # type: ignore[arg-type]
    world = World(chance=Chance(7))
    store = ModelStore(world)
    async with running(store, world) as call:
        cache, registry = call.server.cache, call.server.registry
        path = "/api/v1/namespaces/default/secrets"
        made = {"metadata": {"name": "t", "labels": {"kept": "yes"}}, "data": {"token": "eA=="}}
        _, stored = await call("POST", path, made)
        task = asyncio.ensure_future(uses.run(cache, registry))
        try:
            for hour, day in ((0, "2026-03-01"), (6, "2026-03-01"), (24, "2026-03-02")):
                clock.time = NOON + hour * 3600
                uses.of_invalid(stored)
                async with asyncio.timeout(10):
                    while True:
                        _, stored = await call("GET", f"{path}/t")
                        if stored["metadata"]["labels"].get(LAST_USED) == day:
                            break
                assert stored["metadata"]["labels"]["kept"] == "yes"
            revision = stored["metadata"]["resourceVersion"]
            clock.time -= 24 * 3600  # a server whose clock is behind leaves tomorrow's date alone
            uses.of_invalid(stored)
            assert not uses._waiting
            assert (await call("GET", f"{path}/t"))[1]["metadata"]["resourceVersion"] == revision
        finally:
            task.cancel()
        assert await uses.ensure(cache, registry)
        await cache.consistent()
        found = cache.get(CONFIG_MAPS, "kube-system", NAME)
        assert found is not None and found["data"] == {"since": "2026-03-01"}
        assert not await uses.ensure(cache, registry)
        for text in ("yesterday", "20260301"):
            await registry.update(
                call.server.catalog.find("", "v1", "configmaps"), {**found, "data": {"since": text}}
            )  # type: ignore[arg-type]
            await cache.consistent()
            assert await uses.ensure(cache, registry)
            await cache.consistent()
            found = cache.get(CONFIG_MAPS, "kube-system", NAME)
            assert found is not None and found["data"] == {"since": "2026-03-01"}
    await store.close()
