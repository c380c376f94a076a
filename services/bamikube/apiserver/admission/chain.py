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
from typing import ClassVar

from bamikube.api.errors import ApiError
from bamikube.apiserver.admission.context import AdmissionContext
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


class Admission:
    """The plugins in order."""

    def __init__(self, plugins: Sequence[Plugin]) -> None:
        self.plugins = tuple(plugins)
        self._steps: dict[tuple[Key, str], tuple[tuple[Step, ...], tuple[Step, ...], tuple[Ask, ...]]] = {}

    async def mutate(self, ctx: AdmissionContext) -> None:
        """Let every mutating plugin work on ``ctx.object``."""
        steps = self._of(ctx)[0]
        await self._run(steps, ctx)
        if ctx.rounds is not None and ctx.rounds.again:
            ctx.rounds.number += 1
            await self._run(steps, ctx)

    def changes(self, ctx: AdmissionContext) -> bool:
        """Whether any mutating plugin has something to do with the request."""
        return any(ask(ctx) for ask in self._of(ctx)[2])

    async def validate(self, ctx: AdmissionContext) -> None:
        """Let every validating plugin judge the final object."""
        await self._run(self._of(ctx)[1], ctx)

    @staticmethod
    async def _run(steps: tuple[Step, ...], ctx: AdmissionContext) -> None:
        try:
            for step in steps:
                await step(ctx)
        except ApiError as error:
            if ctx.warnings:
                error.headers = with_warnings(error.headers, ctx.warnings)
            raise
        finally:
            if ctx.annotations:
                annotate(ctx.annotations)

    def _of(self, ctx: AdmissionContext) -> tuple[tuple[Step, ...], tuple[Step, ...], tuple[Ask, ...]]:
        """The mutating and the validating steps that a request has to pass, and who says whether the former matter."""
        about = (ctx.resource.key, ctx.operation)
        steps = self._steps.get(about)
        if steps is None:
            concerned = [plugin for plugin in self.plugins if plugin.concerned(*about)]
            mutating = [one for one in concerned if type(one).mutate is not Plugin.mutate]
            steps = self._steps[about] = (
                tuple(one.mutate for one in mutating),
                tuple(one.validate for one in concerned if type(one).validate is not Plugin.validate),
                tuple(one.changes for one in mutating),
            )
        return steps
