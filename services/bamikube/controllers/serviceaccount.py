"""Every active namespace has a ``default`` ServiceAccount and the cluster's CA in ``kube-root-ca.crt``."""

from __future__ import annotations

from typing import Any

from bamikube.api.errors import ApiError
from bamikube.client.informer import split_key
from bamikube.controllers.shared import Controller, Shared, enqueue, namespace_is_going

Object = dict[str, Any]

CA_NAME = "kube-root-ca.crt"
CA_NOTE = (
    "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the "
    "internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes "
    "clusters."
)


def is_active(namespace: Object | None) -> bool:
    return (
        namespace is not None
        and "deletionTimestamp" not in namespace["metadata"]
        and (namespace.get("status") or {}).get("phase", "Active") == "Active"
    )


class ServiceAccountController(Controller):
    """Creates ``default`` where it is missing."""

    name = "serviceaccount-controller"
    workers = 2

    def __init__(self, shared: Shared) -> None:
        super().__init__(shared)
        self.namespaces = shared.informers.of("namespaces")
        self.accounts = shared.informers.of("serviceaccounts")
        self.namespaces.on_change(enqueue(self))
        self.accounts.on_change(
            lambda key, old, new: self.queue.add(split_key(key)[0]) if new is None else None
        )

    async def sync(self, key: str) -> float | None:
        await self.accounts.synced.wait()
        if not is_active(self.namespaces.get(key)) or self.accounts.get(f"{key}/default") is not None:
            return None
        body = {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": "default", "namespace": key},
        }
        await _create(self, "serviceaccounts", body)
        return None


class RootCaController(Controller):
    """Publishes the CA, and puts it back when somebody changes or deletes it."""

    name = "root-ca-certificate-publisher-controller"
    workers = 2

    def __init__(self, shared: Shared, ca_pem: str) -> None:
        super().__init__(shared)
        self.ca_pem = ca_pem
        self.namespaces = shared.informers.of("namespaces")
        self.maps = shared.informers.of("configmaps", fields=f"metadata.name={CA_NAME}")
        self.namespaces.on_change(enqueue(self))
        self.maps.on_change(self._map_changed)

    def _map_changed(self, key: str, old: Object | None, new: Object | None) -> None:
        namespace, name = split_key(key)
        if name == CA_NAME:
            self.queue.add(namespace)

    async def sync(self, key: str) -> float | None:
        await self.maps.synced.wait()
        if not self.ca_pem or not is_active(self.namespaces.get(key)):
            return None
        held = self.maps.get(f"{key}/{CA_NAME}")
        data = {"ca.crt": self.ca_pem}
        if held is None:
            meta = {"name": CA_NAME, "namespace": key, "annotations": {"kubernetes.io/description": CA_NOTE}}
            await _create(
                self, "configmaps", {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data}
            )
        elif held.get("data") != data:
            await self.client.update("configmaps", {**held, "data": data})
        return None


async def _create(controller: Controller, resource: str, body: Object) -> None:
    """Create, content when it exists already or when the namespace is on its way out."""
    try:
        await controller.client.create(resource, body)
    except ApiError as error:
        if error.reason != "AlreadyExists" and error.code != 404 and not namespace_is_going(error):
            raise
