"""ClusterTrustBundles: the trust anchors that projected volumes show.

They are few and belong to nobody, so all of them are watched, from the first volume that shows some; without one nobody asks for
them. An API server that does not serve them (Kubernetes' default) says so in the pod's FailedMount.

:func:`anchors` is pure. Source: KEP-3257, "Projected Volumes".
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from bamikube.api import pem, table
from bamikube.api.errors import ApiError
from bamikube.api.selectors import from_object
from bamikube.client.client import Client
from bamikube.client.informer import Informer
from bamikube.kit.tasks import Tasks
from bamikube.kit.world import World
from bamikube.nodeagent.container.env import ConfigError
from bamikube.nodeagent.pod.facts import JSON

RESOURCE = f"{table.CLUSTER_TRUST_BUNDLES.plural}.{table.CLUSTER_TRUST_BUNDLES.group}"
PATIENCE = 10.0  # seconds for the first look at all of them
NOT_SERVED = (
    "ClusterTrustBundle projection is not supported: the API server does not serve ClusterTrustBundles (as is the default in v1.34); "
    "start it with --feature-gates=ClusterTrustBundle=true,ClusterTrustBundleProjection=true and "
    "--runtime-config=certificates.k8s.io/v1beta1/clustertrustbundles=true"
)


def shows(volume: JSON) -> bool:
    """Whether a volume shows trust anchors."""
    sources = (volume.get("projected") or {}).get("sources") or ()
    return any("clusterTrustBundle" in source for source in sources)


def anchors(source: Mapping[str, Any], bundles: Iterable[JSON] | None) -> bytes:
    """The text for ``clusterTrustBundle`` of a projected volume: every anchor once, in an order that says nothing.

    Raises ConfigError for what is not there, unless it is optional.
    """
    if bundles is None:
        chosen, missing = [], NOT_SERVED
    elif (name := source.get("name")) is not None:
        chosen = [bundle for bundle in bundles if bundle["metadata"]["name"] == name]
        missing = (
            f'while getting ClusterTrustBundle: clustertrustbundle.certificates.k8s.io "{name}" not found'
        )
    else:
        labels = from_object(source.get("labelSelector"))  # none chooses nothing, an empty one everything
        chosen = [
            bundle
            for bundle in bundles
            if (bundle.get("spec") or {}).get("signerName") == source.get("signerName")
            and labels.matches(bundle["metadata"].get("labels") or {})
        ]
        missing = "combination of signerName and labelSelector matched zero ClusterTrustBundles"
    if not chosen and not source.get("optional"):
        raise ConfigError(missing)
    texts = ((bundle.get("spec") or {}).get("trustBundle") or "" for bundle in chosen)
    found = {block.data for text in texts for block in pem.blocks(text.encode())}
    ordered = sorted(found, key=lambda data: hashlib.sha256(data).digest())
    return "".join(pem.text("CERTIFICATE", data) for data in ordered).encode()


class TrustBundles:
    """All bundles of the cluster; ``tell`` gets the uids of pods that show some when any has changed."""

    def __init__(self, client: Client, world: World, tasks: Tasks, tell: Callable[[set[str]], None]) -> None:
        self._client, self._world, self._tasks, self._tell = client, world, tasks, tell
        self._informer: Informer | None = None
        self._holders: set[str] = set()

    def hold(self, uid: str, pod: JSON) -> None:
        """The pod is here; whether it shows anchors may have changed."""
        if any(shows(volume) for volume in pod["spec"].get("volumes") or ()):
            self._holders.add(uid)
        else:
            self._holders.discard(uid)

    def release(self, uid: str) -> None:
        """The pod is gone."""
        self._holders.discard(uid)

    async def all(self) -> list[JSON] | None:
        """Every bundle as of now, None where they are not served. Raises ConfigError, ApiError."""
        if self._informer is None:
            try:
                await self._client.list(RESOURCE, limit=1)
            except ApiError as error:
                if error.code == 404:
                    return None
                raise
            if self._informer is None:  # another pod may have been faster
                self._informer = Informer(self._client, RESOURCE, self._world, fresh=True)
                self._informer.on_change(self._changed)
                self._tasks.spawn(self._informer.run(), RESOURCE)
        informer = self._informer
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                await informer.synced.wait()
        if not informer.synced.is_set():
            raise ConfigError("ClusterTrustBundle informer has not yet synced")
        return list(informer.items())

    def _changed(self, _name: str, _old: JSON | None, _new: JSON | None) -> None:
        if self._informer is not None and self._informer.synced.is_set() and self._holders:
            self._tell(set(self._holders))
