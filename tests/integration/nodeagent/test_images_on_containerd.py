"""Pulling from a registry that asks who we are, with a real containerd."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from bamikube.kit.world import World
from bamikube.nodeagent.images.collector import ImageCollector, Policy
from bamikube.nodeagent.images.credentials import node_credentials
from bamikube.nodeagent.images.puller import Puller
from bamikube.nodeagent.runtime.port import Credentials
from tests.integration.nodeagent.conftest import BUSYBOX
from tests.support import private_registry


@pytest.fixture
async def registry(containerd: Any, tmp_path: Path) -> AsyncIterator[str]:
    """Where an image lies that only some may pull; in the network namespace of the test."""
    runner, name = await private_registry.start(tmp_path)
    yield name
    await runner.cleanup()


def pull_secret(place: str, password: str) -> dict[str, Any]:
    text = private_registry.docker_config(place, password)
    data = {".dockerconfigjson": base64.b64encode(text.encode()).decode()}
    return {"metadata": {"name": "s"}, "type": "kubernetes.io/dockerconfigjson", "data": data}


def waiting(worker: Any) -> dict[str, Any]:
    (item,) = worker.status.get("containerStatuses") or [{}]
    return (item.get("state") or {}).get("waiting") or {}


async def test_a_private_image_needs_the_right_secret(node: Any, registry: str, until: Any) -> None:
    image = f"{registry}/private/app:1"
    secrets = [{"name": "wrong"}, {"name": "right"}, {"name": "none"}]
    spec = {"containers": [{"name": "app", "image": image}], "imagePullSecrets": secrets}
    refused = node.run(node.pod("refused", {"containers": [{"name": "app", "image": image}]}))
    await until(lambda: waiting(refused).get("reason") == "ErrImagePull")
    said = waiting(refused)["message"]
    # The runtime's code is Unknown, which the kubelet leaves out.
    assert said.startswith(
        f'failed to pull and unpack image "{image}": failed to resolve reference "{image}"'
    )
    assert ("Failed", f'Failed to pull image "{image}": {said}') in node.api.events
    node.api.objects["Secret", "wrong"] = pull_secret(registry, "wrong")
    node.api.objects["Secret", "right"] = pull_secret(f"http://{registry}/private", "right")
    allowed = node.run(node.pod("allowed", spec))
    await until(lambda: allowed.status.get("phase") == "Running")
    events = dict(node.api.events)
    assert events["FailedToRetrieveImagePullSecret"].startswith(
        "Unable to retrieve some image pull secrets (none);"
    )
    assert events["Pulled"].startswith(f'Successfully pulled image "{image}" in ')
    await node.runtime.remove_image(image)


PROVIDER = """#!/bin/sh
cat > {asked}
echo '{{"kind":"CredentialProviderResponse","apiVersion":"credentialprovider.kubelet.k8s.io/v1",'
echo '"cacheKeyType":"Registry","auth":{{"{registry}":{{"username":"me","password":"'$WORD'"}}}}}}'
"""


async def test_a_credential_provider_serves_every_pod(
    node: Any, registry: str, until: Any, tmp_path: Path
) -> None:
    """A real program, found and configured as on a node; the one that fails before it holds nothing up."""
    image, programs, asked = f"{registry}/private/app:1", tmp_path / "bin", tmp_path / "asked"
    programs.mkdir()
    for name, text in (("broken", "#!/bin/sh\nexit 3\n"), ("teller", PROVIDER)):
        (programs / name).write_text(text.format(asked=asked, registry=registry))
        (programs / name).chmod(0o755)
    common = {"matchImages": [registry], "defaultCacheDuration": "1m", "apiVersion": "credentialprovider.kubelet.k8s.io/v1"}  # fmt: skip
    providers = [common | {"name": "broken"}, common | {"name": "teller", "env": [{"name": "WORD", "value": "right"}]}]  # fmt: skip
    config = tmp_path / "config.json"
    kind = {"apiVersion": "kubelet.config.k8s.io/v1", "kind": "CredentialProviderConfig"}
    config.write_text(json.dumps(kind | {"providers": providers}))
    own = node_credentials(node.root, str(config), str(programs), World().clock)
    node.shared.puller = Puller(serialize=True, node=own)
    worker = node.run(node.pod("served", {"containers": [{"name": "app", "image": image}]}))
    await until(lambda: worker.status.get("phase") == "Running")
    assert json.loads(asked.read_text()) == {
        "apiVersion": "credentialprovider.kubelet.k8s.io/v1",
        "kind": "CredentialProviderRequest",
        "image": f"{registry}/private/app",
    }
    await node.runtime.remove_image(image)


async def test_a_pull_that_stalls_delays_no_other_pod(node: Any, until: Any) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()  # until the runtime gives up
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    image = f"127.0.0.1:{server.sockets[0].getsockname()[1]}/slow:1"
    stalled = node.run(node.pod("stalled", {"containers": [{"name": "app", "image": image}]}))
    await until(lambda: ("Pulling", f'Pulling image "{image}"') in node.api.events)
    begun = time.monotonic()
    other = node.run(node.pod("other", {"containers": [{"name": "app", "command": ["sleep", "1000"]}]}))
    await until(lambda: other.status.get("phase") == "Running")
    assert time.monotonic() - begun < 3.0  # half a second on a quiet machine
    node.delete(stalled, 0)
    await until(lambda: stalled.uid not in node.workers)  # a deletion does not wait for the pull
    server.close()


async def test_unused_images_go_and_pods_keep_theirs(node: Any, registry: str, until: Any) -> None:
    image = f"{registry}/private/app:1"
    await node.runtime.pull_image(image, Credentials("me", "right"))
    pods: list[Any] = [{"spec": {"containers": [{"image": image}]}}]
    kept = {"spec": {"containers": [{"image": BUSYBOX}]}}
    collector = ImageCollector(World(), node.runtime, Policy(min_age=0.0), lambda: [*pods, kept])

    def names(images: list[Any]) -> set[str]:
        return {tag for one in images for tag in one.tags}

    assert await collector.remove_unused() == []
    pods.clear()
    told: list[tuple[str, str]] = []
    full = Policy(high=1, low=0, min_age=0.0)  # more than there is has to go
    await ImageCollector(
        World(), node.runtime, full, lambda: [kept], lambda *words: told.append(words)
    ).look()
    ((reason, text),) = told
    assert reason == "FreeDiskSpaceFailed" and "but only found " in text
    assert text.startswith("Failed to garbage collect required amount of images. Attempted to free ")
    left = names(await node.runtime.list_images())
    assert image not in left and {BUSYBOX, "bamikube.test/pause:1"} <= left


async def test_images_unused_for_long_go_by_their_age_alone(node: Any, registry: str, until: Any) -> None:
    image = f"{registry}/private/app:1"
    await node.runtime.pull_image(image, Credentials("me", "right"))
    kept = {"spec": {"containers": [{"image": BUSYBOX}]}}
    collector = ImageCollector(World(), node.runtime, Policy(high=100, max_age=0.3), lambda: [kept])
    assert await collector.collect() == [], "known for less than that"
    removed: list[str] = []
    async with asyncio.timeout(20):
        while image not in removed:
            removed.extend(tag for one in await collector.collect() for tag in one.tags)
            await asyncio.sleep(0.05)
    left = {tag for one in await node.runtime.list_images() for tag in one.tags}
    assert image not in left and {BUSYBOX, "bamikube.test/pause:1"} <= left
