"""ResourceQuota: a namespace uses no more than its quotas allow.

The counting is done where the object is stored, in one transaction (:mod:`bamikube.apiserver.admission.quota_ledger`).
This plugin is the switch for it, and answers those who only ask (dry run).

Source: Kubernetes' "Resource Quotas" and the admission controller reference, ResourceQuota.
"""

from __future__ import annotations

from bamikube.apiserver.admission.chain import Plugin
from bamikube.apiserver.admission.context import AdmissionContext
from bamikube.apiserver.admission.quota_ledger import QuotaLedger
from bamikube.store.port import Store


class ResourceQuota(Plugin):
    name = "ResourceQuota"
    operations = frozenset({"CREATE", "UPDATE"})

    def __init__(self, ledger: QuotaLedger, store: Store) -> None:
        self.ledger = ledger
        self._store = store

    async def validate(self, ctx: AdmissionContext) -> None:
        if not ctx.dry_run or not self.ledger.watches(ctx.namespace, ctx.resource.storage_key):
            return
        if ctx.object is not None and ctx.subresource in ("", "resize"):
            await self.ledger.bill(self._store, ctx.resource, ctx.namespace, ctx.old, ctx.object)
