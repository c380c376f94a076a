"""What a device plugin says is done to a container, on real containerd: the plugin is ours, its devices are /dev/null by other names."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from bamikube.kit.world import World
from bamikube.nodeagent.devices.manager import DeviceManager
from tests.support.device_plugin import SamplePlugin

THING = "example.com/thing"


@pytest.fixture
async def devices(node: Any) -> AsyncIterator[tuple[DeviceManager, SamplePlugin]]:
    root = Path(tempfile.mkdtemp(prefix="bami-dev-", dir="/tmp"))  # paths of sockets have to be short
    manager = DeviceManager(World(), root, lambda: None, lambda: set(node.workers))
    await manager.start()
    plugin = SamplePlugin(manager.folder, THING, ["a", "b"], pre_start_required=True)
    await plugin.start()
    node.shared.devices = manager
    yield manager, plugin
    await plugin.stop()
    await manager.close()
    shutil.rmtree(root, ignore_errors=True)


async def test_a_container_has_the_devices_it_was_given(node: Any, devices: Any, until: Any) -> None:
    manager, plugin = devices
    await until(lambda: manager.amounts() == {THING: (2, 2)})
    script = (
        "echo $THINGS $OWN; echo x > /dev/thing-a && ls -d /dev/thing-*; touch /things/x || echo read-only"
    )
    container = {
        "name": "app", "command": ["sh", "-c", f"({script}) > /dev/termination-log 2>/dev/null"],
        "env": [{"name": "OWN", "value": "$(THINGS) is the plugin's"}],
        "resources": {"limits": {THING: "2", "cpu": "100m"}},
    }  # fmt: skip
    pod = node.pod("devices", {"restartPolicy": "Never", "containers": [container]})
    assert await manager.allocate(pod) is None
    worker = node.run(pod)
    await until(lambda: worker.status.get("phase") == "Succeeded")
    said = worker.status["containerStatuses"][0]["state"]["terminated"]["message"].split("\n")
    assert said[:4] == ["a,b $(THINGS) is the plugin's", "/dev/thing-a", "/dev/thing-b", "read-only"]
    assert plugin.asked == [("allocate", ("a", "b")), ("start", ("a", "b"))]
    one = next(c for c in await node.runtime.list_containers() if c.name == "app")
    assert (await node.runtime.container_status(one.id)).annotations["example.com/things"] == "a,b"
