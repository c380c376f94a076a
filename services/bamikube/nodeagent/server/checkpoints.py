"""``/checkpoint``: a running container written to a tar file below ``<root-dir>/checkpoints``, where the runtime can do that.

containerd can from version 2.0 on, with CRIU on the machine; older ones do not know the call, which is what is answered.
Source: KEP-2008, "Kubelet Checkpoint API".
"""

from __future__ import annotations

import re
from pathlib import Path

import orjson

from bamikube.kit.clock import rfc3339
from bamikube.kit.http import Request, Response
from bamikube.nodeagent.pod import facts
from bamikube.nodeagent.pod.worker import PodWorker
from bamikube.nodeagent.runtime.port import Runtime, RuntimeFailure
from bamikube.nodeagent.server import lookup
from bamikube.nodeagent.server.refusal import Refusal


async def checkpoint(
    request: Request, worker: PodWorker, name: str, runtime: Runtime, folder: Path, now: float
) -> Response:
    """Raises Refusal in the kubelet's words: 404 for what there is not, 500 for what could not be done."""
    if facts.container(worker.pod, name) is None:
        raise Refusal(404, f"container {name} does not exist")
    given = (request.query.get("timeout") or [""])[-1]
    if given and not re.fullmatch("[0-9]{1,9}", given):
        raise Refusal(404, "cannot parse value of timeout parameter")
    meta = worker.pod["metadata"]
    file = folder / f"checkpoint-{meta['name']}_{meta['namespace']}-{name}-{rfc3339(now)}.tar"
    try:
        container = lookup.running(worker.state, name, f"container {name} not found")
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        await runtime.checkpoint(container.id, str(file), float(given or 0))
    except (Refusal, RuntimeFailure, OSError) as failure:
        said = failure.in_go() if isinstance(failure, RuntimeFailure) else str(failure)
        place = f"{meta['namespace']}/{meta['name']}/{name}"
        raise Refusal(500, f"checkpointing of {place} failed ({said})") from None
    return Response(200, orjson.dumps({"items": [str(file)]}))
