"""Objects made from the schema with strange values, for every kind: whatever happens, it is no 5xx.

Hypothesis chooses (and shrinks what fails); ``FOUND`` keeps what it found. Objects go through the whole server, over
TLS: decoding, defaulting, validation, admission, storage, tables, protobuf.
"""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bamikube.api import table
from bamikube.api.resources import Resource

from .conftest import Wire
from .strange import strange

ROWS = [row for row in table.TABLE if row.definition and (not row.virtual or "create" in row.verbs)]
TABLE_OF = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}
PROTOBUF = {"Accept": "application/vnd.kubernetes.protobuf"}
STRATEGIC = {"Content-Type": "application/strategic-merge-patch+json"}
SERVER_SET = (
    "resourceVersion", "namespace", "generateName", "ownerReferences", "finalizers", "creationTimestamp",
    "deletionTimestamp", "deletionGracePeriodSeconds", "uid", "selfLink", "managedFields", "generation",
)  # fmt: skip

_POD = {"containers": [{"name": "c", "image": "i"}]}
_JOB = {"template": {"spec": _POD | {"restartPolicy": "Never"}}}
FOUND: list[tuple[str, dict[str, Any]]] = [
    # A null in a list was taken for an object.
    ("/apis/rbac.authorization.k8s.io/v1/namespaces/default/roles", {"rules": [None]}),
    ("/api/v1/namespaces/default/endpoints", {"subsets": [None]}),
    ("/api/v1/namespaces/default/endpoints", {"subsets": [{"addresses": [None], "ports": [None]}]}),
    ("/apis/batch/v1/namespaces/default/jobs",
     {"spec": _JOB | {"podFailurePolicy": {"rules": [{"action": "Ignore", "onPodConditions": [None]}]}}}),
    ("/api/v1/namespaces/default/pods", {"spec": {"containers": [None], "volumes": [None], "tolerations": [None]}}),
    ("/api/v1/namespaces/default/services", {"spec": {"ports": [None], "externalIPs": [None]}}),
    # Bodies of reviews were not checked against their schema.
    ("/apis/authorization.k8s.io/v1/subjectaccessreviews", {"spec": {"groups": 1.5, "user": "a"}}),
    ("/apis/authorization.k8s.io/v1/subjectaccessreviews", {"spec": {"extra": [], "user": "a"}}),
    ("/apis/authentication.k8s.io/v1/tokenreviews", {"spec": []}),
    ("/api/v1/namespaces/default/serviceaccounts/default/token", {"spec": {"audiences": 5}}),
    ("/api/v1/namespaces/default/pods/x/eviction", {"deleteOptions": []}),
    ("/api/v1/namespaces/default/pods/x/binding", {"target": []}),
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(FOUND)))
def test_what_was_found(wire: Wire, number: int) -> None:
    path, body = FOUND[number]
    wire.send("POST", f"{path}?dryRun=All", {"metadata": {"name": "x"}} | body).check()


def collection(row: Resource) -> str:
    root = f"/apis/{row.group}/{row.version}" if row.group else f"/api/{row.version}"
    return f"{root}/namespaces/default/{row.plural}" if row.namespaced else f"{root}/{row.plural}"


def made(random: Random, row: Resource, name: str) -> dict[str, Any]:
    """A strange object that at least has the right kind and name, most of the time."""
    obj = strange(random, row.definition)
    obj = obj if isinstance(obj, dict) else {}
    metadata = obj.get("metadata")
    if isinstance(metadata, dict) and random.random() < 0.8:
        metadata = {key: value for key, value in metadata.items() if key not in SERVER_SET}
    if not isinstance(metadata, dict) or random.random() < 0.95:
        metadata = (metadata if isinstance(metadata, dict) else {}) | {"name": name}
    return obj | {"kind": row.kind, "apiVersion": row.api_version, "metadata": metadata}


@settings(
    max_examples=1500, deadline=None, derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large,
                           HealthCheck.large_base_example, HealthCheck.filter_too_much],
)  # fmt: skip
@given(row=st.sampled_from(ROWS), seed=st.integers(0, 2**32))
def test_strange_objects_of_every_kind(wire: Wire, row: Resource, seed: int) -> None:
    random = Random(seed)
    name = f"strange-{seed}"
    path = collection(row)
    answer = wire.send("POST", path, made(random, row, name))
    answer.check()
    if answer.status != 201 or row.virtual:
        return
    item = f"{path}/{name}"
    change = strange(random, row.definition)
    for key in ("metadata", "kind", "apiVersion"):
        change.pop(key, None)
    wire.send("PATCH", item, change, STRATEGIC).check()
    if "status" in row.subresources:
        wire.send("PUT", f"{item}/status", made(random, row, name)).check()
    for headers in (TABLE_OF, PROTOBUF):
        assert wire.send("GET", item, None, headers).status < 500
    wire.send("DELETE", f"{item}?gracePeriodSeconds=0").check()


_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


@settings(max_examples=1500, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    method=st.sampled_from(["GET", "POST", "PUT", "PATCH", "DELETE"]),
    parts=st.lists(
        st.sampled_from(
            ["api", "apis", "v1", "apps", "namespaces", "default", "pods", "nodes", "watch", "status", "log", "x", "..",
             "%2F", "%00", "%ff", "deployments", "scale", "services", "binding", "token", "serviceaccounts", "openapi"]
        ),
        max_size=8,
    ),
    query=st.lists(
        st.tuples(
            st.sampled_from(["limit", "continue", "labelSelector", "fieldSelector", "resourceVersion", "dryRun",
                             "fieldValidation", "pretty", "container", "tailLines", "propagationPolicy"]),
            st.sampled_from(["", "0", "1", "-1", "true", "All", "%00", "%ff", "a%3Db", "a in (", "()", "9" * 30, "%"]),
        ),
        max_size=3,
    ),
    body=st.one_of(st.none(), st.binary(max_size=60), st.recursive(
        st.none() | st.booleans() | st.integers() | _TEXT,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXT, inner, max_size=3), max_leaves=8)),
    media=st.sampled_from(["application/json", "application/yaml", "application/vnd.kubernetes.protobuf",
                           "application/json-patch+json", "application/merge-patch+json",
                           "application/strategic-merge-patch+json", ""]),
)  # fmt: skip
def test_random_requests(
    wire: Wire, method: str, parts: list[str], query: list[tuple[str, str]], body: Any, media: str
) -> None:
    words = [f"{name}={value}" for name, value in query]
    target = "/" + "/".join(parts) + ("?" + "&".join(words).replace(" ", "+") if words else "")
    if method == "DELETE" and parts[-1:] in (["namespaces"], ["default"], ["nodes"]):
        method = "GET"  # what the other tests stand on stays
    if "watch" in parts:
        target += ("&" if "?" in target else "?") + "timeoutSeconds=1"
    answer = wire.send(method, target, body, {"Content-Type": media})
    if answer.status == 504:
        assert "Too large resource version" in answer.message
        return
    answer.check()


def test_nothing_was_logged_as_a_fault(wire: Wire) -> None:
    assert "Traceback" not in wire.api.log("apiserver")
