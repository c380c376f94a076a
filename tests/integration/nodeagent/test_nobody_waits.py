"""A hanging preStop, a pull that does not end, a volume that does not come: other pods start as if there were none."""

from __future__ import annotations

import asyncio
import time
from typing import Any

JSON = dict[str, Any]
SLEEPS = {"name": "app", "command": ["sleep", "1000"]}


async def start(node: Any, until: Any, name: str) -> float:
    """Seconds until a new pod runs."""
    begun = time.monotonic()
    worker = node.run(node.pod(name, {"containers": [dict(SLEEPS)]}))
    await until(lambda: worker.state.running() and worker.status["phase"] == "Running")
    return time.monotonic() - begun


async def test_slow_pods_hold_up_only_themselves(node: Any, until: Any) -> None:
    usual = await start(node, until, "before")
    hook = {"preStop": {"exec": {"command": ["sleep", "1000"]}}}
    hooked = node.run(node.pod("hooked", {"containers": [SLEEPS | {"lifecycle": hook}]}))
    await until(lambda: hooked.state.running())
    node.delete(hooked, 600)

    silent = await asyncio.start_server(lambda reader, writer: reader.read(), "127.0.0.1", 0)
    image = f"127.0.0.1:{silent.sockets[0].getsockname()[1]}/slow:1"
    pulling = node.run(node.pod("pulling", {"containers": [{"name": "app", "image": image}]}))

    ask = node.api.config_map

    async def config_map(namespace: str, name: str) -> JSON | None:
        if name == "never":
            await asyncio.Event().wait()
        return await ask(namespace, name)

    node.api.config_map = config_map
    volume = {"name": "v", "configMap": {"name": "never"}}
    mounts = {"volumeMounts": [{"name": "v", "mountPath": "/v"}]}
    mounting = node.run(node.pod("mounting", {"volumes": [volume], "containers": [SLEEPS | mounts]}))

    await until(lambda: "Pulling" in node.api.reasons() and hooked.memory.stopping)
    await asyncio.sleep(0.5)
    took = [await start(node, until, f"after-{number}") for number in range(3)]
    assert min(took) < usual + 1.0, (usual, took)
    assert not mounting.state.sandboxes and not pulling.state.running() and hooked.state.running()
    silent.close()
