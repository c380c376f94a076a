"""Role-based access control, answered from an index that follows the cache.

Who is bound to what is indexed by subject and kept up to date change by change. From it a user's rules are
multiplied out on first use (:class:`~bamikube.apiserver.authz.rules.RuleSet`), once for the cluster and once for each
namespace the user acts in, and kept until any role or binding changes. So a decision costs a few dictionary
look-ups, and the first one after a change costs the rules of that one user.

A ClusterRole with an ``aggregationRule`` is the union of the ClusterRoles its selectors match. The union is made
here, at evaluation, from the labels as they are now, so that a new aggregated rule counts from the moment it is
seen; :func:`aggregate` is what the bootstrap loop stores in ``rules`` for people to read.

Source: Kubernetes' "Using RBAC Authorization".
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from bamikube.apiserver.attributes import Attributes
from bamikube.apiserver.authz.rules import Rule, RuleSet
from bamikube.apiserver.authz.verdict import NO_OPINION, Verdict
from bamikube.apiserver.identity import User
from bamikube.apiserver.registry.reader import Reader

GROUP = "rbac.authorization.k8s.io"
ROLES = (GROUP, "roles")
CLUSTER_ROLES = (GROUP, "clusterroles")
ROLE_BINDINGS = (GROUP, "rolebindings")
CLUSTER_ROLE_BINDINGS = (GROUP, "clusterrolebindings")

_USERS_LIMIT = 2048  # users whose rules are kept; the oldest goes first

Subject = tuple[str, str]  # ("User", name) or ("Group", name); service accounts appear under their user name
BindingKey = tuple[str, str]  # namespace ("" for ClusterRoleBindings) and name


class Rbac:
    """RBAC over the cache."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._bindings: dict[BindingKey, dict[str, Any]] = {}
        # subject -> namespace -> bindings; what a decision starts from
        self._bound: dict[Subject, dict[str, set[BindingKey]]] = {}
        self._compiled: dict[tuple[str, tuple[str, ...]], dict[str, RuleSet]] = {}
        for key in (ROLE_BINDINGS, CLUSTER_ROLE_BINDINGS):
            reader.subscribe(key, self._binding_changed)
        for key in (ROLES, CLUSTER_ROLES):
            reader.subscribe(key, self._role_changed)

    def authorize(self, attributes: Attributes) -> Verdict:
        """Cluster-wide rules first, then those of the namespace."""
        scopes = ("", attributes.namespace) if attributes.namespace else ("",)
        for scope in scopes:
            rules = self._rules(attributes.user, scope)
            if attributes.is_resource:
                origin = rules.resource_origin(
                    attributes.verb,
                    attributes.group,
                    attributes.resource,
                    attributes.subresource,
                    attributes.name,
                )
            else:
                origin = rules.path_origin(attributes.verb, attributes.path)
            if origin is not None:
                return Verdict(True, origin)
        missing = self._missing_roles(attributes.user, scopes)
        return Verdict(False, f"RBAC: {missing}") if missing else NO_OPINION

    def rules_for(self, user: User, namespace: str) -> list[Rule]:
        """Every rule that applies to ``user`` in ``namespace``, the cluster-wide ones first."""
        found = list(self._rules(user, "").rules)
        if namespace:
            found.extend(self._rules(user, namespace).rules)
        return found

    def missing(self, user: User, namespace: str) -> str:
        """The roles that ``user`` is bound to and that are not there; "" when none."""
        return self._missing_roles(user, ("", namespace) if namespace else ("",))

    def role_rules(self, kind: str, namespace: str, name: str) -> list[Rule] | None:
        """The rules a ``roleRef`` stands for, None when there is no such role."""
        if kind == "ClusterRole":
            role = self._reader.get(CLUSTER_ROLES, "", name)
        else:
            role = self._reader.get(ROLES, namespace, name)
        if role is None:
            return None
        if role.get("aggregationRule"):
            return aggregate(role, self._reader.list(CLUSTER_ROLES))
        return role.get("rules") or []

    def _rules(self, user: User, scope: str) -> RuleSet:
        key = (user.name, user.groups)
        scopes = self._compiled.get(key)
        if scopes is None:
            if len(self._compiled) >= _USERS_LIMIT:
                self._compiled.pop(next(iter(self._compiled)))
            scopes = self._compiled[key] = {}
        rules = scopes.get(scope)
        if rules is None:
            rules = scopes[scope] = self._compile(user, scope)
        return rules

    def _compile(self, user: User, scope: str) -> RuleSet:
        compiled = RuleSet()
        for binding, subject in self._bindings_of(user, scope):
            ref = binding.get("roleRef") or {}
            rules = self.role_rules(ref.get("kind", ""), scope, ref.get("name", ""))
            if rules:
                compiled.add(rules, _origin(binding, ref, subject, scope))
        return compiled

    def _bindings_of(self, user: User, scope: str) -> Iterable[tuple[dict[str, Any], Subject]]:
        subjects: list[Subject] = [("User", user.name), *(("Group", group) for group in user.groups)]
        for subject in subjects:
            for key in sorted(self._bound.get(subject, {}).get(scope, ())):
                yield self._bindings[key], subject

    def _missing_roles(self, user: User, scopes: Iterable[str]) -> str:
        missing: list[str] = []
        for scope in scopes:
            for binding, _ in self._bindings_of(user, scope):
                ref = binding.get("roleRef") or {}
                kind, name = ref.get("kind", ""), ref.get("name", "")
                if self.role_rules(kind, scope, name) is None:
                    text = f'{kind.lower()}.{GROUP} "{name}" not found'
                    if text not in missing:
                        missing.append(text)
        if len(missing) > 1:
            return "[" + ", ".join(missing) + "]"
        return "".join(missing)

    def _role_changed(self, _type: str, _old: dict[str, Any] | None, _new: dict[str, Any] | None) -> None:
        self._compiled.clear()

    def _binding_changed(self, _type: str, old: dict[str, Any] | None, new: dict[str, Any] | None) -> None:
        self._compiled.clear()
        known = new or old
        if known is None:
            return
        metadata = known["metadata"]
        key = (metadata.get("namespace", ""), metadata["name"])
        before = self._bindings.pop(key, None)
        if before is not None:
            for subject in _subjects(before):
                scopes = self._bound.get(subject)
                if scopes and key[0] in scopes:
                    scopes[key[0]].discard(key)
                    if not scopes[key[0]]:
                        del scopes[key[0]]
                    if not scopes:
                        del self._bound[subject]
        if new is not None:
            self._bindings[key] = new
            for subject in _subjects(new):
                self._bound.setdefault(subject, {}).setdefault(key[0], set()).add(key)


def aggregate(role: dict[str, Any], cluster_roles: Iterable[dict[str, Any]]) -> list[Rule]:
    """The union of the rules of all ClusterRoles that the role's ``aggregationRule`` selects, in order of name and
    without repetitions. A selected role may be aggregated itself (``edit`` is selected by ``admin``); circles end."""
    candidates = sorted(cluster_roles, key=lambda one: str(one["metadata"]["name"]))
    rules: list[Rule] = []
    _aggregate(role, candidates, {role["metadata"]["name"]}, rules)
    return rules


def _aggregate(
    role: dict[str, Any], candidates: list[dict[str, Any]], seen: set[str], rules: list[Rule]
) -> None:
    selectors = (role.get("aggregationRule") or {}).get("clusterRoleSelectors") or []
    for candidate in candidates:
        name = candidate["metadata"]["name"]
        labels = candidate["metadata"].get("labels") or {}
        if name in seen or not any(_selects(selector, labels) for selector in selectors):
            continue
        seen.add(name)
        if candidate.get("aggregationRule"):
            _aggregate(candidate, candidates, seen, rules)
        else:
            rules.extend(rule for rule in candidate.get("rules") or [] if rule not in rules)


def _selects(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    """Label selector semantics of metav1.LabelSelector."""
    for key, value in (selector.get("matchLabels") or {}).items():
        if labels.get(key) != value:
            return False
    for expression in selector.get("matchExpressions") or []:
        key, operator = expression.get("key", ""), expression.get("operator", "")
        values = expression.get("values") or []
        held = {
            "In": labels.get(key) in values,
            "NotIn": key not in labels or labels[key] not in values,
            "Exists": key in labels,
            "DoesNotExist": key not in labels,
        }
        if not held.get(operator, False):
            return False
    return True


def _subjects(binding: dict[str, Any]) -> set[Subject]:
    found: set[Subject] = set()
    namespace = binding["metadata"].get("namespace", "")
    for subject in binding.get("subjects") or []:
        kind, name = subject.get("kind"), subject.get("name", "")
        if kind == "ServiceAccount":
            # A RoleBinding's service account defaults to the binding's own namespace.
            found.add(("User", f"system:serviceaccount:{subject.get('namespace') or namespace}:{name}"))
        elif kind in ("User", "Group"):
            found.add((kind, name))
    return found


def _origin(binding: dict[str, Any], ref: dict[str, Any], subject: Subject, scope: str) -> str:
    kind = "RoleBinding" if scope else "ClusterRoleBinding"
    name = binding["metadata"]["name"]
    where = f"{name}/{scope}" if scope else name
    who_kind, who = subject
    if who_kind == "User" and who.startswith("system:serviceaccount:"):
        _, _, namespace, account = who.split(":", 3)
        who_kind, who = "ServiceAccount", f"{account}/{namespace}"
    return f'RBAC: allowed by {kind} "{where}" of {ref.get("kind")} "{ref.get("name")}" to {who_kind} "{who}"'
