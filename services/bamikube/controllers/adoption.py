"""Which children are mine: claiming by selector, adopting orphans, releasing what no longer matches.

The rule of every controller with a selector (``ControllerRefManager`` in Kubernetes): an object I control that no
longer matches is released; an object that matches and has no controller is adopted; nobody touches what another
controller owns, and an owner that is being deleted adopts nothing.

Only two groups of objects can matter to an owner: those it controls, and those of its namespace that nobody controls.
:func:`index_by_controller` keeps both findable, so claiming costs what the owner has, not what the namespace holds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from bamikube.api import owners
from bamikube.api.errors import ApiError
from bamikube.client.client import Client
from bamikube.client.informer import Informer

Object = dict[str, Any]

BY_CONTROLLER = "controller"
BY_NAMESPACE = "namespace"


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


async def carry_out(
    client: Client, owner_resource: str, owner: Object, resource: str, claimed: Claim
) -> bool:
    """Write what ``claimed`` asks for. False when the owner turns out to be gone or going: then nothing is written.

    The owner is looked up before anything is adopted, since the copy that the claim was made on may be behind.
    """
    meta = owner["metadata"]
    namespace = meta["namespace"]
    if claimed.adopt:
        live = await client.get(owner_resource, meta["name"], namespace)
        if live["metadata"]["uid"] != meta["uid"] or "deletionTimestamp" in live["metadata"]:
            return False
    for child in claimed.adopt:
        patch = adoption_patch(owner, child)
        await client.patch(resource, child["metadata"]["name"], patch, namespace, kind="strategic")
    for child in claimed.release:
        try:
            patch = release_patch(owner, child)
            await client.patch(resource, child["metadata"]["name"], patch, namespace, kind="strategic")
        except ApiError as error:
            # Gone, or another object by now: there is nothing left to release.
            if error.code not in (404, 409, 422):
                raise
    return True


def _controller_or_orphan(obj: Object) -> list[str]:
    controller = owners.controller_of(obj)
    return [controller["uid"]] if controller is not None else [f"orphans of {obj['metadata']['namespace']}"]


def index_by_controller(informer: Informer) -> None:
    """Make the informer's objects findable for :func:`controlled` and :func:`candidates`. Doing it twice is harmless."""
    informer.add_index(BY_CONTROLLER, _controller_or_orphan)


def index_by_namespace(informer: Informer) -> None:
    informer.add_index(BY_NAMESPACE, lambda obj: [obj["metadata"]["namespace"]])


def controlled(informer: Informer, uid: str) -> list[Object]:
    """The objects whose controller has that uid."""
    return informer.by_index(BY_CONTROLLER, uid)


def candidates(informer: Informer, owner: Object) -> list[Object]:
    """What ``owner`` controls, then what nobody controls in its namespace."""
    meta = owner["metadata"]
    return controlled(informer, meta["uid"]) + informer.by_index(
        BY_CONTROLLER, f"orphans of {meta['namespace']}"
    )
