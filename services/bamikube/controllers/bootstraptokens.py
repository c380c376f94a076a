"""Bootstrap tokens go when their time has come: the Secrets of the type ``bootstrap.kubernetes.io/token``.

Source: "Authenticating with Bootstrap Tokens" (the controller ``tokencleaner``).
"""

from __future__ import annotations

import logging
from base64 import b64decode
from typing import Any

from bamikube.api.errors import ApiError
from bamikube.controllers.shared import Controller, Shared, enqueue
from bamikube.kit.clock import parse_rfc3339

log = logging.getLogger(__name__)

TYPE = "bootstrap.kubernetes.io/token"


def remaining(secret: dict[str, Any], now: float) -> float | None:
    """Seconds until the token has expired, None for one that never does. What cannot be read has expired."""
    try:
        text = b64decode((secret.get("data") or {}).get("expiration") or "").decode()
        return parse_rfc3339(text) - now if text else None
    except ValueError:
        return 0.0


class BootstrapTokenCleaner(Controller):
    name = "token-cleaner-controller"
    workers = 1

    def __init__(self, shared: Shared) -> None:
        super().__init__(shared)
        self.secrets = shared.informers.of("secrets", fields=f"type={TYPE}")
        self.secrets.on_change(enqueue(self))

    async def sync(self, key: str) -> float | None:
        secret = self.secrets.get(key)
        if secret is None or secret["metadata"]["namespace"] != "kube-system":
            return None
        left = remaining(secret, self.world.clock.now())
        if left is None or left > 0:
            return left
        metadata = secret["metadata"]
        log.info("the bootstrap token %s/%s has expired", metadata["namespace"], metadata["name"])
        try:
            await self.client.delete("secrets", metadata["name"], metadata["namespace"], uid=metadata["uid"])
        except ApiError as error:
            if error.code not in (404, 409):
                raise
        return None
