"""ServiceAccount: every pod runs as somebody, and finds that somebody's token where programs look for it.

A pod that names no service account runs as ``default``. Unless the pod or the account says otherwise, a projected
volume ``kube-api-access-xxxxx`` with a fresh token, the cluster's CA and the namespace is mounted into every
container that has nothing at that path. An account's pull secrets go to pods that have none of their own.

The ``default`` account of a new namespace is made by a controller; a pod created in the same breath waits for it
a moment instead of failing.

Source: Kubernetes' "Managing Service Accounts" and the admission controller reference, ServiceAccount.
"""

from __future__ import annotations

from typing import Any

from bamikube.api import errors
from bamikube.api.predicates.references import references
from bamikube.apiserver.admission import mountable_secrets
from bamikube.apiserver.admission.chain import Plugin
from bamikube.apiserver.admission.context import AdmissionContext
from bamikube.apiserver.registry.reader import Reader
from bamikube.kit.world import World

ACCOUNTS = ("", "serviceaccounts")
DEFAULT = "default"
MOUNT_PATH = "/var/run/secrets/kubernetes.io/serviceaccount"
VOLUME_PREFIX = "kube-api-access-"
MIRROR = "kubernetes.io/config.mirror"

# One hour and seven seconds: Kubernetes' mark of a token that its admission asked for.
EXPIRATION_SECONDS = 3607

_WAIT = 2.0  # seconds to wait for a namespace's default account
_POLL = 0.02


class ServiceAccount(Plugin):
    name = "ServiceAccount"
    kinds = frozenset({("", "pods")})
    operations = frozenset({"CREATE", "UPDATE"})

    def __init__(self, reader: Reader, world: World) -> None:
        self._reader = reader
        self._world = world

    async def mutate(self, ctx: AdmissionContext) -> None:
        if ctx.operation != "CREATE" or not ctx.concerns("", "pods") or ctx.object is None:
            return
        pod = ctx.object
        if MIRROR in (pod["metadata"].get("annotations") or {}):
            return
        spec = pod.setdefault("spec", {})
        name = spec.get("serviceAccountName") or spec.get("serviceAccount") or DEFAULT
        spec["serviceAccountName"] = spec["serviceAccount"] = name
        account = await self._account(ctx.namespace, name)
        if account is None:
            raise errors.forbidden(
                "pods",
                ctx.name,
                f'error looking up service account {ctx.namespace}/{name}: serviceaccount "{name}" not found',
            )
        if _automount(account, spec):
            mount_token(spec, VOLUME_PREFIX + self._world.chance.suffix())
        if not spec.get("imagePullSecrets") and account.get("imagePullSecrets"):
            spec["imagePullSecrets"] = [{"name": one.get("name")} for one in account["imagePullSecrets"]]

    async def validate(self, ctx: AdmissionContext) -> None:
        if ctx.object is None:
            return
        spec = ctx.object.get("spec") or {}
        if ctx.operation == "UPDATE":
            if ctx.subresource == "ephemeralcontainers":
                account = self._reader.get(ACCOUNTS, ctx.namespace, spec.get("serviceAccountName") or DEFAULT)
                if account is not None and mountable_secrets.enforced(account):
                    _refuse(ctx, mountable_secrets.forbidden_to_ephemeral(account, ctx.object))
            return
        if not ctx.concerns("", "pods"):
            return
        if MIRROR in (ctx.object["metadata"].get("annotations") or {}):
            _refuse(ctx, _wrong_with_mirror(ctx.object))
            return
        account = self._reader.get(ACCOUNTS, ctx.namespace, spec.get("serviceAccountName") or DEFAULT)
        if account is not None and mountable_secrets.enforced(account):
            _refuse(ctx, mountable_secrets.forbidden_secret(account, ctx.object))

    async def _account(self, namespace: str, name: str) -> dict[str, Any] | None:
        account = self._reader.get(ACCOUNTS, namespace, name)
        if account is None:
            # Perhaps another API server has just made it and our cache is about to hear.
            await self._reader.consistent()
            account = self._reader.get(ACCOUNTS, namespace, name)
        if account is not None or name != DEFAULT:
            return account
        deadline = self._world.clock.monotonic() + _WAIT
        while account is None and self._world.clock.monotonic() < deadline:
            await self._world.clock.sleep(_POLL)
            account = self._reader.get(ACCOUNTS, namespace, name)
        return account


def _refuse(ctx: AdmissionContext, why: str) -> None:
    if why:
        raise errors.forbidden("pods", ctx.name, why)


def _wrong_with_mirror(pod: dict[str, Any]) -> str:
    """What a mirror pod, which a node makes, must not open to that node."""
    spec = pod.get("spec") or {}
    if spec.get("serviceAccountName"):
        return "a mirror pod may not reference service accounts"
    if any(kind == "secrets" for kind, _, _ in references(pod)):
        return "a mirror pod may not reference secrets"
    for volume in spec.get("volumes") or []:
        sources = (volume.get("projected") or {}).get("sources") or []
        if any("serviceAccountToken" in source for source in sources):
            return "a mirror pod may not use ServiceAccountToken volume projections"
    return ""


def _automount(account: dict[str, Any], spec: dict[str, Any]) -> bool:
    """The pod's word counts, then the account's, and silence means yes."""
    for source in (spec, account):
        said = source.get("automountServiceAccountToken")
        if said is not None:
            return bool(said)
    return True


def mount_token(spec: dict[str, Any], volume_name: str) -> None:
    """Mount a token volume into every container that has nothing at the path; no volume if nobody needs it."""
    volumes: list[dict[str, Any]] = spec.get("volumes") or []
    existing = [
        volume["name"]
        for volume in volumes
        if str(volume.get("name", "")).startswith(VOLUME_PREFIX) and "projected" in volume
    ]
    name = existing[0] if existing else volume_name
    needed = False
    for field in ("initContainers", "containers"):
        for container in spec.get(field) or []:
            mounts = container.get("volumeMounts") or []
            if any(mount.get("mountPath") == MOUNT_PATH for mount in mounts):
                continue
            container["volumeMounts"] = [*mounts, {"name": name, "readOnly": True, "mountPath": MOUNT_PATH}]
            needed = True
    if needed and not existing:
        spec["volumes"] = [*volumes, token_volume(name)]


def token_volume(name: str) -> dict[str, Any]:
    """The projected volume that in-cluster clients expect."""
    return {
        "name": name,
        "projected": {
            "sources": [
                {"serviceAccountToken": {"expirationSeconds": EXPIRATION_SECONDS, "path": "token"}},
                {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
                {
                    "downwardAPI": {
                        "items": [
                            {
                                "path": "namespace",
                                "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"},
                            }
                        ]
                    }
                },
            ],
            "defaultMode": 0o644,
        },
    }
