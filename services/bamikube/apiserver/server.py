"""The API server: from a request to an answer.

::

    request -> who? (authenticator) -> what? (requestinfo) -> may he? (authorizer) -> endpoint -> answer
                                                                       |
               discovery, OpenAPI, health, metrics, version <----------+----> special endpoints (binding, log ...)
                                                                       |
                                                                       +----> the registry's generic verbs

:class:`ApiServer` is a value: ``handle`` answers a request, ``run`` keeps the cache and the loops going, ``ready`` is
set when both would satisfy a client. The sockets are :mod:`bamikube.apiserver.main`'s business, so a simulation runs
the same value without any.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

from bamikube.api import errors, table
from bamikube.api.errors import ApiError
from bamikube.api.resources import Resource
from bamikube.apiserver import (
    accessfigures,
    accesslog,
    deadline,
    failures,
    latency,
    negotiation,
    optional_rules,
    requestfigures,
    requestinfo,
    switches,
)
from bamikube.apiserver.admission import configuration, plugins
from bamikube.apiserver.aggregation.aggregator import Aggregator
from bamikube.apiserver.allocators import Repair, ServiceAllocator
from bamikube.apiserver.attributes import Attributes, attributes_of
from bamikube.apiserver.audit.auditor import auditor_of
from bamikube.apiserver.audit.trail import Trail
from bamikube.apiserver.authn import Method, impersonate
from bamikube.apiserver.authn.token_uses import TokenUses
from bamikube.apiserver.authz import Authorizer, denied
from bamikube.apiserver.bootstrap import Bootstrap
from bamikube.apiserver.cache import Cache
from bamikube.apiserver.call import Services
from bamikube.apiserver.catalog import DEFINITIONS, Catalog
from bamikube.apiserver.converting import Converter
from bamikube.apiserver.debugging import Debugging
from bamikube.apiserver.default_service_cidr import COMPONENT, DefaultServiceCidr
from bamikube.apiserver.definitions import Definitions
from bamikube.apiserver.discovery import Discovery, subresource
from bamikube.apiserver.dispatch import Dispatcher
from bamikube.apiserver.endpoints import Endpoints
from bamikube.apiserver.events import recorder
from bamikube.apiserver.flow import FlowControl
from bamikube.apiserver.flow.control import Pass, width_of
from bamikube.apiserver.flow.status import FlowStatus
from bamikube.apiserver.health import PATHS, Health
from bamikube.apiserver.healthchecks import Progress, add_checks
from bamikube.apiserver.identification import make_authenticator, published_trust
from bamikube.apiserver.identity import User
from bamikube.apiserver.identity_lease import IdentityLease
from bamikube.apiserver.kubernetes_service import KubernetesService
from bamikube.apiserver.meteredstore import MeteredStore
from bamikube.apiserver.openapi import OpenApi
from bamikube.apiserver.options import ApiServerOptions
from bamikube.apiserver.outbound import Caller
from bamikube.apiserver.paths import Paths
from bamikube.apiserver.quick import QuickGets
from bamikube.apiserver.registry import Registry
from bamikube.apiserver.requestinfo import RequestInfo, allowed_methods
from bamikube.apiserver.subresources.tokens import IssuerDiscovery
from bamikube.apiserver.warnings import telling, warned
from bamikube.kit.http import Answer, Request, Response, Stream
from bamikube.kit.inline import Notes, Reply
from bamikube.kit.tasks import Tasks
from bamikube.kit.world import World
from bamikube.store.compaction import Compactor
from bamikube.store.port import Store, StoreError

log = logging.getLogger(__name__)

# Answered while the server starts; everything else waits up to OPENING seconds for the bootstrap objects.
EARLY = (*PATHS, "/version", "/metrics")
OPENING = 10.0
_IMPERSONATE = "impersonate-user"


class ApiServer:
    """``store`` holds all state. ``methods`` are further ways of authentication, asked before the built-in ones.

    ``caller`` is the way to webhooks and other API servers; None calls over real sockets. ``hostname`` names the
    server's lease in kube-system; "" does without.
    """

    name = "apiserver"

    def __init__(
        self,
        store: Store,
        options: ApiServerOptions,
        world: World,
        *,
        methods: tuple[Method, ...] = (),
        caller: Caller | None = None,
        hostname: str = "",
    ) -> None:
        self.options = options
        self._hostname = hostname
        self.world = world
        self.ready = asyncio.Event()
        self._tasks = Tasks("apiserver")
        self.caller = caller or self._http_caller()
        self.auditor = auditor_of(options, world, caller)
        self._store = MeteredStore(store, world)
        optional = switches.optional(options.feature_gates, options.runtime_config)
        rows = [row for row in table.TABLE + optional if not row.virtual and table.storage_row(row) is row]
        self.cache = Cache(self._store, rows, world, self._tasks, leading=DEFINITIONS)
        self.catalog = Catalog(self.cache, optional)
        self.authorizer = Authorizer(
            self.cache, tuple(options.authorization_mode), node_rules=optional_rules.node(optional)
        )
        self.admission = plugins.standard(
            plugins.Parts(
                self.cache,
                world,
                self.authorizer,
                self.caller,
                self.resources,
                self._store,
                configuration.read(options.admission_control_config_file),
                options.default_not_ready_toleration_seconds,
                options.default_unreachable_toleration_seconds,
            ),
            enabled=options.enable_admission_plugins,
            disabled=options.disable_admission_plugins,
        )
        self.allocator = ServiceAllocator(
            self._store, self.cache, world, options.service_ranges, options.service_node_port_range
        )
        self.registry = Registry(
            self._store,
            self.cache,
            world,
            admission=self.admission,
            hooks=[self.allocator],
            ledger=plugins.ledger_of(self.admission),
            converter=Converter(self.cache, self.caller, world),
            event_ttl=int(options.event_ttl),
        )
        self.token_uses = TokenUses(world)
        self.authenticator, self.signer, self._verifier = make_authenticator(
            options, self.cache, world, self.token_uses, methods
        )
        self.services = Services(
            reader=self.cache,
            options=options,
            authenticator=self.authenticator,
            authorizer=self.authorizer,
            admission=self.admission,
            signer=self.signer,
            dialer=self._dialer(),
            caller=self.caller,
            tasks=self._tasks,
        )
        self.aggregator = Aggregator(self.cache, world, self.caller, self.resources)
        self.discovery = Discovery(
            self.resources,
            options.public_address,
            offers=self.aggregator.offers,
        )
        self.openapi = OpenApi(self.resources, offers=self.aggregator.offers)
        self.endpoints = Endpoints(self.registry, world, self.authorizer)
        self.health = Health()
        self.bootstrap = Bootstrap(
            self.cache,
            self.registry,
            world,
            authentication=published_trust(options),
            optional=optional,
        )
        self.events = recorder(self.registry, world, COMPONENT)
        self.default_service_cidr = DefaultServiceCidr(
            self.cache, self.registry, world, self.events, options.service_ranges
        )
        self.repair = Repair(self._store, self.cache, world, self.events, self.allocator)
        self.definitions = Definitions(self.cache, self.registry, self.catalog, world)
        self.issuer = self._issuer()
        self._under_way = {"readOnly": 0, "mutating": 0}  # requests whose answer has not begun
        self._stopping = False
        self._opened = asyncio.Event()  # for good, once the first client would find its roles and namespaces
        self.flow = FlowControl(
            self.cache,
            options.max_requests_inflight + options.max_mutating_requests_inflight,
            options.request_timeout / 4,
        )
        paths = Paths(
            self.health,
            self.discovery,
            self.openapi,
            self.issuer,
            self.catalog,
            self.aggregator,
            self.cache,
            (self.flow.tell, self.allocator.tell),
            self._under_way,
            Debugging(self.flow) if options.profiling else None,
        )
        self._dispatcher = Dispatcher(
            self.cache,
            self.catalog,
            self.registry,
            self.endpoints,
            self.aggregator,
            self.services,
            paths,
            world,
        )
        self._quick = QuickGets(
            self.authenticator, self.authorizer, self.cache, self.catalog.find, self.flow, world, self._finish
        )
        progress = Progress(
            self._opened,
            self.default_service_cidr.ready,
            self.repair.ready,
            self.ready,
            lambda: self._stopping,
        )
        add_checks(self.health, self.cache, progress)

    # -- putting together ----------------------------------------------------------------------------------------

    def resources(self) -> tuple[Resource, ...]:
        """All rows that are served."""
        return self.catalog.rows

    def _http_caller(self) -> Caller:
        from bamikube.apiserver.outbound.caller import HttpCaller

        return HttpCaller(self.options.proxy_client_cert_file, self.options.proxy_client_key_file)

    def _dialer(self) -> Any:
        """The way to the node agents; None when no certificate was given to show them."""
        options = self.options
        if not options.kubelet_client_certificate:
            return None
        from bamikube.apiserver.subresources.dialing import NodeDialer

        try:
            return NodeDialer.from_files(
                options.kubelet_client_certificate,
                options.kubelet_client_key,
                options.kubelet_certificate_authority,
            )
        except OSError as error:
            raise ValueError(
                f"--kubelet-client-certificate {options.kubelet_client_certificate} with --kubelet-client-key "
                f"{options.kubelet_client_key} and --kubelet-certificate-authority "
                f"{options.kubelet_certificate_authority}: {error}"
            ) from None

    def _issuer(self) -> IssuerDiscovery | None:
        """How others verify our tokens; None when this server knows no key."""
        if self._verifier is None:
            return None
        return IssuerDiscovery(self._verifier, self.options.jwks_uri)

    # -- running -------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Feed the cache, write what every cluster starts with, and go on until cancelled."""
        options = self.options
        spawn = self._tasks.spawn
        try:
            feeding = spawn(self.cache.run(), "cache")
            if self.auditor is not None:
                self.auditor.start(self._tasks)
            await self.cache.synced.wait()
            if options.etcd_compaction_interval > 0:
                compactor = Compactor(
                    self._store,
                    self.world,
                    options.etcd_compaction_window,
                    interval=options.etcd_compaction_interval,
                )
                spawn(compactor.run(), "compaction")
            spawn(self.repair.run(self._tasks), "allocations")
            spawn(self.bootstrap.run(), "bootstrap")
            spawn(self.events.run(), "events")
            spawn(self.default_service_cidr.run(), "default-service-cidr")
            spawn(self.definitions.run(self._tasks), "definitions")
            await self._open()
            spawn(self.aggregator.run(self.registry, self._tasks), "aggregation")
            spawn(FlowStatus(self.cache, self.registry, self.world).run(), "flow-status")
            if options.advertise_address:
                service = KubernetesService(
                    self._store,
                    self.cache,
                    self.registry,
                    self.world,
                    address=options.advertise_address,
                    port=options.secure_port,
                    service_cidr=options.service_ranges[0],
                )
                spawn(service.run(), "kubernetes-service")
            if self._verifier is not None:
                spawn(self.token_uses.run(self.cache, self.registry), "token-uses")
                spawn(self.token_uses.track(self.cache, self.registry), "token-tracking")
            if self._hostname:
                identity = IdentityLease(self.cache, self.registry, self.world, self._hostname)
                spawn(identity.run(), "identity-lease")
                spawn(identity.collect(), "identity-leases-expired")
            self.ready.set()
            log.info("ready at revision %d", self.cache.revision)
            await feeding
        finally:
            self._stopping = True
            self.ready.clear()
            self.cache.end_watchers()
            await self.caller.close()
            await self._tasks.close()
            if self.auditor is not None:
                self.auditor.close()

    async def _open(self) -> None:
        """Let requests in, once what every cluster starts with can be read here - whoever has written it."""
        await self.bootstrap.ready.wait()
        await self.default_service_cidr.ready.wait()
        while True:
            try:
                if await self.cache.consistent():
                    break
                log.warning("the cache is behind the store; requests wait")
            except StoreError as error:
                log.warning("the store cannot be read (%s); requests wait", error)
                await self.world.clock.sleep(0.5)
        self._opened.set()

    async def _opening(self) -> None:
        """Hold a request that came too early: without roles and namespaces it would be refused for the wrong reason.

        Raises 503 when the server does not get there in time.
        """
        try:
            async with asyncio.timeout(OPENING):
                await self._opened.wait()
        except TimeoutError:
            raise starting() from None

    # -- answering -----------------------------------------------------------------------------------------------

    async def handle(self, request: Request) -> Answer:
        """Answer one request. Never raises: every failure is a ``Status``."""
        if self.auditor is None:
            return await self._handle(request, None)
        return await self.auditor.follow(request, self._handle)

    async def _handle(self, request: Request, trail: Trail | None) -> Answer:
        start = self.world.clock.monotonic()
        info = requestinfo.parse(request)
        kind = "readOnly" if request.method in ("GET", "HEAD") else "mutating"
        self._under_way[kind] += 1
        waited = latency.begin()
        try:
            patience = deadline.seconds(request, info, self.options.request_timeout)
            async with asyncio.timeout(patience):  # the answer's head; streams go on after it
                answer = await self._answer(request, info, trail)
        except asyncio.CancelledError:
            requestfigures.aborted(request, info, self.catalog.find)
            raise
        except Exception as error:
            if isinstance(error, TimeoutError):
                requestfigures.terminated(request, info, self.catalog.find, 504)
            refusal = failures.told(request, error)
            if refusal.code == 405:
                refusal.headers.setdefault("Allow", self._allowed(info))
            answer = failures.page(request.path, refusal) or negotiation.answer_object(
                request, refusal.status(), refusal.code
            )
            answer.headers.update(refusal.headers)
        finally:
            self._under_way[kind] -= 1
        if isinstance(answer, Response | Stream):
            self._finish(request, info, answer, start, waited[0])
        return answer

    def quick(self, request: Request, notes: Notes, reply: Reply) -> bool:
        """Take a GET that can be answered without a task; see :mod:`bamikube.apiserver.quick`."""
        return self._opened.is_set() and self.auditor is None and self._quick(request, notes, reply)

    def _finish(
        self,
        request: Request,
        info: RequestInfo,
        answer: Response | Stream,
        start: float,
        waited: float = 0.0,
    ) -> None:
        audit = request.headers.get("audit-id")
        headers = answer.headers
        headers["Audit-Id"] = audit if audit else self.world.chance.uuid()
        if "Cache-Control" not in headers:
            headers["Cache-Control"] = "no-cache, private"
        took = self.world.clock.monotonic() - start
        requestfigures.count(request, info, answer, took, self.catalog.find, waited)
        if self.options.access_log:
            accesslog.write(request, info, answer, took)

    def _allowed(self, info: RequestInfo) -> str:
        """The methods a path answers, for the header ``Allow``."""
        resource = self.catalog.find(info.group, info.version, info.resource) if info.is_resource else None
        if resource is None:
            return "GET, HEAD"
        verbs: Sequence[str] = resource.verbs
        if info.subresource:
            verbs = subresource(resource, info.subresource)[3]
        return ", ".join(allowed_methods(verbs, bool(info.name)))

    async def _answer(self, request: Request, info: RequestInfo, trail: Trail | None) -> Answer:
        if not self._opened.is_set() and not request.path.startswith(EARLY):
            await self._opening()
        user = await self._who(request)
        if not user.warnings:
            return await self._asked(request, info, user, trail)
        with telling(user.warnings):
            return warned(await self._asked(request, info, user, trail), *user.warnings)

    async def _asked(self, request: Request, info: RequestInfo, user: User, trail: Trail | None) -> Answer:
        """What to say to ``user``."""
        if trail is not None:
            trail.starts(attributes_of(request, info, user))
        if _IMPERSONATE in request.headers or any(
            name.startswith("impersonate-") for name in request.headers
        ):
            user = impersonate(request, user, self.authorizer)
            if trail is not None:
                trail.impersonates(user)
        attributes = attributes_of(request, info, user)
        width = self._width(request, attributes)
        if not width:
            return await self._admitted(request, info, user, attributes, trail)
        found = self.flow.enter(attributes, width) or await self._turn(request, info, attributes, width)
        try:
            answer = await self._admitted(request, info, user, attributes, trail)
        except ApiError as error:
            error.headers = {**found.headers, **error.headers}
            raise
        finally:
            self.flow.leave(found, width)
        if isinstance(answer, Response | Stream):
            answer.headers.update(found.headers)
        return answer

    async def _who(self, request: Request) -> User:
        """Who a request is from. Raises ApiError 401."""
        start = self.world.clock.monotonic()
        try:
            user = await self.authenticator.authenticate(request)
            if user is None:
                raise errors.unauthorized()
        except ApiError:
            accessfigures.unknown(self.world.clock.monotonic() - start)
            raise
        accessfigures.known(user.name, self.world.clock.monotonic() - start)
        return user

    async def _turn(self, request: Request, info: RequestInfo, attributes: Attributes, width: int) -> Pass:
        """Wait for seats. Raises ApiError 429 when there will be none."""
        start = self.world.clock.monotonic()
        try:
            return await self.flow.wait(attributes, width)
        except ApiError as refusal:
            requestfigures.terminated(request, info, self.catalog.find, refusal.code)
            raise
        finally:
            latency.excuse(self.world.clock.monotonic() - start)

    def _width(self, request: Request, attributes: Attributes) -> int:
        """The seats a request takes."""
        limit = 0
        if attributes.verb == "list" and request.raw_query:
            text = request.param("limit")
            limit = int(text) if text.isdecimal() and len(text) < 10 else 0

        def count() -> int:
            row = self.catalog.find(attributes.group, attributes.version, attributes.resource)
            if row is None or row.virtual:
                return 0
            try:
                return self.cache.slot(row.storage_key).count(attributes.namespace)
            except KeyError:  # its definition has just gone
                return 0

        return width_of(attributes, limit, count)

    async def _admitted(
        self,
        request: Request,
        info: RequestInfo,
        user: User,
        attributes: Attributes,
        trail: Trail | None,
    ) -> Answer:
        start = self.world.clock.monotonic()
        verdict = self.authorizer.authorize(attributes)
        accessfigures.decided(verdict.allowed, self.world.clock.monotonic() - start)
        if trail is not None:
            trail.judged(verdict.allowed, verdict.reason)
        if not verdict.allowed:
            if not self._opened.is_set():
                raise starting()
            raise denied(attributes, verdict.reason)
        return await self._dispatcher.serve(request, info, user, attributes)


def starting() -> ApiError:
    """The answer to a request that this server is not ready for."""
    error = errors.unavailable("the server is starting: its first objects are not written yet; try again")
    error.headers["Retry-After"] = "1"
    return error
