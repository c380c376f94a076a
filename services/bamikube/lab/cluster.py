"""Waiting for the cluster inside the lab: its API, then its nodes, over HTTPS as the administrator."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import Any

from bamikube.api.errors import ApiError
from bamikube.client import Client
from bamikube.kit.http import Response
from bamikube.kit.lean import aiohttp
from bamikube.kit.world import World
from bamikube.lab.topology import CONTROL_PLANE, LabPaths, Topology

_ROLE_LABEL = f"node-role.kubernetes.io/{CONTROL_PLANE}"
_POLL_SECONDS = 0.05
FAULTS = (OSError, ApiError, aiohttp.ClientError, asyncio.TimeoutError)


class NotReady(RuntimeError):
    """The cluster did not get ready in time; the message says what was missing."""


def is_ready(node: dict[str, Any]) -> bool:
    """Whether a Node object's Ready condition is True."""
    conditions = node.get("status", {}).get("conditions") or []
    return any(entry.get("type") == "Ready" and entry.get("status") == "True" for entry in conditions)


async def api_ready(client: Client) -> bool:
    """One look at ``/readyz``."""
    with contextlib.suppress(*FAULTS):
        answer = await asyncio.wait_for(client.raw("GET", "/readyz"), 2.0)
        return isinstance(answer, Response) and answer.status == 200
    return False


async def _until_api(client: Client) -> None:
    while not await api_ready(client):  # noqa: ASYNC110 (another process decides)
        await asyncio.sleep(_POLL_SECONDS)


async def _until_nodes(
    client: Client, topology: Topology, wanted: Sequence[str], say: Callable[[str, str], None]
) -> None:
    """Watch nodes until all ``wanted`` are Ready; gives the control plane its role label on sight."""
    missing = set(wanted)
    labelled: set[str] = set()

    async def look(node: dict[str, Any]) -> None:
        name = node["metadata"]["name"]
        roles = topology.node(name).roles if name in wanted else ()
        if roles and name not in labelled and _ROLE_LABEL not in (node["metadata"].get("labels") or {}):
            await client.patch("nodes", name, {"metadata": {"labels": {_ROLE_LABEL: ""}}})
        labelled.add(name)
        if is_ready(node) and name in missing:
            missing.discard(name)
            say(name, "Ready")

    while missing:
        try:
            listed = await client.list("nodes")
            for node in listed["items"]:
                await look(node)
            if not missing:
                return
            async for event in client.watch("nodes", resource_version=listed["metadata"]["resourceVersion"]):
                if event.type in ("ADDED", "MODIFIED"):
                    await look(event.object)
                if not missing:
                    return
        except FAULTS:
            await asyncio.sleep(_POLL_SECONDS)


async def wait_ready(
    paths: LabPaths,
    topology: Topology,
    wanted: Sequence[str],
    *,
    seconds: float,
    say: Callable[[str, str], None],
    broken: Callable[[], str],
) -> None:
    """Wait for the API and for the nodes ``wanted``. Raises NotReady at the deadline, or when ``broken`` tells of
    a unit that cannot stay up (looked at twice a second)."""
    client = Client.from_kubeconfig(str(paths.kubeconfig), World(), user_agent="bamikube-lab")

    async def progress() -> None:
        await _until_api(client)
        say("API", topology.api)
        await _until_nodes(client, topology, wanted, say)

    async def watch_units() -> str:
        while not (found := broken()):  # noqa: ASYNC110 (another process decides)
            await asyncio.sleep(0.5)
        return found

    working, watching = asyncio.ensure_future(progress()), asyncio.ensure_future(watch_units())
    try:
        done, _ = await asyncio.wait(
            {working, watching}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED
        )
        if working in done:
            working.result()
        elif watching in done:
            raise NotReady(watching.result())
        else:
            raise NotReady(f"not ready after {seconds:.0f} s")
    finally:
        for task in (working, watching):
            task.cancel()
        await asyncio.gather(working, watching, return_exceptions=True)
        await client.close()


async def node_states(paths: LabPaths) -> dict[str, str] | None:
    """Each node's state as ``kubectl get nodes`` would show it; None if the API does not answer."""
    if not paths.kubeconfig.is_file():
        return None
    client = Client.from_kubeconfig(str(paths.kubeconfig), World(), user_agent="bamikube-lab")
    try:
        with contextlib.suppress(*FAULTS):
            listed = await asyncio.wait_for(client.list("nodes"), 3.0)
            return {
                node["metadata"]["name"]: ("Ready" if is_ready(node) else "NotReady")
                + (",SchedulingDisabled" if node.get("spec", {}).get("unschedulable") else "")
                for node in listed["items"]
            }
        return None
    finally:
        await client.close()
