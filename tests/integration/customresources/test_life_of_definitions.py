"""Definitions on real etcd: established, changed, in conflict, deleted, and the same on every API server."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.integration.apiserver.conftest import Api
from tests.integration.customresources.conftest import (
    CRDS,
    condition,
    cron,
    definition,
    established,
    gone,
    serving,
    settled,
    update,
)
from tests.support.etcd import EtcdServer

ALL = "/apis/stable.example.com/v1/crontabs"
ITEMS = "/apis/stable.example.com/v1/namespaces/default/crontabs"


async def test_a_definition_is_established_and_its_objects_are_served(api: Api) -> None:
    await api.get(ALL, 404)
    crd = await established(api, definition())
    assert condition(crd, "NamesAccepted") == "True"
    status = crd["status"]
    assert status["acceptedNames"] == {
        "plural": "crontabs",
        "singular": "crontab",
        "kind": "CronTab",
        "listKind": "CronTabList",
        "shortNames": ["cr"],
    }
    assert status["storedVersions"] == ["v1"]
    assert (await api.get(ALL)) | {"metadata": {}} == {
        "kind": "CronTabList",
        "apiVersion": "stable.example.com/v1",
        "metadata": {},
        "items": [],
    }
    watch = await api.watch(ITEMS)
    made = await api.post(ITEMS, cron(replicas=3))
    assert made["metadata"]["generation"] == 1 and made["spec"]["replicas"] == 3
    assert await watch.take(1) == [("ADDED", "a")]
    changed = await api.patch(f"{ITEMS}/a", {"spec": {"image": "x"}})
    assert changed["metadata"]["generation"] == 2
    same = await api.patch(f"{ITEMS}/a", {"spec": {"image": "x"}})
    assert same["metadata"]["resourceVersion"] == changed["metadata"]["resourceVersion"]
    await api.put(f"{ITEMS}/a", cron(), 422)  # an update names the version it replaces
    changed["spec"]["replicas"] = 4
    await api.put(f"{ITEMS}/a", changed)
    assert [event async for event in _events(watch, 2)] == ["MODIFIED", "MODIFIED"]
    assert (await api.delete(f"{ITEMS}/a"))["status"] == "Success"
    assert await watch.take(1) == [("DELETED", "a")]
    await api.post(ITEMS, cron("b"))
    await api.post(ITEMS, cron("c"))
    assert [one["metadata"]["name"] for one in (await api.delete(ITEMS))["items"]] == ["b", "c"]
    await watch.close()


async def _events(watch: Any, count: int) -> Any:
    for _ in range(count):
        yield (await watch.next())["type"]


async def test_names_that_are_taken_are_not_accepted_until_they_are_free(api: Api) -> None:
    await established(api, definition())
    second = definition(kind="CronJobTab")
    second["spec"]["names"] |= {"shortNames": ["cr", "cj"], "kind": "CronTab", "listKind": "CronJobTabList"}
    await api.post(CRDS, second)
    name = second["metadata"]["name"]
    crd = await settled(api, name, lambda obj: condition(obj, "NamesAccepted") == "False")
    found = {each["type"]: each for each in crd["status"]["conditions"]}
    assert found["NamesAccepted"]["reason"] == "KindConflict"
    assert found["NamesAccepted"]["message"] == '"CronTab" is already in use'
    assert found["Established"]["status"] == "False" and found["Established"]["reason"] == "NotAccepted"
    await api.get("/apis/stable.example.com/v1/cronjobtabs", 404)
    await api.delete(f"{CRDS}/crontabs.stable.example.com")
    crd = await settled(api, name, lambda obj: condition(obj, "Established") == "True")
    assert crd["status"]["acceptedNames"]["shortNames"] == ["cr", "cj"]
    await api.get("/apis/stable.example.com/v1/cronjobtabs")


async def test_a_deleted_definition_takes_its_objects_along(api: Api) -> None:
    await established(api, definition())
    name = "crontabs.stable.example.com"
    held = cron("held")
    held["metadata"]["finalizers"] = ["example.com/hold"]
    await api.post(ITEMS, held)
    await api.post(ITEMS, cron("free"))
    watch = await api.watch(ALL)
    assert await watch.take(2) == [("ADDED", "free"), ("ADDED", "held")]
    await api.delete(f"{CRDS}/{name}")
    crd = await settled(api, name, lambda obj: "InstanceDeletionInProgress" in str(obj["status"]))
    assert crd["metadata"]["finalizers"] == ["customresourcecleanup.apiextensions.k8s.io"]
    assert condition(crd, "Terminating") == "True"
    refused = await api.post(ITEMS, cron("late"), 405)
    assert refused["message"] == "create not allowed while custom resource definition is terminating"
    assert sorted(await watch.take(2)) == [("DELETED", "free"), ("MODIFIED", "held")]
    await api.patch(f"{ITEMS}/held", {"metadata": {"finalizers": None}})
    await gone(api, name)
    assert await watch.take(1) == [("DELETED", "held")]
    async with asyncio.timeout(5):
        async for _ in watch._chunks:  # the stream of a resource that is gone ends
            pass
    await api.get(ALL, 404)
    groups = [group["name"] for group in (await api.get("/apis"))["groups"]]
    assert "stable.example.com" not in groups
    await established(api, definition())  # and may come back, empty
    assert (await api.get(ALL))["items"] == []


async def test_a_changed_definition_takes_effect_at_once(api: Api) -> None:
    await established(api, definition())
    name = "crontabs.stable.example.com"
    await api.post(ITEMS, cron("a", replicas=10))
    watch = await api.watch(ITEMS)

    def widen(crd: dict[str, Any]) -> None:
        spec = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
        spec["properties"]["replicas"]["maximum"] = 20
        spec["properties"]["suspend"] = {"type": "boolean", "default": False}

    await update(api, name, widen)
    await api.post(ITEMS, cron("b", replicas=20))
    assert (await api.get(f"{ITEMS}/a"))["spec"]["suspend"] is False  # defaulted when read
    async with asyncio.timeout(5):
        async for _ in watch._chunks:  # who watched has to ask anew
            pass

    def stop(crd: dict[str, Any]) -> None:
        crd["spec"]["versions"][0]["served"] = False

    await update(api, name, stop)
    await api.get(ALL, 404)


async def test_defaults_come_and_go_with_the_schema(api: Api) -> None:
    name = "crontabs.stable.example.com"
    await established(api, definition())
    await api.post(ITEMS, cron("first"))

    def default(field: str) -> Any:
        def change(crd: dict[str, Any]) -> None:
            fields = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"][
                "properties"
            ]
            for each in ("image", "color"):
                fields[each].pop("default", None)
            fields[field]["default"] = f"default-{field}"

        return change

    await update(api, name, default("image"))
    assert (await api.get(f"{ITEMS}/first"))["spec"]["image"] == "default-image"
    await api.post(ITEMS, cron("second"))
    await update(api, name, default("color"))
    first, second = await api.get(f"{ITEMS}/first"), await api.get(f"{ITEMS}/second")
    assert second["spec"] == {
        "cronSpec": "* * * * *",
        "replicas": 1,
        "image": "default-image",
        "color": "default-color",
    }
    assert "image" not in first["spec"] and first["spec"]["color"] == "default-color"
    # An update that changes nothing still writes today's form down.
    written = await api.put(f"{ITEMS}/first", first)
    assert written["metadata"]["resourceVersion"] != first["metadata"]["resourceVersion"]
    again = await api.put(f"{ITEMS}/first", written)
    assert again["metadata"]["resourceVersion"] == written["metadata"]["resourceVersion"]


async def test_two_servers_agree(etcd: EtcdServer, prefix: str) -> None:
    async with serving(etcd, prefix) as one, serving(etcd, prefix) as two:
        await established(one, definition())
        await two.post(ITEMS, cron("a"))
        assert (await one.get(f"{ITEMS}/a"))["metadata"]["name"] == "a"

        def narrow(crd: dict[str, Any]) -> None:
            spec = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
            spec["properties"]["replicas"]["maximum"] = 2

        for turn in range(5):  # whatever the other server has decided holds for the very next write here
            server, other = (one, two) if turn % 2 else (two, one)
            await update(server, "crontabs.stable.example.com", narrow)
            answer = await other.post(ITEMS, cron(f"b{turn}", replicas=3), 422)
            assert "should be less than or equal to 2" in answer["message"]

            def widen(crd: dict[str, Any], most: int = 10 + turn) -> None:
                spec = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
                spec["properties"]["replicas"]["maximum"] = most

            await update(server, "crontabs.stable.example.com", widen)
            await other.post(ITEMS, cron(f"c{turn}", replicas=3))
        await two.delete(f"{CRDS}/crontabs.stable.example.com")
        await gone(one, "crontabs.stable.example.com")
        await one.get(ALL, 404)


async def test_objects_are_there_after_a_restart(etcd: EtcdServer, prefix: str) -> None:
    async with serving(etcd, prefix) as one:
        await established(one, definition())
        await one.post(ITEMS, cron("a"))
    async with serving(etcd, prefix) as again:
        assert [item["metadata"]["name"] for item in (await again.get(ALL))["items"]] == ["a"]
