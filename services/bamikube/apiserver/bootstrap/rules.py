"""A short hand for policy rules: ``rule("get list watch", "apps", "deployments deployments/scale")``.

Words are separated by spaces; the core group is written ``core``.
"""

from __future__ import annotations

from typing import Any

READ = "get list watch"
WRITE = "create delete deletecollection patch update"
READ_WRITE = f"{READ} {WRITE}"

Rule = dict[str, Any]


def rule(verbs: str, groups: str, resources: str, names: str = "") -> Rule:
    """A rule about resources."""
    made: Rule = {
        "apiGroups": ["" if group == "core" else group for group in groups.split()],
        "resources": resources.split(),
        "verbs": verbs.split(),
    }
    if names:
        made["resourceNames"] = names.split()
    return made


def paths(verbs: str, urls: str) -> Rule:
    """A rule about paths that are no resources."""
    return {"nonResourceURLs": urls.split(), "verbs": verbs.split()}


EVENTS = rule("create patch update", "core events.k8s.io", "events")
