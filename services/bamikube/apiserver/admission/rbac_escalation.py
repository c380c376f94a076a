"""Nobody hands out rights that he does not hold.

Writing a role needs every right in it, or the verb ``escalate`` on it; writing a binding needs every right of the
role it refers to, or the verb ``bind`` on that role. Both hold for the namespace the write goes to.

Source: Kubernetes' "Using RBAC Authorization", privilege escalation prevention.
"""

from __future__ import annotations

from typing import Any

from bamikube.api import errors
from bamikube.api.errors import ApiError
from bamikube.apiserver.admission.chain import Plugin
from bamikube.apiserver.admission.context import AdmissionContext
from bamikube.apiserver.attributes import Attributes
from bamikube.apiserver.authz.authorizer import EVERYTHING, Authorizer
from bamikube.apiserver.authz.rbac import GROUP
from bamikube.apiserver.authz.rules import Rule, describe
from bamikube.apiserver.identity import MASTERS, User


class RbacEscalation(Plugin):
    name = "RbacEscalation"
    kinds = frozenset(
        (GROUP, plural) for plural in ("roles", "clusterroles", "rolebindings", "clusterrolebindings")
    )
    operations = frozenset({"CREATE", "UPDATE"})

    def __init__(self, authorizer: Authorizer) -> None:
        self._authorizer = authorizer

    async def validate(self, ctx: AdmissionContext) -> None:
        if ctx.resource.group != GROUP or ctx.object is None or ctx.operation not in ("CREATE", "UPDATE"):
            return
        if ctx.subresource or MASTERS in ctx.user.groups:
            return
        if ctx.resource.plural in ("roles", "clusterroles"):
            self._role(ctx, ctx.object)
        elif ctx.resource.plural in ("rolebindings", "clusterrolebindings"):
            self._binding(ctx, ctx.object)

    def _role(self, ctx: AdmissionContext, role: dict[str, Any]) -> None:
        old = ctx.old or {}
        same = all(
            (role.get(field) or None) == (old.get(field) or None) for field in ("rules", "aggregationRule")
        )
        if ctx.operation == "UPDATE" and same:
            return
        name = ctx.name or role["metadata"].get("name", "")
        if self._may(ctx, "escalate", ctx.resource.plural, name):
            return
        wanted: list[Rule] = list(role.get("rules") or [])
        if role.get("aggregationRule") and self._authorizer.escalated(ctx.user, "", EVERYTHING):
            raise errors.forbidden(
                ctx.resource.plural,
                name,
                "must have cluster-admin privileges to use an aggregationRule",
                GROUP,
            )
        if extra := self._authorizer.escalated(ctx.user, ctx.namespace, wanted):
            raise _escalating(ctx, name, extra)

    def _binding(self, ctx: AdmissionContext, binding: dict[str, Any]) -> None:
        old = ctx.old or {}
        same = all(
            (binding.get(field) or None) == (old.get(field) or None) for field in ("roleRef", "subjects")
        )
        if ctx.operation == "UPDATE" and same:
            return
        ref = binding.get("roleRef") or {}
        plural = "clusterroles" if ref.get("kind") == "ClusterRole" else "roles"
        if self._may(ctx, "bind", plural, ref.get("name", "")):
            return
        rules = self._authorizer.rbac.role_rules(ref.get("kind", ""), ctx.namespace, ref.get("name", ""))
        name = ctx.name or binding["metadata"].get("name", "")
        if rules is None:
            raise errors.not_found(plural, ref.get("name", ""), GROUP)
        if extra := self._authorizer.escalated(ctx.user, ctx.namespace, rules):
            raise _escalating(ctx, name, extra)

    def _may(self, ctx: AdmissionContext, verb: str, plural: str, name: str) -> bool:
        attributes = Attributes(
            ctx.user,
            verb,
            group=GROUP,
            version="v1",
            resource=plural,
            namespace=ctx.namespace,
            name=name,
        )
        return self._authorizer.authorize(attributes).allowed


def _escalating(ctx: AdmissionContext, name: str, extra: list[dict[str, list[str]]]) -> ApiError:
    lines = "\n".join(describe(extra))
    return errors.forbidden(
        ctx.resource.plural,
        name,
        f"{_who(ctx.user)} is attempting to grant RBAC permissions not currently held:\n{lines}",
        GROUP,
    )


def _who(user: User) -> str:
    groups = " ".join(f'"{group}"' for group in user.groups)
    return f'user "{user.name}" (groups=[{groups}])'
