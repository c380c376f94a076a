"""The official Python client (typed, dynamic, watch) and kr8s, as their users use them."""

from __future__ import annotations

import json

import kr8s.asyncio
import pytest
from kr8s.asyncio.objects import Pod
from kubernetes import client, config, dynamic, watch
from kubernetes.aio import client as aio
from kubernetes.aio import config as aio_config

from tests.support.kubectl import until
from tests.support.private_api import PrivateApi

POD = {"containers": [{"name": "c", "image": "i"}]}


@pytest.fixture
def api(private: PrivateApi, namespace: str) -> client.CoreV1Api:
    core = client.CoreV1Api(config.new_client_from_config(str(private.kubeconfig)))

    def settled() -> bool:
        accounts = core.list_namespaced_service_account(namespace).items
        return any(account.metadata.name == "default" for account in accounts)

    until(settled)
    return core


def test_typed_objects(api: client.CoreV1Api, namespace: str) -> None:
    meta = client.V1ObjectMeta(name="p", labels={"a": "b"})
    spec = client.V1PodSpec(containers=[client.V1Container(name="c", image="i")])
    made = api.create_namespaced_pod(namespace, client.V1Pod(metadata=meta, spec=spec))
    assert made.status.phase == "Pending" and made.spec.service_account_name == "default"
    strategic = api.patch_namespaced_pod("p", namespace, {"metadata": {"labels": {"x": "y"}}})
    assert strategic.metadata.labels == {"a": "b", "x": "y"}
    json_patch = [{"op": "remove", "path": "/metadata/labels/x"}]
    assert api.patch_namespaced_pod("p", namespace, json_patch).metadata.labels == {"a": "b"}
    with pytest.raises(client.ApiException) as refused:
        api.read_namespaced_pod("nope", namespace)
    assert (refused.value.status, refused.value.reason) == (404, "Not Found")
    with pytest.raises(client.ApiException) as twice:
        api.create_namespaced_pod(namespace, client.V1Pod(metadata=meta, spec=spec))
    assert twice.value.status == 409
    request = {"spec": {"expirationSeconds": 3600}}
    token = api.create_namespaced_service_account_token("default", namespace, request)
    assert token.status.token.count(".") == 2
    api.delete_namespaced_pod("p", namespace, grace_period_seconds=0)
    assert api.list_namespaced_pod(namespace).items == []


def test_watch_and_pages(api: client.CoreV1Api, namespace: str) -> None:
    for number in range(5):
        api.create_namespaced_config_map(
            namespace, {"metadata": {"name": f"m-{number}", "labels": {"a": "b"}}}
        )
    page = api.list_namespaced_config_map(namespace, limit=2, label_selector="a=b")
    assert len(page.items) == 2
    rest = api.list_namespaced_config_map(namespace, label_selector="a=b", _continue=page.metadata._continue)
    assert [each.metadata.name for each in page.items + rest.items] == [f"m-{n}" for n in range(5)]
    seen = []
    watcher = watch.Watch()
    for event in watcher.stream(
        api.list_namespaced_config_map, namespace, label_selector="a=b", timeout_seconds=20
    ):
        seen.append((event["type"], event["object"].metadata.name))
        if len(seen) == 5:
            api.delete_namespaced_config_map("m-3", namespace)
        if event["type"] == "DELETED":
            watcher.stop()
    assert seen[-1] == ("DELETED", "m-3") and len(seen) == 6


def test_dynamic_client(api: client.CoreV1Api, namespace: str, tmp_path: object) -> None:
    dynamic_client = dynamic.DynamicClient(api.api_client, cache_file=f"{tmp_path}/discovery.json")
    maps = dynamic_client.resources.get(api_version="v1", kind="ConfigMap")
    made = maps.create(body={"metadata": {"name": "q"}, "data": {"a": "1"}}, namespace=namespace)
    changed = made.to_dict() | {"data": {"a": "2"}}
    assert maps.replace(body=changed, namespace=namespace).data.a == "2"
    scale = dynamic_client.resources.get(api_version="apps/v1", kind="Deployment").subresources["scale"]
    with pytest.raises(dynamic.exceptions.NotFoundError):
        scale.get(name="nope", namespace=namespace)
    assert {"pods", "deployments"} <= {
        each.name for each in dynamic_client.resources.search() if getattr(each, "name", None)
    }


async def test_the_asynchronous_client(private: PrivateApi, api: client.CoreV1Api, namespace: str) -> None:
    configuration = aio.Configuration()
    await aio_config.load_kube_config(str(private.kubeconfig), client_configuration=configuration)
    async with aio.ApiClient(configuration) as connection:
        core = aio.CoreV1Api(connection)
        assert (await aio.VersionApi(connection).get_code()).minor == "34"
        made = await core.create_namespaced_config_map(
            namespace, aio.V1ConfigMap(metadata=aio.V1ObjectMeta(name="m"), data={"a": "1"})
        )
        stream = await core.list_namespaced_config_map(
            namespace,
            watch=True,
            field_selector="metadata.name=m",
            resource_version=made.metadata.resource_version,
            timeout_seconds=20,
            _preload_content=False,
        )
        changed = await core.patch_namespaced_config_map("m", namespace, {"data": {"b": "2"}})
        assert changed.data == {"a": "1", "b": "2"}
        applied = {"apiVersion": "v1", "kind": "ConfigMap", "data": {"c": "3"}}
        await core.patch_namespaced_config_map(
            "m", namespace, applied, field_manager="me", _content_type="application/apply-patch+yaml"
        )
        with pytest.raises(aio.ApiException) as stale:
            await core.replace_namespaced_config_map("m", namespace, made)
        assert (stale.value.status, json.loads(stale.value.body)["reason"]) == (409, "Conflict")
        await core.delete_namespaced_config_map("m", namespace)
        events = [json.loads(await stream.content.readline()) for _ in range(3)]
        assert [event["type"] for event in events] == ["MODIFIED", "MODIFIED", "DELETED"]
        assert events[1]["object"]["data"] == {"a": "1", "b": "2", "c": "3"}
        stream.release()
        page = await core.list_namespaced_config_map(namespace, limit=1)
        assert [each.metadata.name for each in page.items] == ["kube-root-ca.crt"]


async def test_kr8s(private: PrivateApi, api: client.CoreV1Api, namespace: str) -> None:
    cluster = await kr8s.asyncio.api(kubeconfig=str(private.kubeconfig), namespace=namespace)
    assert (await cluster.version())["minor"] == "34"
    pod = await Pod({"metadata": {"name": "p", "namespace": namespace}, "spec": POD}, api=cluster)
    await pod.create()
    assert await pod.exists()
    await pod.label({"q": "w"})
    assert [each.name async for each in cluster.get("pods", label_selector="q=w")] == ["p"]
    await pod.delete()
    await pod.wait("delete", timeout=20)
    assert not await pod.exists()
