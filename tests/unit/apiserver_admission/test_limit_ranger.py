"""LimitRanger: what is filled in, and every message of what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from bamikube.apiserver.admission.limit_ranger import LimitRanger

from .conftest import DictReader, admit, container, context, pod, refusal

RANGES = ("", "limitranges")


def limit(type: str = "Container", **rules: Any) -> dict[str, Any]:
    return {"type": type, **rules}


def put(reader: DictReader, *items: dict[str, Any], name: str = "r") -> None:
    reader.put(RANGES, {"metadata": {"name": name, "namespace": "default"}, "spec": {"limits": list(items)}})


async def test_nothing_happens_without_a_limit_range(reader: DictReader) -> None:
    plugin = LimitRanger(reader)
    assert await admit(plugin, context("pods", pod())) == pod()


async def test_what_is_left_out_is_filled_in_and_noted(reader: DictReader) -> None:
    plugin = LimitRanger(reader)
    put(reader, limit(default={"cpu": "500m", "memory": "1Gi"}, defaultRequest={"cpu": "100m"}))
    full = container("b", requests={"cpu": "1"}, limits={"cpu": "2", "memory": "2Gi"})
    made = await admit(
        plugin,
        context("pods", pod(containers=[container("a"), full], initContainers=[container("i")])),
    )
    first, second = made["spec"]["containers"]
    filled = {"requests": {"cpu": "100m"}, "limits": {"cpu": "500m", "memory": "1Gi"}}
    assert first["resources"] == filled == made["spec"]["initContainers"][0]["resources"]
    assert second == full
    assert made["metadata"]["annotations"] == {
        "kubernetes.io/limit-ranger": "LimitRanger plugin set: cpu request for container a; "
        "cpu, memory limit for container a; cpu request for init container i; "
        "cpu, memory limit for init container i"
    }


@pytest.mark.parametrize(
    ("item", "resources", "message"),
    [
        (
            limit(min={"cpu": "100m"}),
            {},
            "minimum cpu usage per Container is 100m.  No request is specified",
        ),
        (
            limit(min={"cpu": "100m"}),
            {"requests": {"cpu": "50m"}},
            "minimum cpu usage per Container is 100m, but request is 50m",
        ),
        (
            limit(max={"memory": "400M"}),
            {"limits": {"memory": "500M"}},
            "maximum memory usage per Container is 400M, but limit is 500M",
        ),
        (
            limit(max={"memory": "400M"}),
            {"requests": {"memory": "1M"}},
            "maximum memory usage per Container is 400M.  No limit is specified",
        ),
        (
            limit(maxLimitRequestRatio={"memory": "2"}),
            {"requests": {"memory": "128Mi"}, "limits": {"memory": "512Mi"}},
            "memory max limit to request ratio per Container is 2, but provided ratio is 4.000000",
        ),
        (
            limit(maxLimitRequestRatio={"memory": "2"}),
            {"limits": {"memory": "512Mi"}},
            "memory max limit to request ratio per Container is 2, but no request is specified or request is 0",
        ),
        (
            limit(max={"memory": "400M"}, maxLimitRequestRatio={"memory": "3"}),
            {"requests": {"memory": "100M"}, "limits": {"memory": "500M"}},
            "[maximum memory usage per Container is 400M, but limit is 500M, "
            "memory max limit to request ratio per Container is 3, but provided ratio is 5.000000]",
        ),
        (
            limit("Pod", max={"cpu": "1"}),
            {"requests": {"cpu": "2"}, "limits": {"cpu": "2"}},
            "maximum cpu usage per Pod is 1, but limit is 2",
        ),
    ],
)
async def test_refusals(reader: DictReader, item: Any, resources: Any, message: str) -> None:
    plugin = LimitRanger(reader)
    put(reader, item)
    error = await refusal(plugin, context("pods", pod(containers=[container("c", **resources)])))
    assert (error.code, error.message) == (403, f'pods "p" is forbidden: {message}')


async def test_the_same_words_are_said_once(reader: DictReader) -> None:
    plugin = LimitRanger(reader)
    put(reader, limit(min={"cpu": "100m"}))
    error = await refusal(plugin, context("pods", pod(containers=[container("a"), container("b")])))
    assert error.message == (
        'pods "p" is forbidden: minimum cpu usage per Container is 100m.  No request is specified'
    )


async def test_a_pod_is_its_containers_together(reader: DictReader) -> None:
    plugin = LimitRanger(reader)
    put(reader, limit("Pod", max={"cpu": "1"}))
    half = {"requests": {"cpu": "600m"}, "limits": {"cpu": "600m"}}
    await admit(plugin, context("pods", pod(containers=[container("a", **half)])))
    both = [container("a", **half), container("b", **half)]
    error = await refusal(plugin, context("pods", pod(containers=both)))
    assert error.message.endswith("maximum cpu usage per Pod is 1, but limit is 1200m")


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ("500Mi", "minimum storage usage per PersistentVolumeClaim is 1Gi, but request is 500Mi"),
        ("5Gi", "maximum storage usage per PersistentVolumeClaim is 2Gi, but request is 5Gi"),
        ("1500Mi", ""),
    ],
)
async def test_claims(reader: DictReader, size: str, message: str) -> None:
    plugin = LimitRanger(reader)
    put(reader, limit("PersistentVolumeClaim", min={"storage": "1Gi"}, max={"storage": "2Gi"}))
    claim = {
        "metadata": {"name": "c", "namespace": "default"},
        "spec": {"resources": {"requests": {"storage": size}}},
    }
    for operation in ("CREATE", "UPDATE"):
        ctx = context("persistentvolumeclaims", claim, operation, old=claim)
        if message:
            assert (
                await refusal(plugin, ctx)
            ).message == f'persistentvolumeclaims "c" is forbidden: {message}'
        else:
            await admit(plugin, ctx)


async def test_running_pods_are_left_alone_but_for_their_size(reader: DictReader) -> None:
    plugin = LimitRanger(reader)
    put(reader, limit(max={"cpu": "1"}))
    big = pod(containers=[container("c", limits={"cpu": "4"})])
    await admit(plugin, context("pods", big, "UPDATE", old=pod()))
    await admit(plugin, context("pods", big, "UPDATE", old=pod(), subresource="status"))
    error = await refusal(plugin, context("pods", big, "UPDATE", old=pod(), subresource="resize"))
    assert error.message.endswith("maximum cpu usage per Container is 1, but limit is 4")
    reader.drop(RANGES, "default", "r")
    await admit(plugin, context("pods", big, "UPDATE", old=pod(), subresource="resize"))
