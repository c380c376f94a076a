"""Which children are mine: claiming by selector, adopting orphans, releasing what no longer matches.

The rule of every controller with a selector (``ControllerRefManager`` in Kubernetes): an object I control that no
longer matches is released; an object that matches and has no controller is adopted; nobody touches what another
controller owns, and an owner that is being deleted adopts nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from bamikube.api import owners

Object = dict[str, Any]


@dataclass(slots=True)
class Claim:
    """The outcome: what is mine, and what has to be written for that to be true."""

    mine: list[Object] = field(default_factory=list)
    adopt: list[Object] = field(default_factory=list)
    release: list[Object] = field(default_factory=list)


def claim(owner: Object, candidates: Iterable[Object], matches: Callable[[Object], bool]) -> Claim:
    """Sort ``candidates`` (of the owner's namespace) by whose they are."""
    uid = owner["metadata"]["uid"]
    going = "deletionTimestamp" in owner["metadata"]
    result = Claim()
    for child in candidates:
        controller = owners.controller_of(child)
        if controller is not None:
            if controller.get("uid") != uid:
                continue
            if matches(child):
                result.mine.append(child)
            elif not going:
                result.release.append(child)
        elif not going and "deletionTimestamp" not in child["metadata"] and matches(child):
            result.adopt.append(child)
            result.mine.append(child)
    return result


def adoption_patch(owner: Object, child: Object) -> Object:
    """A strategic merge patch that makes ``owner`` the controller of ``child``; it fails if ``child`` was replaced."""
    return {
        "metadata": {
            "uid": child["metadata"]["uid"],
            "ownerReferences": [owners.controller_reference(owner)],
        }
    }


def release_patch(owner: Object, child: Object) -> Object:
    """A strategic merge patch that takes the owner's reference off ``child``."""
    return {
        "metadata": {
            "uid": child["metadata"]["uid"],
            "ownerReferences": [{"$patch": "delete", "uid": owner["metadata"]["uid"]}],
        }
    }
