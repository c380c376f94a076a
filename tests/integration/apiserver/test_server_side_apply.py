"""Server-side apply and managedFields over real etcd, request by request."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import yaml

from tests.integration.apiserver.conftest import Api

APPLY = "application/apply-patch+yaml"
DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"
MAPS = "/api/v1/namespaces/default/configmaps"
SERVICES = "/api/v1/namespaces/default/services"


def web(image: str = "a", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web"},
        "spec": {
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "web", "image": image}]},
            },
            **spec,
        },
    }


def config(data: dict[str, str], **metadata: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m", **metadata}, "data": data}


async def apply(
    api: Api, target: str, doc: Any, manager: str = "me", code: int = 200, more: str = "", **headers: str
) -> Any:
    joint = "&" if "?" in target else "?"
    path = f"{target}{joint}fieldManager={manager}{more}"
    return await api.call("PATCH", path, doc, code, content_type=APPLY, **headers)


def managers(obj: dict[str, Any]) -> list[tuple[str, str, str]]:
    return [
        (one["manager"], one["operation"], one.get("subresource", ""))
        for one in obj["metadata"].get("managedFields") or ()
    ]


async def test_apply_creates_and_then_writes_nothing_when_nothing_changes(api: Api) -> None:
    made = await apply(api, f"{DEPLOYMENTS}/web", web(replicas=2), code=201)
    assert managers(made) == [("me", "Apply", "")] and made["metadata"]["generation"] == 1
    assert await apply(api, f"{DEPLOYMENTS}/web", web(replicas=2)) == made, "the very same object and version"
    text = yaml.safe_dump(web(replicas=3)).encode()
    changed = await apply(api, f"{DEPLOYMENTS}/web", text)
    assert changed["spec"]["replicas"] == 3 and changed["metadata"]["generation"] == 2
    bare = b"apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec:\n  replicas: 3\n"
    refused = await apply(api, f"{DEPLOYMENTS}/web", bare, code=422)
    assert "spec.selector" in refused["message"], "what is required cannot be given up"


async def test_conflicts_are_named_and_can_be_forced(api: Api) -> None:
    await apply(api, f"{DEPLOYMENTS}/web", web(replicas=2), "one", 201)
    refused = await apply(api, f"{DEPLOYMENTS}/web", web("b", replicas=3), "two", 409)
    path = '.spec.template.spec.containers[name="web"].image'
    assert refused["reason"] == "Conflict"
    assert refused["message"] == (
        f'Apply failed with 2 conflicts: conflicts with "one":\n- .spec.replicas\n- {path}'
    )
    assert refused["details"]["causes"] == [
        {"reason": "FieldManagerConflict", "message": 'conflict with "one"', "field": ".spec.replicas"},
        {"reason": "FieldManagerConflict", "message": 'conflict with "one"', "field": path},
    ]
    forced = await apply(api, f"{DEPLOYMENTS}/web", web("b", replicas=3), "two", more="&force=true")
    assert forced["spec"]["replicas"] == 3
    # The first one may go on with what is still his, or come to the same mind.
    await apply(api, f"{DEPLOYMENTS}/web", web("b", replicas=3), "one")
    # A dry run finds conflicts, too, and writes nothing.
    await apply(api, f"{DEPLOYMENTS}/web", web("c"), "three", 409, "&dryRun=All")
    await apply(api, f"{DEPLOYMENTS}/web", web("c"), "three", more="&dryRun=All&force=true")
    read = await api.get(f"{DEPLOYMENTS}/web")
    assert read["spec"]["template"]["spec"]["containers"][0]["image"] == "b"


async def test_given_up_fields_go_or_get_their_default(api: Api) -> None:
    doc = web(replicas=3, minReadySeconds=5)
    doc["spec"]["template"]["spec"]["containers"][0]["ports"] = [{"containerPort": 80}, {"containerPort": 81}]
    await apply(api, f"{DEPLOYMENTS}/web", doc, code=201)
    doc["metadata"]["labels"] = {"a": "b"}  # the only thing anybody owns of the metadata
    await apply(api, f"{DEPLOYMENTS}/web", doc)
    left = await apply(api, f"{DEPLOYMENTS}/web", web())
    assert left["metadata"]["name"] == "web" and "labels" not in left["metadata"]
    assert left["spec"]["replicas"] == 1 and "minReadySeconds" not in left["spec"]
    assert "ports" not in left["spec"]["template"]["spec"]["containers"][0]


@pytest.mark.parametrize(
    ("query", "code", "message"),
    [
        (
            "",
            422,
            'PatchOptions.meta.k8s.io "" is invalid: fieldManager: Required value: is required for apply patch',
        ),
        (f"?fieldManager={'m' * 129}", 422, "fieldManager: Too long: may not be more than 128 bytes"),
        ("?fieldManager=a%0Ab", 422, "should only contain printable characters"),
    ],
)
async def test_a_manager_must_be_named(api: Api, query: str, code: int, message: str) -> None:
    doc = config({"a": "b"})
    answer = await api.call("PATCH", f"{MAPS}/m{query}", doc, code, content_type=APPLY)
    assert message in answer["message"]


async def test_force_is_for_applies_only(api: Api) -> None:
    await api.post(MAPS, config({}))
    answer = await api.patch(f"{MAPS}/m?force=true", {}, 422)
    assert "force: Forbidden: may not be specified for non-apply patch" in answer["message"]
    long = await api.post(f"{MAPS}?fieldManager={'m' * 129}", config({}), 422)
    assert long["message"].startswith('CreateOptions.meta.k8s.io "" is invalid: fieldManager: Too long')


@pytest.mark.parametrize(
    ("doc", "message"),
    [
        (b"{", "YAML"),
        (b"[]", "cannot unmarshal array into Go value of type map"),
        (b"a: [", "YAML"),
        (config({}) | {"apiVersion": "v2"}, "incorrect version specified in apply patch. Specified patch version: v2, expected: v1"),
        ({"kind": "ConfigMap"}, "incorrect version specified in apply patch"),
        (config({}) | {"kind": "Secret"}, "does not match the kind"),
        (config({}, managedFields=[]), "metadata.managedFields must be nil"),
        (config({}, name="other"), "does not match the name on the URL"),
        (config({}, namespace="other"), "does not match the namespace"),
        (config({}) | {"metadata": []}, "metadata must be an object"),
        (config({}) | {"nope": 1}, "(default/m; /v1, Kind=ConfigMap): .nope: field not declared in schema"),
        (config({"a": 1}), ".data.a: expected string, got &value.valueUnstructured{Value:1}"),  # type: ignore[dict-item]
        (config({}) | {"immutable": "x"}, '.immutable: expected boolean, got &value.valueUnstructured{Value:"x"}'),
        (config({}) | {"data": []}, ".data: expected map, got"),
        (config({}, finalizers="x"), ".metadata.finalizers: expected list, got"),
        (config({}, finalizers=["a/b", "a/b"]), '.metadata.finalizers: duplicate entries for key [="a/b"]'),
        (config({}, ownerReferences=[{"name": "x"}]), 'omits key field "uid"'),
        (config({}, generation="x", nope=1), "errors:\n  .metadata.generation: expected numeric (int or float), got string\n  .metadata.nope: field not declared in schema"),
    ],
)  # fmt: skip
async def test_documents_that_do_not_fit(api: Api, doc: Any, message: str) -> None:
    answer = await apply(api, f"{MAPS}/m", doc, code=400)
    assert message in answer["message"], answer["message"]


@pytest.mark.parametrize(
    "body",
    [
        b'{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"m"},"data":'
        + b'{"a":' * 9000
        + b"1"
        + b"}" * 9001,
        b"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: m}\ndata: " + b"[" * 9000,
        b"a: &a [x,x]\nb: &b [*a,*a]\nc: &c [*b,*b]\nd: " + b"[*c," * 1000,
        b"\x00\xff\xfe",
        b"null",
        b"",
        b"- 1\n- 2\n",
    ],
)
async def test_bodies_that_are_no_documents(api: Api, body: bytes) -> None:
    answer = await apply(api, f"{MAPS}/m", body, code=400)
    assert answer["reason"] == "BadRequest"


async def test_duplicate_keys_warn_or_refuse(api: Api) -> None:
    doc = b'{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"m"},"data":{"a":"1","a":"2"}}'
    strict = await apply(api, f"{MAPS}/m", doc, code=400, more="&fieldValidation=Strict")
    assert "already set in map" in strict["message"]
    answer = await api.raw("PATCH", f"{MAPS}/m?fieldManager=me", doc, content_type=APPLY)
    assert answer.status == 201 and 'line 1: key \\"a\\" already set in map' in answer.headers["Warning"]


async def test_preconditions(api: Api) -> None:
    assert (await apply(api, f"{MAPS}/m", config({}, uid="u"), code=409))["reason"] == "Conflict"
    await apply(api, f"{MAPS}/m", config({}, resourceVersion="7"), code=404)
    made = await apply(api, f"{MAPS}/m", config({"a": "b"}), code=201)
    await apply(api, f"{MAPS}/m", config({}, resourceVersion="1"), code=409)
    other = await apply(api, f"{MAPS}/m", config({}, uid="other"), code=422)
    assert other["details"]["causes"][0]["field"] == "metadata.uid"
    kept = {name: made["metadata"][name] for name in ("uid", "resourceVersion")}
    await apply(api, f"{MAPS}/m", config({"a": "c"}, **kept))


async def test_whoever_applies_what_is_not_there_must_be_allowed_to_create(api: Api) -> None:
    rules = [
        {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["patch"]},
        {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["update"]},
    ]
    rbac = "/apis/rbac.authorization.k8s.io/v1/namespaces/default"
    await api.post(f"{rbac}/roles", {"metadata": {"name": "patcher"}, "rules": rules})
    binding = {
        "metadata": {"name": "patcher"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "patcher"},
        "subjects": [{"kind": "User", "name": "eve", "apiGroup": "rbac.authorization.k8s.io"}],
    }
    await api.post(f"{rbac}/rolebindings", binding)
    refused = await apply(api, f"{MAPS}/m", config({}), "eve", 403, x_test_user="eve")
    assert "cannot create resource" in refused["message"]
    await apply(api, f"{MAPS}/m", config({}), "me", 201)
    await apply(api, f"{MAPS}/m", config({"a": "b"}), "eve", x_test_user="eve")
    # The same holds for a PUT that would create.
    leases = "/apis/coordination.k8s.io/v1/namespaces/default/leases"
    lease = {"metadata": {"name": "l"}, "spec": {"holderIdentity": "eve"}}
    refused = await api.put(f"{leases}/l", lease, 403, x_test_user="eve")
    assert 'cannot create resource "leases"' in refused["message"]


async def test_subresources_have_managers_of_their_own(api: Api) -> None:
    await apply(api, f"{DEPLOYMENTS}/web", web(replicas=1), "kubectl", 201)
    status = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web"},
        "spec": {"replicas": 9},
        "status": {"replicas": 4},
    }
    shown = await apply(api, f"{DEPLOYMENTS}/web/status", status, "watcher")
    assert (shown["spec"]["replicas"], shown["status"]["replicas"]) == (1, 4)
    entry = next(one for one in shown["metadata"]["managedFields"] if one.get("subresource") == "status")
    assert entry["fieldsV1"] == {"f:status": {"f:replicas": {}}}
    # On the object itself a status is nobody's.
    again = await apply(api, f"{DEPLOYMENTS}/web", web(replicas=1) | {"status": {"replicas": 7}}, "kubectl")
    assert (
        again["status"]["replicas"] == 4
        and again["metadata"]["managedFields"] == shown["metadata"]["managedFields"]
    )
    scale = {
        "apiVersion": "autoscaling/v1",
        "kind": "Scale",
        "metadata": {"name": "web"},
        "spec": {"replicas": 5},
    }
    refused = await apply(api, f"{DEPLOYMENTS}/web/scale", scale, "hpa", 409)
    assert refused["message"] == 'Apply failed with 1 conflict: conflict with "kubectl": .spec.replicas'
    assert (await apply(api, f"{DEPLOYMENTS}/web/scale", scale, "hpa", more="&force=true"))["spec"] == {
        "replicas": 5
    }
    read = await api.get(f"{DEPLOYMENTS}/web")
    assert ("hpa", "Apply", "scale") in managers(read) and read["spec"]["replicas"] == 5
    await api.put(
        f"{DEPLOYMENTS}/web/scale?fieldManager=human", {"metadata": {"name": "web"}, "spec": {"replicas": 6}}
    )
    assert ("human", "Update", "scale") in managers(await api.get(f"{DEPLOYMENTS}/web"))
    wrong = await apply(api, f"{DEPLOYMENTS}/web/scale", scale | {"kind": "Deployment"}, "hpa", 400)
    assert "incorrect version" in wrong["message"]
    unknown = await apply(api, f"{DEPLOYMENTS}/web/scale", scale | {"spec": {"x": 1}}, "hpa", 400)
    assert ".spec.x: field not declared in schema" in unknown["message"]
    await apply(api, f"{DEPLOYMENTS}/none/status", status | {"metadata": {"name": "none"}}, "w", 404)


async def test_plain_writes_keep_managers_whatever_they_are(api: Api) -> None:
    """Create, replace and every kind of patch; by parameter or by User-Agent; never lost, never doubled."""
    made = await api.post(DEPLOYMENTS, web(replicas=1), user_agent="maker/1.0 (linux)")
    assert managers(made) == [("maker", "Update", "")]
    replaced = await api.put(f"{DEPLOYMENTS}/web?fieldManager=putter", web("b", replicas=1))
    assert managers(replaced) == [("maker", "Update", ""), ("putter", "Update", "")]
    patches: list[tuple[str, Any]] = [
        ("merge-patch+json", {"spec": {"replicas": 2}}),
        ("json-patch+json", [{"op": "replace", "path": "/spec/replicas", "value": 3}]),
        ("strategic-merge-patch+json", {"spec": {"replicas": 4}}),
    ]
    for kind, patch in patches:
        name = kind.partition("-")[0]
        done = await api.patch(f"{DEPLOYMENTS}/web?fieldManager={name}", patch, kind=kind)
        assert managers(done)[-1] == (name, "Update", "") or (name, "Update", "") in managers(done)
        owners = [
            one["manager"]
            for one in done["metadata"]["managedFields"]
            if "f:replicas" in one["fieldsV1"]["f:spec"]
        ]
        assert owners == [name], "a field has one updater"
    before = await api.get(f"{DEPLOYMENTS}/web")
    same = await api.patch(f"{DEPLOYMENTS}/web?fieldManager=idle", {"spec": {"replicas": 4}})
    assert same == before, "who changes nothing is not remembered, and nothing is written"
    listed = await api.get(f"{DEPLOYMENTS}?limit=1")
    assert listed["items"][0]["metadata"]["managedFields"] == before["metadata"]["managedFields"]


async def test_managers_can_be_reset_and_edited(api: Api) -> None:
    await apply(api, f"{MAPS}/m", config({"a": "b"}), code=201)
    reset = await api.patch(f"{MAPS}/m", {"metadata": {"managedFields": [{}]}})
    assert "managedFields" not in reset["metadata"]
    still = await api.patch(f"{MAPS}/m?fieldManager=x", {"data": {"c": "d"}})
    assert "managedFields" not in still["metadata"]
    again = await apply(api, f"{MAPS}/m", config({"a": "b"}))
    assert managers(again) == [("me", "Apply", ""), ("before-first-apply", "Update", "")]
    refused = await apply(api, f"{MAPS}/m", config({"c": "e"}), code=409)
    assert 'conflict with "before-first-apply" using v1 at ' in refused["message"]
    entry = again["metadata"]["managedFields"][0] | {"manager": "renamed"}
    edited = await api.patch(f"{MAPS}/m", {"metadata": {"managedFields": [entry]}})
    assert managers(edited) == [("renamed", "Apply", "")]
    # A client that knows nothing of managers takes nothing away.
    edited["metadata"].pop("managedFields")
    edited["data"]["c"] = "f"
    assert managers(await api.put(f"{MAPS}/m?fieldManager=old", edited)) == [
        ("renamed", "Apply", ""),
        ("old", "Update", ""),
    ]
    entry["fieldsV1"] = {"strange": {}}
    kept = await api.patch(f"{MAPS}/m", {"metadata": {"managedFields": [entry]}})
    assert managers(kept) == [("renamed", "Apply", ""), ("old", "Update", "")]


async def test_many_who_apply_at_once_lose_nothing(api: Api) -> None:
    """Each brings a key of his own, all at the same time, and the object is not there yet."""

    async def bring(number: int) -> int:
        answer = await api.raw(
            "PATCH", f"{MAPS}/m?fieldManager=m{number}", config({f"k{number}": "v"}), content_type=APPLY
        )
        return int(answer.status)

    codes = await asyncio.gather(*(bring(number) for number in range(8)))
    assert sorted(codes) == [200] * 7 + [201]
    read = await api.get(f"{MAPS}/m")
    assert read["data"] == {f"k{number}": "v" for number in range(8)}
    assert len(managers(read)) == 8


async def test_kinds_with_two_shapes_are_compared_in_their_own(api: Api) -> None:
    v1 = "/apis/autoscaling/v1/namespaces/default/horizontalpodautoscalers"
    v2 = "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers"
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}
    old = {
        "apiVersion": "autoscaling/v1",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "h"},
        "spec": {"maxReplicas": 5, "targetCPUUtilizationPercentage": 50, "scaleTargetRef": target},
    }
    await apply(api, f"{v1}/h", old, "old", 201)
    new = {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "h"},
        "spec": {"maxReplicas": 7, "scaleTargetRef": target},
    }
    refused = await apply(api, f"{v2}/h", new, "new", 409)
    assert refused["message"] == 'Apply failed with 1 conflict: conflict with "old": .spec.maxReplicas'
    taken = await apply(api, f"{v2}/h", new, "new", more="&force=true")
    assert taken["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"] == 50
    entries = {one["manager"]: one["apiVersion"] for one in taken["metadata"]["managedFields"]}
    assert entries == {"old": "autoscaling/v1", "new": "autoscaling/v2"}


async def test_services_keep_what_was_allocated(api: Api) -> None:
    doc = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "s"},
        "spec": {"type": "NodePort", "selector": {"a": "b"}, "ports": [{"port": 80}]},
    }
    made = await apply(api, f"{SERVICES}/s", doc, code=201)
    assert await apply(api, f"{SERVICES}/s", doc) == made
    doc["spec"]["ports"].append({"port": 443, "name": "tls"})  # type: ignore[index]
    doc["spec"]["ports"][0]["name"] = "http"  # type: ignore[index]
    grown = await apply(api, f"{SERVICES}/s", doc)
    assert grown["spec"]["clusterIP"] == made["spec"]["clusterIP"]
    assert grown["spec"]["ports"][0]["nodePort"] == made["spec"]["ports"][0]["nodePort"]


async def test_a_part_of_a_pod_is_applied_by_its_own_endpoint(api: Api) -> None:
    pods = "/api/v1/namespaces/default/pods"
    await api.post("/api/v1/namespaces/default/serviceaccounts", {"metadata": {"name": "default"}})
    base = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}}
    await apply(api, f"{pods}/p", base | {"spec": {"containers": [{"name": "c", "image": "i"}]}}, code=201)
    debug = base | {"spec": {"ephemeralContainers": [{"name": "debug", "image": "busybox"}]}}
    done = await apply(api, f"{pods}/p/ephemeralcontainers", debug, "debugger")
    assert done["spec"]["ephemeralContainers"][0]["image"] == "busybox"
    assert ("debugger", "Apply", "ephemeralcontainers") in managers(done)
    bound = {"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n"}}
    await api.post(f"{pods}/p/binding", bound)
    read = await api.get(f"{pods}/p")
    assert read["spec"]["nodeName"] == "n" and len(managers(read)) == 2, "the server binds; nobody owns that"


async def test_the_finalizers_of_a_namespace_are_set_by_somebody(api: Api) -> None:
    made = await api.post("/api/v1/namespaces", {"metadata": {"name": "gone"}})
    body = {"metadata": {"name": "gone"}, "spec": {"finalizers": ["kubernetes", "x/y"]}}
    done = await api.put("/api/v1/namespaces/gone/finalize?fieldManager=closer", body)
    assert ("closer", "Update", "finalize") in managers(done), made
