"""ResourceQuota: a namespace uses no more than its quotas allow.

The counting is done where the object is stored, in one transaction (:mod:`bamikube.apiserver.admission.quota_ledger`).
This plugin is the switch for it, and answers those who only ask (dry run).

Source: Kubernetes' "Resource Quotas" and the admission controller reference, ResourceQuota.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bamikube.api import errors
from bamikube.api.quantity import QuantityError
from bamikube.apiserver.admission.chain import Plugin
from bamikube.apiserver.admission.context import AdmissionContext
from bamikube.apiserver.admission.quota_ledger import QUOTAS, QuotaLedger
from bamikube.apiserver.admission.quota_limits import Limited, uncovered
from bamikube.apiserver.registry.reader import Reader
from bamikube.store.port import Store

PODS = ("", "pods")
# Kinds whose updates may use more than before; pods do by their subresource for it.
GROWING = frozenset({("", "persistentvolumeclaims"), ("", "services")})


class ResourceQuota(Plugin):
    name = "ResourceQuota"
    operations = frozenset({"CREATE", "UPDATE"})

    def __init__(
        self, ledger: QuotaLedger, store: Store, reader: Reader, limited: Sequence[Limited] = ()
    ) -> None:
        self.ledger = ledger
        self._store = store
        self._reader = reader
        self._limited = limited

    async def validate(self, ctx: AdmissionContext) -> None:
        if self._limited and ctx.object is not None and ctx.namespace and ctx.subresource in ("", "resize"):
            self._demand_quota(ctx, ctx.object)
        if not ctx.dry_run or not self.ledger.watches(ctx.namespace, ctx.resource.storage_key):
            return
        if ctx.object is not None and ctx.subresource in ("", "resize"):
            await self.ledger.bill(self._store, ctx.resource, ctx.namespace, ctx.old, ctx.object)

    def _demand_quota(self, ctx: AdmissionContext, obj: dict[str, Any]) -> None:
        """What is limited by default takes a quota. Raises ApiError 403."""
        kind = ctx.resource.storage_key
        if ctx.operation == "UPDATE" and kind not in GROWING and not (kind == PODS and ctx.subresource):
            return  # it uses no more than before
        quotas = self._reader.list(QUOTAS, ctx.namespace)
        try:
            why = uncovered(self._limited, kind, obj, quotas)
        except QuantityError:
            return  # validation says what is wrong with it
        if why:
            raise errors.forbidden(ctx.resource.plural, ctx.name, why, ctx.resource.group)
