"""The controllers as one service: leader election around shared informers and all controllers."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Mapping
from pathlib import Path

from bamikube.client.client import Client
from bamikube.client.events import EventRecorder
from bamikube.client.kinds import Kinds
from bamikube.client.leader import LeaderElection
from bamikube.controllers.accounttokens import AccountTokenController
from bamikube.controllers.admissionpolicystatus import AdmissionPolicyStatusController
from bamikube.controllers.bootstraptokens import BootstrapTokenCleaner
from bamikube.controllers.certificates import CertificateApprover, CertificateCleaner, CertificateSigner
from bamikube.controllers.deployment_controller import DeploymentController
from bamikube.controllers.endpoints import EndpointsController
from bamikube.controllers.endpointslice import EndpointSliceController
from bamikube.controllers.endpointslicemirroring import EndpointSliceMirroringController
from bamikube.controllers.garbage import GarbageCollector
from bamikube.controllers.namespace import NamespaceController
from bamikube.controllers.nodeipam import NodeIpamController
from bamikube.controllers.nodelifecycle import NodeLifecycleController
from bamikube.controllers.options import ControllersOptions
from bamikube.controllers.podgc import PodGcController
from bamikube.controllers.replicaset import ReplicaSetController, ReplicationControllerController
from bamikube.controllers.resourcequota import ResourceQuotaController
from bamikube.controllers.serviceaccount import RootCaController, ServiceAccountController
from bamikube.controllers.servicecidr import ServiceCidrController
from bamikube.controllers.shared import Controller, Shared, SharedInformers
from bamikube.controllers.storageprotection import (
    AttributesClassProtectionController,
    ClaimProtectionController,
    VolumeProtectionController,
)
from bamikube.controllers.tokencleaner import TokenCleaner
from bamikube.kit.tasks import Tasks
from bamikube.kit.world import World
from bamikube.pki.authority import AuthorityFiles
from bamikube.pki.tokens import LEGACY_ISSUER, TokenSigner

log = logging.getLogger(__name__)


class Controllers:
    """Runs every controller while it leads. ``ready`` is set as soon as it takes part in the election."""

    name = "controllers"

    def __init__(
        self,
        client: Client,
        options: ControllersOptions,
        world: World,
        ca_pem: str = "",
        *,
        authorities: Mapping[str, AuthorityFiles] | None = None,
        token_signer: TokenSigner | None = None,
    ) -> None:
        self.ready = asyncio.Event()
        self._client = client
        self._options = options
        self._world = world
        self._ca_pem = ca_pem
        self._authorities = authorities or {}
        self._token_signer = token_signer

    @classmethod
    def build(cls, options: ControllersOptions, world: World) -> Controllers:
        """From flags. Raises OSError or ValueError when a named file cannot be used."""
        ca_pem = Path(options.root_ca_file).read_text(encoding="utf-8") if options.root_ca_file else ""
        client = Client.from_kubeconfig(options.kubeconfig, world, "kube-controller-manager")
        signer = None
        authorities = {
            name: AuthorityFiles(Path(certificate), Path(key), world)
            for name, (certificate, key) in options.signing_files().items()
        }
        if options.service_account_private_key_file:
            pem = Path(options.service_account_private_key_file).read_bytes()
            signer = TokenSigner(pem, LEGACY_ISSUER, world)
        return cls(client, options, world, ca_pem, authorities=authorities, token_signer=signer)

    def controllers(self, shared: Shared) -> list[Controller]:
        """All controllers, each made for ``shared``."""
        options = self._options
        lifecycle = NodeLifecycleController(
            shared, options.node_monitor_grace_period, options.node_startup_grace_period
        )
        made: list[Controller] = [
            NamespaceController(shared),
            ServiceAccountController(shared),
            RootCaController(shared, self._ca_pem),
            DeploymentController(shared),
            ReplicaSetController(shared),
            ReplicationControllerController(shared),
            EndpointsController(shared),
            EndpointSliceController(shared),
            EndpointSliceMirroringController(shared),
            PodGcController(shared, options.terminated_pod_gc_threshold),
            ResourceQuotaController(shared),
            ClaimProtectionController(shared),
            VolumeProtectionController(shared),
            AttributesClassProtectionController(shared),
            AdmissionPolicyStatusController(shared),
            ServiceCidrController(shared),
            lifecycle,
            lifecycle.evictions,
            CertificateApprover(shared),
            CertificateCleaner(shared),
            BootstrapTokenCleaner(shared),
            TokenCleaner(shared, options.legacy_service_account_token_clean_up_period),
        ]
        if self._authorities:
            made.append(CertificateSigner(shared, self._authorities, options.cluster_signing_duration))
        if self._token_signer is not None:
            made.append(AccountTokenController(shared, self._token_signer, self._ca_pem))
        if options.allocate_node_cidrs:
            made.append(NodeIpamController(shared, options.cluster_cidr, options.node_cidr_mask_size))
        # Last, since it reads the informers the others have asked for.
        made.append(GarbageCollector(shared))
        return made

    async def lead(self) -> None:
        """Run everything until cancelled (the lease is lost, or the process stops)."""
        recorder = EventRecorder(self._client, self._world, "controllermanager")
        informers = SharedInformers(self._client, self._world)
        kinds = Kinds(
            self._client,
            self._world,
            informers.of("customresourcedefinitions.apiextensions.k8s.io"),
            informers.of("apiservices.apiregistration.k8s.io"),
        )
        shared = Shared(self._client, self._world, informers, recorder, kinds)
        controllers = self.controllers(shared)
        tasks = Tasks(self.name)
        try:
            running = [tasks.spawn(recorder.run(), "events"), tasks.spawn(kinds.run(), "kinds")]
            running += [tasks.spawn(informer.run(), informer.resource) for informer in shared.informers.all()]
            running += [tasks.spawn(controller.run(tasks), controller.name) for controller in controllers]
            # None of these ends by itself: the first that does is a fault, and the process starts again.
            done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
            raise RuntimeError(f"{next(iter(done)).get_name()} ended by itself")
        finally:
            await tasks.close()

    async def run(self) -> None:
        self.ready.set()
        try:
            if not self._options.leader_elect:
                await self.lead()
                return
            identity = f"{socket.gethostname()}_{self._world.chance.uuid()}"
            await LeaderElection(self._client, self._world, "kube-controller-manager", identity).run(
                self.lead
            )
        finally:
            await self._client.close()
