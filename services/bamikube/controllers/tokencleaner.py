"""Secrets with tokens that were made by themselves, in the old days, and that nobody has used for a year.

Once a day each is looked at: one that is old, unused, auto-generated (its account lists it) and mounted by no pod is marked invalid
(``kubernetes.io/legacy-token-invalid-since``), so that a late user notices and can take the mark off again; a year
later it is deleted. Nothing happens before uses have been tracked for that long: the API server's ConfigMap
``kube-apiserver-legacy-service-account-token-tracking`` says since when.

Source: "Managing Service Accounts", legacy ServiceAccount token cleaner; KEP-2799.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from bamikube.api.errors import ApiError
from bamikube.api.predicates.references import references
from bamikube.api.times import seconds
from bamikube.controllers.accounttokens import TYPE, account_of
from bamikube.controllers.shared import Controller, Shared

log = logging.getLogger(__name__)

Object = dict[str, Any]

TRACKING, SINCE = "kube-apiserver-legacy-service-account-token-tracking", "since"
LAST_USED = "kubernetes.io/legacy-token-last-used"
INVALID_SINCE = "kubernetes.io/legacy-token-invalid-since"
PERIOD = 86_400.0  # seconds between two looks


@dataclass(frozen=True, slots=True)
class Plan:
    """Secrets to mark invalid from ``today`` on, and to delete."""

    today: str = ""
    mark: tuple[Object, ...] = ()
    delete: tuple[Object, ...] = ()


def plan(
    secrets: Iterable[Object],
    accounts: Mapping[str, Object],
    pods: Iterable[Object],
    tracked_since: str,
    now: float,
    unused: float,
) -> Plan:
    """``accounts`` by namespace and name; ``unused`` is how many seconds without a use make a token old."""
    moment = datetime.fromtimestamp(now, UTC)
    since = _date(tracked_since)
    # Whoever used a token before midnight of the first day may not have been noted.
    if since is None or moment < _midnight(since + timedelta(days=1)) + timedelta(seconds=unused):
        return Plan()
    old = str((moment - timedelta(seconds=unused)).date())
    candidates = [
        one for one in secrets if _unused(one, old, now - unused) and _auto_generated(one, accounts)
    ]
    if not candidates:
        return Plan()
    mounted = {one[1:] for pod in pods for one in references(pod) if one[0] == "secrets"}
    free = [
        one for one in candidates if (one["metadata"]["namespace"], one["metadata"]["name"]) not in mounted
    ]
    marks = {id(one): (one["metadata"].get("labels") or {}).get(INVALID_SINCE, "") for one in free}
    return Plan(
        str(moment.date()),
        tuple(one for one in free if _date(marks[id(one)]) is None),
        tuple(one for one in free if _date(marks[id(one)]) is not None and marks[id(one)] < old),
    )


def _unused(secret: Object, old: str, created_before: float) -> bool:
    metadata = secret["metadata"]
    if secret.get("type") != TYPE or "deletionTimestamp" in metadata:
        return False
    if seconds(metadata.get("creationTimestamp")) >= created_before:
        return False
    used = (metadata.get("labels") or {}).get(LAST_USED)
    # A date that cannot be read says nothing: such a token is left alone.
    return used is None or (_date(used) is not None and used < old)


def _auto_generated(secret: Object, accounts: Mapping[str, Object]) -> bool:
    metadata = secret["metadata"]
    name, uid = account_of(secret)
    account = accounts.get(f"{metadata['namespace']}/{name}")
    if account is None or (uid and uid != account["metadata"]["uid"]):
        return False
    return any(one.get("name") == metadata["name"] for one in account.get("secrets") or ())


def _date(text: Any) -> date | None:
    try:
        found = date.fromisoformat(text)
    except (TypeError, ValueError):
        return None
    return found if str(found) == text else None


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


class TokenCleaner(Controller):
    name = "legacy-serviceaccount-token-cleaner-controller"
    workers = 1

    def __init__(self, shared: Shared, unused: float) -> None:
        super().__init__(shared)
        self.unused = unused
        self.secrets = shared.informers.of("secrets", fields=f"type={TYPE}")
        self.accounts = shared.informers.of("serviceaccounts")
        self.pods = shared.informers.of("pods")
        self.queue.add("all")

    async def sync(self, key: str) -> float | None:
        for informer in (self.secrets, self.accounts, self.pods):
            await informer.synced.wait()
        if not self.secrets.items():
            return PERIOD
        try:
            tracking = await self.client.get("configmaps", TRACKING, "kube-system")
        except ApiError as error:
            if error.code != 404:
                raise
            return PERIOD
        accounts = {
            f"{one['metadata']['namespace']}/{one['metadata']['name']}": one for one in self.accounts.items()
        }
        since = (tracking.get("data") or {}).get(SINCE, "")
        now = self.world.clock.now()
        found = plan(self.secrets.items(), accounts, self.pods.items(), since, now, self.unused)
        for secret in found.mark:
            await self._mark(secret, found.today)
        for secret in found.delete:
            await self._delete(secret)
        return PERIOD

    async def _mark(self, secret: Object, today: str) -> None:
        metadata = secret["metadata"]
        log.info("mark the auto-generated token %s/%s as invalid", metadata["namespace"], metadata["name"])
        labels = {**(metadata.get("labels") or {}), INVALID_SINCE: today}
        await self._try(self.client.update("secrets", {**secret, "metadata": {**metadata, "labels": labels}}))

    async def _delete(self, secret: Object) -> None:
        metadata = secret["metadata"]
        log.info("delete the auto-generated token %s/%s", metadata["namespace"], metadata["name"])
        await self._try(
            self.client.delete(
                "secrets",
                metadata["name"],
                metadata["namespace"],
                uid=metadata["uid"],
                resource_version=metadata["resourceVersion"],
            )
        )

    @staticmethod
    async def _try(write: Any) -> None:
        """What has changed meanwhile is looked at again tomorrow."""
        try:
            await write
        except ApiError as error:
            if error.code not in (404, 409):
                raise
