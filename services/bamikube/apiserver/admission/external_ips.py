"""DenyServiceExternalIPs: no service takes over an address that is not its own. Off by default.

Addresses that a service has already may stay.

Source: Kubernetes' admission controller reference, DenyServiceExternalIPs (CVE-2020-8554).
"""

from __future__ import annotations

from typing import Any

from bamikube.api import errors
from bamikube.apiserver.admission.chain import Plugin
from bamikube.apiserver.admission.context import AdmissionContext


class DenyServiceExternalIPs(Plugin):
    name = "DenyServiceExternalIPs"
    kinds = frozenset({("", "services")})
    operations = frozenset({"CREATE", "UPDATE"})

    async def validate(self, ctx: AdmissionContext) -> None:
        if not ctx.subresource and not _addresses(ctx.object) <= _addresses(ctx.old):
            raise errors.forbidden("services", ctx.name, "Use of external IPs is denied by admission control")


def _addresses(service: dict[str, Any] | None) -> set[str]:
    return set(((service or {}).get("spec") or {}).get("externalIPs") or ())
