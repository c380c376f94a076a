"""What a pod's worker asks of the cluster, as a port: objects, tokens, status, events."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Protocol

from bamikube.api.errors import ApiError
from bamikube.client.client import Client
from bamikube.client.events import EventRecorder
from bamikube.client.informer import Informer
from bamikube.kit.clock import parse_rfc3339
from bamikube.nodeagent.referenced import Referenced

JSON = dict[str, Any]
log = logging.getLogger(__name__)


class PodApi(Protocol):
    """The cluster, as far as one pod is concerned."""

    async def config_map(self, namespace: str, name: str) -> JSON | None: ...

    async def secret(self, namespace: str, name: str) -> JSON | None: ...

    async def trust_bundles(self) -> list[JSON] | None:
        """All ClusterTrustBundles, None where they are not served."""

    async def find(self, resource: str, namespace: str, name: str) -> JSON | None:
        """Any other object, None when there is none."""

    async def token(self, pod: JSON, audience: str, seconds: int) -> tuple[str, float]:
        """A service account token bound to the pod, and when it expires (seconds since the epoch)."""

    def services(self, namespace: str) -> list[JSON]:
        """The services whose addresses a pod of that namespace gets as variables."""

    async def write_status(self, pod: JSON, patch: JSON) -> JSON:
        """Patch the status of exactly this pod (its uid is a precondition); the pod as it is then."""

    async def delete(self, pod: JSON) -> None:
        """Remove the API object of exactly this pod, at once."""

    def event(
        self,
        pod: JSON,
        type: str,
        reason: str,
        message: str,
        container: str = "",
        annotations: Mapping[str, str] | None = None,
    ) -> None:
        """Tell of something about the pod, or about one of its containers. ``annotations`` are the event's own."""


class ClusterApi:
    """The port over an API client."""

    def __init__(
        self, client: Client, recorder: EventRecorder, services: Informer, referenced: Referenced
    ) -> None:
        self._client = client
        self._referenced = referenced
        self._recorder = recorder
        self._services = services

    async def config_map(self, namespace: str, name: str) -> JSON | None:
        return await self._referenced.get("ConfigMap", namespace, name)

    async def secret(self, namespace: str, name: str) -> JSON | None:
        return await self._referenced.get("Secret", namespace, name)

    async def trust_bundles(self) -> list[JSON] | None:
        return await self._referenced.trust.all()

    async def find(self, resource: str, namespace: str, name: str) -> JSON | None:
        try:
            return await self._client.get(resource, name, namespace)
        except ApiError as error:
            if error.code == 404:
                return None
            raise

    async def token(self, pod: JSON, audience: str, seconds: int) -> tuple[str, float]:
        meta = pod["metadata"]
        account = pod["spec"].get("serviceAccountName") or "default"
        spec: JSON = {
            "audiences": [audience] if audience else [],
            "expirationSeconds": seconds,
            "boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": meta["name"], "uid": meta["uid"]},
        }
        request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
        answer = await self._client.create_subresource(
            "serviceaccounts", account, "token", request, meta["namespace"]
        )
        status = answer["status"]
        return str(status["token"]), parse_rfc3339(status["expirationTimestamp"])

    def services(self, namespace: str) -> list[JSON]:
        return [
            item
            for item in self._services.items()
            if item["metadata"]["namespace"] == namespace
            or (item["metadata"]["namespace"] == "default" and item["metadata"]["name"] == "kubernetes")
        ]

    async def write_status(self, pod: JSON, patch: JSON) -> JSON:
        meta = pod["metadata"]
        body = {"metadata": {"uid": meta["uid"]}, "status": patch}
        return await self._client.patch(
            "pods", meta["name"], body, meta["namespace"], kind="strategic", subresource="status"
        )

    async def delete(self, pod: JSON) -> None:
        meta = pod["metadata"]
        try:
            await self._client.delete(
                "pods", meta["name"], meta["namespace"], uid=meta["uid"], grace_seconds=0
            )
        except ApiError as error:
            if error.code not in (404, 409):  # gone already, or another pod of that name
                raise

    def event(
        self,
        pod: JSON,
        type: str,
        reason: str,
        message: str,
        container: str = "",
        annotations: Mapping[str, str] | None = None,
    ) -> None:
        subject = {"apiVersion": "v1", "kind": "Pod"} | pod
        path = ""
        if container:
            kinds = ("initContainers", "ephemeralContainers")
            named = (k for k in kinds if any(c["name"] == container for c in pod["spec"].get(k) or ()))
            path = f"spec.{next(named, 'containers')}{{{container}}}"
        self._recorder.event(subject, type, reason, message, field_path=path, annotations=annotations)
