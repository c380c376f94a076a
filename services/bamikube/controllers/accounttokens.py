"""Secrets of type ``kubernetes.io/service-account-token``: filled for an account that exists, removed with it.

Somebody creates the Secret with the annotation ``kubernetes.io/service-account.name``; the controller adds the
account's uid, the CA, the namespace and a token that does not run out. An account that was deleted, or made anew
under its old name (its uid differs), takes its Secrets along.

Source: "Managing Service Accounts" (token controller), "Secrets" (ServiceAccount token Secrets).
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

from bamikube.api.errors import ApiError
from bamikube.client.informer import split_key
from bamikube.controllers.shared import Controller, Shared, enqueue, namespace_is_going
from bamikube.pki.tokens import TokenSigner

Object = dict[str, Any]

TYPE = "kubernetes.io/service-account-token"
NAME = "kubernetes.io/service-account.name"
UID = "kubernetes.io/service-account.uid"


def account_of(secret: Object) -> tuple[str, str]:
    """Name and uid of the account a Secret is for; the uid is "" before the controller has seen it."""
    notes = secret["metadata"].get("annotations") or {}
    return str(notes.get(NAME) or ""), str(notes.get(UID) or "")


def belongs(secret: Object, account: Object | None) -> bool:
    """Whether ``account`` is the one the Secret was made for."""
    uid = account_of(secret)[1]
    return account is not None and (not uid or uid == account["metadata"]["uid"])


def filled(secret: Object, account: Object, ca_pem: str, token: Callable[[], str]) -> Object | None:
    """The Secret with what it lacks; None when it lacks nothing. ``token`` is asked only when there is none."""
    meta, data = secret["metadata"], dict(secret.get("data") or {})
    notes = {**(meta.get("annotations") or {}), UID: account["metadata"]["uid"]}
    if ca_pem:
        data["ca.crt"] = base64.b64encode(ca_pem.encode()).decode()
    if not data.get("namespace"):
        data["namespace"] = base64.b64encode(meta["namespace"].encode()).decode()
    if not data.get("token"):
        data["token"] = base64.b64encode(token().encode()).decode()
    if data == (secret.get("data") or {}) and notes == meta.get("annotations"):
        return None
    return {**secret, "metadata": {**meta, "annotations": notes}, "data": data}


class AccountTokenController(Controller):
    name = "serviceaccount-token-controller"
    workers = 2

    def __init__(self, shared: Shared, signer: TokenSigner, ca_pem: str) -> None:
        super().__init__(shared)
        self.signer = signer
        self.ca_pem = ca_pem
        self.accounts = shared.informers.of("serviceaccounts")
        self.secrets = shared.informers.of("secrets", fields=f"type={TYPE}")
        self.secrets.on_change(enqueue(self))
        self.accounts.on_change(self._account_changed)

    def _account_changed(self, key: str, old: Object | None, new: Object | None) -> None:
        if old is not None and new is not None and old["metadata"]["uid"] == new["metadata"]["uid"]:
            return  # nothing of it concerns a token
        namespace, name = split_key(key)
        for secret in self.secrets.items():
            if secret["metadata"]["namespace"] == namespace and account_of(secret)[0] == name:
                self.queue.add(f"{namespace}/{secret['metadata']['name']}")

    async def sync(self, key: str) -> float | None:
        await self.accounts.synced.wait()
        secret = self.secrets.get(key)
        if secret is None or secret.get("type") != TYPE or secret["metadata"].get("deletionTimestamp"):
            return None
        namespace, _ = split_key(key)
        name, _uid = account_of(secret)
        account = self.accounts.get(f"{namespace}/{name}")
        if not belongs(secret, account):
            # The copy may be behind: nothing is deleted without asking.
            account = await self._live_account(namespace, name)
        if account is None or not belongs(secret, account):
            await self._delete(secret)
            return None
        uid = account["metadata"]["uid"]
        wanted = filled(
            secret,
            account,
            self.ca_pem,
            lambda: self.signer.sign_secret(namespace, name, uid, secret["metadata"]["name"]),
        )
        if wanted is None:
            return None
        try:
            await self.client.update("secrets", wanted)
        except ApiError as error:
            # Gone, changed meanwhile (the change comes as an event), or on its way out with its namespace.
            if error.code not in (404, 409) and not namespace_is_going(error):
                raise
        return None

    async def _live_account(self, namespace: str, name: str) -> Object | None:
        try:
            return await self.client.get("serviceaccounts", name, namespace)
        except ApiError as error:
            if error.code == 404:
                return None
            raise

    async def _delete(self, secret: Object) -> None:
        meta = secret["metadata"]
        try:
            await self.client.delete(
                "secrets",
                meta["name"],
                meta["namespace"],
                uid=meta["uid"],
                resource_version=meta["resourceVersion"],
            )
        except ApiError as error:
            if error.code not in (404, 409):
                raise
