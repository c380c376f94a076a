"""The admission chain: first every plugin that changes objects, then every plugin that only judges.

A plugin is one file with one class. It says what it is interested in by returning early; it changes ``ctx.object``
in ``mutate`` and refuses by raising ``ApiError`` in either step. The order below is Kubernetes' own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from bamikube.apiserver.admission.context import AdmissionContext
from bamikube.apiserver.registry.reader import Reader
from bamikube.kit.world import World

if TYPE_CHECKING:
    from bamikube.apiserver.authz.authorizer import Authorizer


class Plugin:
    """What a plugin may do; the defaults do nothing. ``name`` is what ``--disable-admission-plugins`` takes."""

    name = ""

    async def mutate(self, ctx: AdmissionContext) -> None:
        """Change ``ctx.object``, or raise ApiError."""

    async def validate(self, ctx: AdmissionContext) -> None:
        """Raise ApiError to refuse."""


class Admission:
    """The plugins in order."""

    def __init__(self, plugins: Sequence[Plugin]) -> None:
        self.plugins = tuple(plugins)
        # Most plugins have only one of the two steps: do not call the other on every write.
        self._mutating = [plugin for plugin in self.plugins if type(plugin).mutate is not Plugin.mutate]
        self._validating = [plugin for plugin in self.plugins if type(plugin).validate is not Plugin.validate]

    @classmethod
    def standard(
        cls, reader: Reader, world: World, authorizer: Authorizer, *, disabled: Sequence[str] = ()
    ) -> Admission:
        """Kubernetes' default plugins, as far as they exist here, without those named in ``disabled``."""
        from bamikube.apiserver.admission.certificates import (
            CertificateApproval,
            CertificateSubjectRestriction,
        )
        from bamikube.apiserver.admission.namespace_lifecycle import NamespaceLifecycle
        from bamikube.apiserver.admission.node_restriction import NodeRestriction
        from bamikube.apiserver.admission.priority import Priority
        from bamikube.apiserver.admission.rbac_escalation import RbacEscalation
        from bamikube.apiserver.admission.service_account import ServiceAccount
        from bamikube.apiserver.admission.taint_nodes import TaintNodesByCondition
        from bamikube.apiserver.admission.tolerations import DefaultTolerationSeconds

        plugins: list[Plugin] = [
            NamespaceLifecycle(reader),
            ServiceAccount(reader, world),
            NodeRestriction(reader),
            TaintNodesByCondition(),
            Priority(reader),
            DefaultTolerationSeconds(),
            CertificateApproval(authorizer),
            CertificateSubjectRestriction(),
            RbacEscalation(authorizer),
        ]
        known = {plugin.name for plugin in plugins}
        if unknown := sorted(set(disabled) - known):
            raise ValueError(f"unknown admission plugins {unknown}: known are {sorted(known)}")
        return cls([plugin for plugin in plugins if plugin.name not in disabled])

    async def mutate(self, ctx: AdmissionContext) -> None:
        """Let every mutating plugin work on ``ctx.object``."""
        for plugin in self._mutating:
            await plugin.mutate(ctx)

    async def validate(self, ctx: AdmissionContext) -> None:
        """Let every validating plugin judge the final object."""
        for plugin in self._validating:
            await plugin.validate(ctx)
