"""The admission chain: first every plugin that changes objects, then every plugin that only judges.

A plugin is one file with one class. It names the kinds and operations it looks at, changes ``ctx.object`` in
``mutate`` and refuses by raising ``ApiError`` in either step. For every pair of kind and operation the chain
remembers which plugins are concerned, so that a write calls those and no others::

    CREATE pods        -> NamespaceLifecycle, LimitRanger, ServiceAccount, PodSecurity, Priority ...
    UPDATE configmaps  -> NamespaceLifecycle, OwnerReferences ... (whoever names no kinds)

When a webhook or a policy has changed the object, the mutating steps run once more (:mod:`.rounds`), so each of them must
leave alone what it has done already.

Which plugins there are, in which order, and which of them are on: :mod:`bamikube.apiserver.admission.plugins`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from bamikube.api.errors import ApiError
from bamikube.apiserver.admission import figures
from bamikube.apiserver.admission.context import AdmissionContext
from bamikube.apiserver.admission.figures import ADMIT, VALIDATE, Timed
from bamikube.apiserver.audit.trail import annotate
from bamikube.apiserver.warnings import with_warnings

Key = tuple[str, str]
Step = Callable[[AdmissionContext], Awaitable[None]]
Ask = Callable[[AdmissionContext], bool]


class Plugin:
    """What a plugin may do; the defaults do nothing.

    ``name`` is what ``--enable-admission-plugins`` and ``--disable-admission-plugins`` take. ``kinds`` are the
    ``(group, plural)`` pairs it looks at (None: all), ``operations`` the operations. Subresources are the plugin's
    own business.
    """

    name: ClassVar[str] = ""
    kinds: ClassVar[frozenset[Key] | None] = None
    operations: ClassVar[frozenset[str]] = frozenset({"CREATE", "UPDATE", "DELETE", "CONNECT"})

    async def mutate(self, ctx: AdmissionContext) -> None:
        """Change ``ctx.object``, or raise ApiError."""

    def changes(self, ctx: AdmissionContext) -> bool:
        """Whether ``mutate`` may do anything at all about the request. When in doubt, yes."""
        return True

    async def validate(self, ctx: AdmissionContext) -> None:
        """Raise ApiError to refuse."""

    def concerned(self, kind: Key, operation: str) -> bool:
        return operation in self.operations and (self.kinds is None or kind in self.kinds)


@dataclass(frozen=True, slots=True)
class Round:
    """One walk through the plugins, with where to count the time each of them takes, and all of them."""

    steps: tuple[tuple[Step, Timed], ...]
    whole: Timed


@dataclass(frozen=True, slots=True)
class Route:
    """What a pair of kind and operation has to pass. ``asks`` say whether the mutating plugins matter."""

    mutating: Round
    validating: Round
    asks: tuple[Ask, ...]


class Admission:
    """The plugins in order. ``now`` is a monotonic clock in seconds, for what is counted; without one all takes no time."""

    def __init__(self, plugins: Sequence[Plugin], now: Callable[[], float] = lambda: 0.0) -> None:
        self.plugins = tuple(plugins)
        self._now = now
        self._routes: dict[tuple[Key, str], Route] = {}

    async def mutate(self, ctx: AdmissionContext) -> None:
        """Let every mutating plugin work on ``ctx.object``."""
        mutating = self._route(ctx).mutating
        await self._run(mutating, ctx)
        if ctx.rounds is not None and ctx.rounds.again:
            ctx.rounds.number += 1
            await self._run(mutating, ctx)

    def changes(self, ctx: AdmissionContext) -> bool:
        """Whether any mutating plugin has something to do with the request."""
        return any(ask(ctx) for ask in self._route(ctx).asks)

    async def validate(self, ctx: AdmissionContext) -> None:
        """Let every validating plugin judge the final object."""
        await self._run(self._route(ctx).validating, ctx)

    async def _run(self, round_: Round, ctx: AdmissionContext) -> None:
        now = self._now
        began = last = now()
        timed = round_.whole
        try:
            for step, timed in round_.steps:
                await step(ctx)
                ended = now()
                timed.passed.observe(ended - last)
                last = ended
            round_.whole.passed.observe(last - began)
        except ApiError as error:
            ended = now()
            timed.refused.observe(ended - last)
            round_.whole.refused.observe(ended - began)
            if ctx.warnings:
                error.headers = with_warnings(error.headers, ctx.warnings)
            raise
        finally:
            if ctx.annotations:
                annotate(ctx.annotations)

    def _route(self, ctx: AdmissionContext) -> Route:
        """The steps that a request has to pass."""
        about = (ctx.resource.key, ctx.operation)
        route = self._routes.get(about)
        if route is None:
            concerned = [plugin for plugin in self.plugins if plugin.concerned(*about)]
            mutating = [one for one in concerned if type(one).mutate is not Plugin.mutate]
            validating = [one for one in concerned if type(one).validate is not Plugin.validate]
            operation = ctx.operation
            admit = [(one.mutate, figures.of_plugin(one.name, operation, ADMIT)) for one in mutating]
            judge = [(one.validate, figures.of_plugin(one.name, operation, VALIDATE)) for one in validating]
            route = self._routes[about] = Route(
                Round(tuple(admit), figures.of_step(operation, ADMIT)),
                Round(tuple(judge), figures.of_step(operation, VALIDATE)),
                tuple(one.changes for one in mutating),
            )
        return route
