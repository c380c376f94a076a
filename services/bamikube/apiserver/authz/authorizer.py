"""The authorizers in order, and what is asked of them."""

from __future__ import annotations

from collections.abc import Sequence

from bamikube.apiserver.attributes import Attributes
from bamikube.apiserver.authz.node import NodeAuthorizer, node_name
from bamikube.apiserver.authz.rbac import Rbac
from bamikube.apiserver.authz.rules import Rule, uncovered
from bamikube.apiserver.authz.verdict import Verdict
from bamikube.apiserver.identity import MASTERS, User
from bamikube.apiserver.registry.reader import Reader

EVERYTHING: list[Rule] = [
    {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]},
    {"verbs": ["*"], "nonResourceURLs": ["*"]},
]


class Authorizer:
    """Members of ``system:masters`` may do everything, whatever the roles say; then the node rules; then RBAC.

    ``modes`` is ``--authorization-mode``: ``Node``, ``RBAC``, ``AlwaysAllow``, ``AlwaysDeny``. ``node_rules`` hold
    for all nodes beside the usual ones.
    """

    def __init__(
        self,
        reader: Reader,
        modes: tuple[str, ...] = ("Node", "RBAC"),
        *,
        node_rules: Sequence[Rule] = (),
    ) -> None:
        for mode in modes:
            if mode not in ("Node", "RBAC", "AlwaysAllow", "AlwaysDeny"):
                raise ValueError(
                    f"authorization mode {mode!r} is unknown: use Node, RBAC, AlwaysAllow or AlwaysDeny"
                )
        self._always_allow = "AlwaysAllow" in modes
        self._always_deny = "AlwaysDeny" in modes
        self.rbac = Rbac(reader)
        self.node = NodeAuthorizer(reader, node_rules) if "Node" in modes else None
        self._rbac_enabled = "RBAC" in modes

    def authorize(self, attributes: Attributes) -> Verdict:
        """Allowed with the rule that allowed it, or refused with whatever reasons there are."""
        if MASTERS in attributes.user.groups:
            return Verdict(True)  # no rule says so, and Kubernetes gives no reason either
        if self._always_allow:
            return Verdict(True)
        reasons: list[str] = []
        if self.node is not None:
            verdict = self.node.authorize(attributes)
            if verdict.allowed:
                return verdict
            if verdict.reason:
                reasons.append(verdict.reason)
        if self._rbac_enabled:
            verdict = self.rbac.authorize(attributes)
            if verdict.allowed:
                return verdict
            if verdict.reason:
                reasons.append(verdict.reason)
        if self._always_deny:
            reasons.append("Everything is forbidden.")
        return Verdict(False, "\n".join(reasons))

    def rules_for(self, user: User, namespace: str) -> list[Rule]:
        """The rules ``user`` holds in ``namespace`` (for SelfSubjectRulesReview)."""
        if self._always_allow:
            return list(EVERYTHING)
        return self.rbac.rules_for(user, namespace) if self._rbac_enabled else []

    def unlisted(self, user: User, namespace: str) -> tuple[bool, str]:
        """Whether :meth:`rules_for` is not all that ``user`` may do, and what could not be evaluated. (What a node may
        do depends on its pods: it cannot be listed.)"""
        is_node = self.node is not None and node_name(user) is not None
        problems = ["node authorizer does not support user rule resolution"] if is_node else []
        if self._rbac_enabled and (missing := self.rbac.missing(user, namespace)):
            problems.append(missing)
        return is_node, f"[{', '.join(problems)}]" if len(problems) > 1 else "".join(problems)

    def escalated(self, user: User, namespace: str, wanted: list[Rule]) -> list[dict[str, list[str]]]:
        """What ``wanted`` would grant beyond what ``user`` holds in ``namespace``; empty when nothing."""
        if MASTERS in user.groups:
            return []
        return uncovered(self.rules_for(user, namespace), wanted)
