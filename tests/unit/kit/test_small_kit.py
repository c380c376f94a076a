"""Clock texts, dice, back-off, requests, redaction."""

from __future__ import annotations

import uuid

import pytest

from bamikube.kit.backoff import Backoff
from bamikube.kit.chance import Chance
from bamikube.kit.clock import parse_rfc3339, rfc3339, rfc3339_micro
from bamikube.kit.http import Request
from bamikube.kit.log import redact


def test_times_round_trip() -> None:
    assert rfc3339(0) == "1970-01-01T00:00:00Z"
    assert rfc3339_micro(1.5) == "1970-01-01T00:00:01.500000Z"
    assert parse_rfc3339("2026-01-02T03:04:05.250000Z") == parse_rfc3339("2026-01-02T03:04:05Z") + 0.25
    for bad in ("", "2026-01-02", "2026-01-02T03:04:05", "yesterday"):
        with pytest.raises(ValueError):
            parse_rfc3339(bad)


def test_seeded_dice_repeat() -> None:
    one, two = Chance(7), Chance(7)
    assert [one.uuid(), one.suffix(), one.random()] == [two.uuid(), two.suffix(), two.random()]


def test_identifiers_are_version_4_uuids() -> None:
    dice = Chance(7)
    for _ in range(200):
        text = dice.uuid()
        parsed = uuid.UUID(text)
        assert str(parsed) == text and parsed.version == 4 and parsed.variant == uuid.RFC_4122


def test_back_off_grows_to_its_cap_and_starts_again() -> None:
    backoff = Backoff(1, 5)
    assert [backoff.next() for _ in range(4)] == [1, 2, 4, 5]
    backoff.reset()
    assert backoff.next() == 1


def test_request_parts() -> None:
    request = Request.make("GET", "/api/v1/pods%2Fx?watch=true&labelSelector=a%3Db&pretty")
    assert request.path == "/api/v1/pods/x"
    assert request.param("labelSelector") == "a=b"
    assert request.flag("watch") and request.flag("pretty") and not request.flag("absent")


def test_secrets_are_blanked() -> None:
    text = redact("Authorization: Bearer abcdefghijkl and eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJrdWJl.c2lnbmF0dXJl")
    assert "abcdefghijkl" not in text and "eyJpc3MiOiJrdWJl" not in text
    assert "PRIVATE" not in redact("-----BEGIN EC PRIVATE KEY-----\nabc\n-----END EC PRIVATE KEY-----")
