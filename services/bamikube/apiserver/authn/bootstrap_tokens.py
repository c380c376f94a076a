"""Users by bootstrap token: how a machine that has nothing else asks to become a node.

A token is ``<id>.<secret>``; the Secret ``kube-system/bootstrap-token-<id>`` knows it::

    type: bootstrap.kubernetes.io/token
    stringData:
      token-id: abcdef
      token-secret: 0123456789abcdef
      usage-bootstrap-authentication: "true"
      expiration: 2026-01-02T03:04:05Z                            # may be left out
      auth-extra-groups: system:bootstrappers:worker              # may be left out

Who shows it is ``system:bootstrap:abcdef`` in ``system:bootstrappers`` and the groups named; roles for these let it ask for
a node's certificate. A token that is nobody's, or no longer good, is simply not known here.

Source: Kubernetes' "Authenticating with Bootstrap Tokens", "TLS bootstrapping".
"""

from __future__ import annotations

import hmac
import logging
import re
from base64 import b64decode
from binascii import Error as NotBase64
from collections.abc import Sequence
from typing import Any

from bamikube.api import errors
from bamikube.apiserver.authn.authenticator import Identified
from bamikube.apiserver.identity import User
from bamikube.apiserver.registry.reader import Reader
from bamikube.kit.clock import Clock, parse_rfc3339

log = logging.getLogger(__name__)

Object = dict[str, Any]

NAMESPACE, PREFIX = "kube-system", "bootstrap-token-"
TYPE = "bootstrap.kubernetes.io/token"
GROUP = "system:bootstrappers"
_TOKEN = re.compile(r"([a-z0-9]{6})\.([a-z0-9]{16})")
_EXTRA_GROUP = re.compile(r"system:bootstrappers:[a-z0-9:-]{0,255}[a-z0-9]")


class BootstrapTokenMethod:
    def __init__(self, reader: Reader, clock: Clock) -> None:
        self._reader = reader
        self._clock = clock

    async def authenticate_token(self, token: str, audiences: Sequence[str]) -> Identified | None:
        """None when the token is not one of ours, or not good."""
        match = _TOKEN.fullmatch(token)
        if match is None:
            return None
        name = f"{PREFIX}{match[1]}"
        secret = self._reader.get(("", "secrets"), NAMESPACE, name)
        if secret is None:  # another API server may have just made it
            if not await self._reader.consistent():
                raise errors.unavailable("the bootstrap token cannot be looked up at present; try again")
            secret = self._reader.get(("", "secrets"), NAMESPACE, name)
        if secret is None:
            return None
        if problem := self._problem(secret, match[1], match[2]):
            log.info("the bootstrap token of the secret %s/%s %s", NAMESPACE, name, problem)
            return None
        return Identified(User(f"system:bootstrap:{match[1]}", (GROUP, *_extra_groups(secret))))

    def _problem(self, secret: Object, ident: str, value: str) -> str:
        """Why the token is not good; "" when it is."""
        if secret["metadata"].get("deletionTimestamp"):
            return "is deleted and awaiting removal"
        if secret.get("type") != TYPE:
            return f"has invalid type, expected {TYPE}"
        if not hmac.compare_digest(_data(secret, "token-secret").encode(), value.encode()):
            return "has another value for key token-secret"
        if _data(secret, "token-id") != ident:
            return f"has invalid value for key token-id, expected {ident}"
        if expired(secret, self._clock.now()):
            return "has expired"
        if _data(secret, "usage-bootstrap-authentication") != "true":
            return "not marked usage-bootstrap-authentication=true"
        wrong = [group for group in _extra_groups(secret) if not _EXTRA_GROUP.fullmatch(group)]
        return f"has invalid value for key auth-extra-groups: {', '.join(wrong)}" if wrong else ""


def expired(secret: Object, now: float) -> bool:
    """A time that cannot be read has passed."""
    text = _data(secret, "expiration")
    if not text:
        return False
    try:
        return parse_rfc3339(text) <= now
    except ValueError:
        return True


def _extra_groups(secret: Object) -> list[str]:
    text = _data(secret, "auth-extra-groups")
    return sorted({part.strip() for part in text.split(",")} - {GROUP}) if text else []


def _data(secret: Object, key: str) -> str:
    try:
        return b64decode((secret.get("data") or {}).get(key) or "").decode()
    except (NotBase64, UnicodeDecodeError):
        return ""
