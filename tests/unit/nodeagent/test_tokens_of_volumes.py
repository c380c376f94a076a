"""Tokens are replaced in good time, and outlive an API server that cannot be reached."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from bamikube.api.errors import ApiError
from bamikube.nodeagent.container.env import ConfigError
from bamikube.nodeagent.volumes.plugin import TokenNeed
from bamikube.nodeagent.volumes.tokens import DAY, Tokens

POD: dict[str, Any] = {"metadata": {"name": "p", "namespace": "d", "uid": "u"}}
HOUR = TokenNeed("", 3600)


class Issuer:
    """Clock and API in one: what is issued is numbered."""

    def __init__(self) -> None:
        self.time, self.issued, self.fails = 1000.0, 0, False

    def now(self) -> float:
        return self.time

    async def token(self, pod: Any, audience: str, seconds: int) -> tuple[str, float]:
        await asyncio.sleep(0)
        if self.fails:
            raise ApiError(404, "NotFound", 'serviceaccounts "default" not found')
        self.issued += 1
        return f"{audience}{self.issued}", self.time + seconds


def tokens() -> tuple[Tokens, Issuer]:
    issuer = Issuer()
    return Tokens(issuer, issuer), issuer  # type: ignore[arg-type]


async def test_one_token_serves_all_volumes_until_most_of_its_life_is_over() -> None:
    held, issuer = tokens()
    assert set(await asyncio.gather(*(held.get(POD, HOUR) for _ in range(5)))) == {"1"}
    assert await held.get(POD, TokenNeed("vault", 3600)) == "vault2"
    issuer.time += 0.8 * 3600 - 1
    assert await held.get(POD, HOUR) == "1"
    issuer.time += 2
    assert await held.get(POD, HOUR) == "3"


async def test_a_token_of_a_year_is_replaced_after_a_day() -> None:
    held, issuer = tokens()
    year = TokenNeed("", 365 * 86_400)
    await held.get(POD, year)
    issuer.time += DAY + 1
    assert await held.get(POD, year) == "2"


async def test_the_old_token_is_kept_while_there_is_no_new_one() -> None:
    held, issuer = tokens()
    issuer.fails = True
    with pytest.raises(ConfigError, match='failed to fetch token: serviceaccounts "default" not found'):
        await held.get(POD, HOUR)
    issuer.fails = False
    await held.get(POD, HOUR)
    issuer.fails, issuer.time = True, issuer.time + 3500
    assert await held.get(POD, HOUR) == "1"
    issuer.time += 200
    with pytest.raises(ConfigError, match="token expired and refresh failed"):
        await held.get(POD, HOUR)
