"""The node agent as a value: ports joined to the machine, and everything that runs."""

from __future__ import annotations

import asyncio
import logging
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

from bamikube.client.client import Client
from bamikube.client.events import EventRecorder
from bamikube.client.informer import Informer
from bamikube.kit import memory
from bamikube.kit.httpserver import Server, serve
from bamikube.kit.pace import Pace
from bamikube.kit.tasks import Tasks
from bamikube.kit.world import World
from bamikube.nodeagent import settings
from bamikube.nodeagent.agent import PodAgent
from bamikube.nodeagent.api import ClusterApi
from bamikube.nodeagent.configz import configuration
from bamikube.nodeagent.container import dns
from bamikube.nodeagent.container.security import NodeSecurity
from bamikube.nodeagent.container.spec import NodeFacts
from bamikube.nodeagent.devices import near
from bamikube.nodeagent.devices.manager import DeviceManager
from bamikube.nodeagent.devices.resources import PodResources
from bamikube.nodeagent.eviction.looks import SampledLooks
from bamikube.nodeagent.eviction.loop import Evictor
from bamikube.nodeagent.host import mounting
from bamikube.nodeagent.host.cgroups import SYSTEMD, Cgroups
from bamikube.nodeagent.host.linux import LinuxHost
from bamikube.nodeagent.images.collector import ImageCollector
from bamikube.nodeagent.images.credentials import node_credentials
from bamikube.nodeagent.images.puller import Puller
from bamikube.nodeagent.node import certificates, facts, ooms, reservations, rotation, status
from bamikube.nodeagent.node.certificates import Known
from bamikube.nodeagent.node.enforcing import Enforcement
from bamikube.nodeagent.node.log_rotation import LogRotator
from bamikube.nodeagent.node.own import OwnNode
from bamikube.nodeagent.node.registrar import Registrar
from bamikube.nodeagent.node.rotation import Kind, Rotation
from bamikube.nodeagent.numa.binder import Binder
from bamikube.nodeagent.options import NodeAgentOptions
from bamikube.nodeagent.pod import facts as pod_facts
from bamikube.nodeagent.pod.context import Shared
from bamikube.nodeagent.pod.gate import Gate
from bamikube.nodeagent.pod.status import HostFacts
from bamikube.nodeagent.pod.sysctls import Allowed
from bamikube.nodeagent.probing.checks import NodeChecks
from bamikube.nodeagent.referenced import Referenced
from bamikube.nodeagent.runtime.cri import CriRuntime
from bamikube.nodeagent.runtime.port import Container
from bamikube.nodeagent.server import tls
from bamikube.nodeagent.server.app import NodeApi, Shown
from bamikube.nodeagent.server.auth import Delegated
from bamikube.nodeagent.shutdown import plan as shutdown
from bamikube.nodeagent.shutdown.keeper import Inhibitor, ShutdownKeeper
from bamikube.nodeagent.sources.mirrors import Mirrors
from bamikube.nodeagent.startup import driver, itself, looks
from bamikube.nodeagent.stats.groups import Groups
from bamikube.nodeagent.stats.provider import Stats
from bamikube.nodeagent.stats.sampler import Sampler
from bamikube.nodeagent.stats.subjects import Subject, subjects

log = logging.getLogger(__name__)

AT_A_TIME = 6  # requests to the API server, beside watches


class NodeAgent:
    """``run()`` until cancelled; containers stay when it ends. Raises ValueError or OSError for unusable options."""

    name = "nodeagent"

    def __init__(self, options: NodeAgentOptions, world: World) -> None:
        self.ready = asyncio.Event()
        self._options, self._world = options, world
        node = settings.node_name(options.hostname_override, socket.gethostname())
        ips = facts.addresses(settings.node_ips(options.node_ip))
        root = Path(options.root_dir)
        root.mkdir(parents=True, exist_ok=True)
        self._serving = tls.Serving(options, node, ips, world) if options.enable_server else None
        looks.demand(
            root,
            fail_swap_on=options.fail_swap_on,
            fail_cgroup_v1=options.fail_cgroupv1,
            protect_kernel=options.protect_kernel_defaults,
        )
        machine = facts.inspect(root)
        if not options.local_storage_capacity_isolation:
            machine = replace(machine, disk=0)
        max_pods = settings.most_pods(options, machine)
        self._machine = machine
        evicting = settings.eviction_policy(options)
        status.check_labels(options.node_labels)
        looking, heartbeat = settings.status_frequencies(options)
        deep = mounting.sets_recursively()
        self._config = status.NodeConfig(
            name=node,
            hostname=node,
            ips=ips,
            labels=options.node_labels,
            taints=tuple(status.parse_taint(text) for text in options.register_with_taints),
            port=options.port,
            max_pods=max_pods,
            reserved=settings.reserved(options, evicting.thresholds, machine),
            provider_id=options.provider_id,
            lease_seconds=options.node_lease_duration_seconds,
            images_max=options.node_status_max_images,
            register=options.register_node,
            look_seconds=looking,
            heartbeat_seconds=heartbeat,
            recursive_read_only=deep,
            managed_attach=options.enable_controller_attach_detach,
        )
        self._client = Client.from_kubeconfig(
            options.kubeconfig, world, user_agent="kubelet", at_a_time=AT_A_TIME
        )
        self._known = Known(options, self._client)
        self._runtime = CriRuntime(
            options.container_runtime_endpoint,
            images=options.image_service_endpoint,
            timeout=settings.duration(options, "runtime_request_timeout", positive=True),
        )
        kernel = settings.kernel(options, machine)
        self._cgroups = groups = Cgroups(
            options.cgroup_root, options.cgroup_driver, pod_pids=options.pod_max_pids, kernel=kernel
        )
        self._host = LinuxHost(root, Path(options.log_dir), groups, settings.user_ranges(options, max_pods))
        self._recorder = EventRecorder(
            self._client, world, "kubelet", node, (options.event_qps, options.event_burst)
        )
        self._services = Informer(self._client, "services", world)
        self._pods = Informer(self._client, "pods", world, fields=f"spec.nodeName={node}")
        referenced = Referenced(self._client, world)
        self._registrar = Registrar(
            self._client,
            world,
            self._runtime,
            self._config,
            machine,
            self._pressures,
            self._node_event,
            self._faults,
            lambda: self._devices.amounts(),
            lambda: bool(self._own.current().get("spec", {}).get("unschedulable")),
        )
        self._devices = DeviceManager(
            world,
            root,
            self._registrar.changed,
            lambda: {pod_facts.uid(p) for p in active_pods(self.agent)} if self.agent.whole else None,
        )
        self._checks = NodeChecks(self._runtime)
        allocatable = status.shown(reservations.allocatable(machine, max_pods, self._config.reserved))
        shared = Shared(
            world=world,
            runtime=self._runtime,
            host=self._host,
            api=ClusterApi(self._client, self._recorder, self._services, referenced),
            node=NodeFacts(
                name=node,
                cluster_dns=tuple(options.cluster_dns),
                domain=options.cluster_domain,
                resolver=_resolver(options.resolv_conf),
                kernel=kernel,
                security=NodeSecurity(str(root / "seccomp"), options.seccomp_default, facts.throttles()),
            ),
            addresses=HostFacts(ips, deep=deep, restart_max=settings.restart_max(options)),
            checks=self._checks,
            refresh=settings.duration(options, "sync_frequency", positive=True),
            began=world.clock.now(),
            allocatable=lambda: allocatable,
            puller=_puller(options, root, world),
            devices=self._devices,
        )
        managers = settings.resource_managers(options, self._config.reserved, root)
        managers.all_known(lambda: self.agent.whole)
        managers.devices = lambda pod, spec, nodes: near.hints(self._devices.book, pod, spec, nodes)
        managers.now = lambda: 1000 * world.clock.monotonic()
        self._devices.near, groups.alone = managers.near, managers.alone
        shared.place, shared.fixed = managers.place, managers.fixed()
        self._pod_resources = PodResources(
            root, lambda: self._devices.book, lambda: active_pods(self.agent), managers
        )
        at_first = status.registration(self._config, machine)
        at_first["status"] = {"allocatable": allocatable}
        self._own = OwnNode(self._client, world, node, at_first)
        gate = Gate(
            self._own.current,
            self._own.fresh,
            Allowed(options.allowed_unsafe_sysctls),
            self._pressures,
            lambda: self._shutdown.under_way,
            facts.apparmor(),
            self._devices,
            managers.admit,
        )
        period = settings.reconcile_period(options)
        self._binder = Binder(
            world, self._runtime, managers, lambda: list(self.agent.workers.values()), period
        )
        self.agent = PodAgent(shared, self._pods, referenced, gate)
        self.checks = {"syncloop": self.agent.turns}  # of its health
        self._sources = settings.sources(options, world, node, self.agent.keep)
        self._mirrors = Mirrors(
            self._client,
            world,
            self._pods,
            self._own.current,
            self.agent.static_pods,
            lambda: self.agent.manifests_read,
        )
        self.agent.mirrored = self._mirrors.changed
        sampler = self._sampler(root)
        stats = Stats(world, sampler, node, machine, options.container_runtime_endpoint)
        self._images = ImageCollector(
            world, self._runtime, settings.image_policy(options), lambda: active_pods(self.agent), self._tell
        )
        self._evictor = Evictor(
            world,
            evicting,
            SampledLooks(sampler),
            lambda: list(self.agent.workers.values()),
            self._tell,
            shared.api.event,
            self._images.remove_unused,
            self._registrar.changed,
        )
        self._shutdown = ShutdownKeeper(
            world,
            settings.shutdown_periods(options),
            _logind,
            lambda: list(self.agent.workers.values()),
            self._node_event,
            self._registrar.changed,
            root,
        )
        self._rotator = LogRotator(
            world, self._runtime, settings.log_limits(options), lambda: running_containers(self.agent)
        )
        auth = Delegated(self._client, world, node, settings.who_may(options))
        self._enforcement = Enforcement(self._host.bound, self._node_event, world.clock, options.cgroup_root)
        self._configuration = configuration(options)
        shown = Shown(
            self._configuration,
            Path(options.log_dir),
            lambda: (
                self._known.good_until,
                self._serving.good_until if self._serving else certificates.UNUSED,
            ),
            root / "checkpoints",
            options.enable_debugging_handlers,
            options.enable_system_log_handler,
            options.enable_profiling_handler,
            options.enable_debug_flags_handler,
        )
        self._open = NodeApi(self.agent, self._runtime, world, None, stats, replace(shown, debugging=False))
        self._api = NodeApi(self.agent, self._runtime, world, auth, stats, shown)

    def _pressures(self) -> tuple[str, ...]:
        return self._evictor.conditions

    def _faults(self) -> tuple[str, ...]:
        """What keeps the node from being ready, beside its runtime."""
        down = (shutdown.STATUS,) if self._shutdown.under_way else ()
        return (*self.agent.ailing(), *down)

    async def _choose_driver(self) -> bool:
        """Learn who makes cgroups; whether that is certain."""
        configured, groups = self._options.cgroup_driver, self._cgroups
        groups.driver, certain = await driver.choose(self._runtime, configured, self._world.clock)
        self._configuration["cgroupDriver"] = groups.driver
        return certain

    async def _verify_driver(self) -> None:
        await driver.verify(self._runtime, self._cgroups.driver, self._world.clock)

    def _tell(self, reason: str, message: str) -> None:
        """A warning about the node itself."""
        self._node_event("Warning", reason, message)

    def _node_event(self, type: str, reason: str, message: str) -> None:
        name = self._config.name
        node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "uid": name}}
        self._recorder.event(node, type, reason, message)

    def _sampler(self, root: Path) -> Sampler:
        options, host, groups = self._options, self._host, self._cgroups

        def chosen() -> list[Subject]:
            return subjects(list(self.agent.workers.values()), host.cgroup_parent, groups.driver == SYSTEMD)

        def logs(subject: Subject) -> str:
            return host.log_directory(subject.pod)

        made = Sampler(
            self._world, self._runtime, chosen, root, logs, host.volume_paths, Groups(), groups.classes
        )
        made.files_fresh = settings.duration(options, "volume_stats_agg_period")
        return made

    def _look_after(self, tasks: Tasks) -> None:
        """What keeps a node going, whether the API server is heard or not: static pods need it, too."""
        tasks.spawn(self._images.run(), "images")
        tasks.spawn(self._evictor.run(), "eviction")
        if self._options.local_storage_capacity_isolation:
            tasks.spawn(self._evictor.watch_limits(), "storage limits")
        tasks.spawn(self._shutdown.run(), "shutdown")
        tasks.spawn(self._binder.run(), "processors")
        tasks.spawn(ooms.watch(self._node_event), "kills")
        if settings.log_limits(self._options).size >= 0:
            tasks.spawn(self._rotator.run(), "log rotation")

    def _rotations(self) -> list[Rotation]:
        """Who asks the cluster for the node's certificates."""
        options, config, found = self._options, self._config, []
        folder, names = settings.certificates(options), (config.hostname, *config.ips)
        holders: list[tuple[bool, Kind, Known | tls.Serving | None]] = [
            (options.rotate_certificates, rotation.CLIENT, self._known),
            (options.rotate_server_certificates, rotation.SERVER, self._serving),
        ]
        for wished, kind, holder in holders:
            if wished and holder is not None:
                made = Rotation(
                    self._client, self._world, kind, folder, config.name, names, holder.current, holder.take
                )
                found.append(made)
        return found

    async def _serve(self, tasks: Tasks) -> list[Server]:
        """The node's API, and what everybody may read of it."""
        host, found = self._options.address, []
        if self._serving is not None:
            port, ssl = self._options.port, self._serving.context
            found.append(await serve(self._api.handle, host=host, port=port, ssl=ssl, tasks=tasks))
            tasks.spawn(self._serving.run(), "certificate")
            log.info("node %s: API on %s:%d", self._config.name, host, port)
        if port := self._options.read_only_port:
            found.append(await serve(self._open.handle, host=host, port=port, tasks=tasks))
            log.info("node %s: everybody may read on %s:%d", self._config.name, host, port)
        return found

    async def run(self) -> None:
        """Everything the node agent does, until cancelled."""
        tasks = Tasks("nodeagent")
        itself.settle(self._options.oom_score_adj, self._options.max_open_files)
        self._node_event("Normal", "Starting", "Starting kubelet.")
        certain = await self._choose_driver()
        await self._host.start()
        tasks.spawn(self._enforcement.pods(self._machine, self._config.reserved), "bounds")
        await self._enforcement.daemons(self._config.reserved)
        await self._devices.start()
        await self._pod_resources.start()
        servers = await self._serve(tasks)
        try:
            tasks.spawn(self._recorder.run(), "events")
            tasks.spawn(self._registrar.run(), "node")
            tasks.spawn(self._registrar.renew(), "lease")
            for source in self._sources:
                self.agent.manifests_read = False
                tasks.spawn(source.run(), "manifests")
            working = tasks.spawn(self.agent.run(), "agent")
            self._look_after(tasks)
            endpoint = self._options.container_runtime_endpoint
            tasks.spawn(looks.look_around(self._runtime, endpoint), "first look")
            await self._registrar.registered.wait()  # what asks before has learnt to wait long by then
            tasks.spawn(self._services.run(), "services")
            tasks.spawn(memory.give_back(self._world.clock), "memory")
            for one in self._rotations():
                tasks.spawn(one.run(), "certificates")
            tasks.spawn(looks.compare_clocks(self._client, self._world), "clocks")
            tasks.spawn(self._own.run(), "own node")
            await self._own.synced.wait()
            await self._services.synced.wait()
            tasks.spawn(self._pods.run(), "pods")
            await self._pods.synced.wait()
            tasks.spawn(self._mirrors.run(), "mirrors")
            self.ready.set()
            await (working if certain else asyncio.gather(working, self._verify_driver()))
        finally:
            self.ready.clear()
            for server in servers:
                await server.close()
            await tasks.close()
            await self._devices.close()
            await self._pod_resources.close()
            await self._checks.close()
            await self._runtime.close()
            await self._client.close()


def _puller(options: NodeAgentOptions, root: Path, world: World) -> Puller:
    if options.serialize_image_pulls and options.max_parallel_image_pulls > 1:
        raise ValueError(
            f"--max-parallel-image-pulls {options.max_parallel_image_pulls} cannot be with --serialize-image-pulls"
        )
    own = node_credentials(
        root, options.image_credential_provider_config, options.image_credential_provider_bin_dir, world.clock
    )
    return Puller(
        serialize=options.serialize_image_pulls,
        most=options.max_parallel_image_pulls,
        node=own,
        pace=Pace(world.clock, options.registry_qps, options.registry_burst),
    )


async def _logind() -> Inhibitor:
    from bamikube.nodeagent.shutdown.logind import Logind  # a megabyte that few nodes need

    return await Logind.connect()


def active_pods(agent: PodAgent) -> list[dict[str, Any]]:
    """The pods that may still start something."""
    workers = list(agent.workers.values())
    return [w.pod for w in workers if not pod_facts.terminal({"status": w.status})]


def running_containers(agent: PodAgent) -> list[Container]:
    """What runs, as the workers saw it last."""
    return [c for worker in list(agent.workers.values()) for c in worker.state.running()]


def _resolver(path: str) -> dns.Resolver:
    try:
        return dns.parse(Path(path).read_text())
    except OSError:
        return dns.Resolver()
