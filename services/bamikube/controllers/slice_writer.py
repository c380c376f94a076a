"""Carrying out a :class:`~bamikube.controllers.slices.Plan`: grow first, shrink last, so that no endpoint is missing
for a moment while it moves from one slice to another."""

from __future__ import annotations

from bamikube.api.errors import ApiError
from bamikube.client.client import Client
from bamikube.controllers.expectations import Expectations
from bamikube.controllers.shared import namespace_is_going
from bamikube.controllers.slices import Plan

RESOURCE = "endpointslices.discovery.k8s.io"


async def write(client: Client, expectations: Expectations, key: str, decision: Plan) -> None:
    """Write the plan for the service ``key``. Raises ApiError; a conflict means: plan again."""
    for body in decision.create:
        try:
            expectations.created(key, await client.create(RESOURCE, body))
        except ApiError as error:
            if namespace_is_going(error):
                return
            raise
    for held in decision.update:
        expectations.created(key, await client.update(RESOURCE, held))
    for held in decision.delete:
        meta = held["metadata"]
        try:
            await client.delete(RESOURCE, meta["name"], meta["namespace"], uid=meta["uid"])
        except ApiError as error:
            if error.code not in (404, 409):
                raise
            continue
        expectations.deleted(key, f"{meta['namespace']}/{meta['name']}", meta["uid"])
