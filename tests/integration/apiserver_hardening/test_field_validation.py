"""``fieldValidation`` wherever a body is decoded: each subresource, reviews, and every dialect of a patch."""

from __future__ import annotations

import base64
import json
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.support.kubectl import Kubectl, until

from .conftest import Answer, Wire

MERGE = {"Content-Type": "application/merge-patch+json"}
STRATEGIC = {"Content-Type": "application/strategic-merge-patch+json"}
APPLY = {"Content-Type": "application/apply-patch+yaml"}
POD = {
    "metadata": {"name": "p"},
    "spec": {"containers": [{"name": "c", "image": "i"}], "schedulerName": "nobody"},
}
CUSTOM = {
    "metadata": {"name": "odds.fields.example"},
    "spec": {
        "group": "fields.example",
        "scope": "Namespaced",
        "names": {"plural": "odds", "singular": "odd", "kind": "Odd"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "subresources": {
                    "status": {},
                    "scale": {"specReplicasPath": ".spec.n", "statusReplicasPath": ".status.n"},
                },
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "properties": {
                            part: {"type": "object", "properties": {"n": {"type": "integer"}}}
                            for part in ("spec", "status")
                        },
                    }
                },
            }
        ],
    },
}


def _warnings(answer: Answer) -> str:
    return answer.headers.get("Warning", "").replace("\\", "")


def _everywhere(
    wire: Wire, method: str, target: str, body: dict[str, Any], kind: str, code: int = 201
) -> None:
    """A body with a field ``odd``: refused under Strict, warned of by default and under Warn, passed under Ignore."""
    odd, mark = {**body, "odd": 1}, "&" if "?" in target else "?"
    group, _, name = kind.rpartition("/")
    strict = wire.send(method, f"{target}{mark}fieldValidation=Strict", odd)
    strict.must(
        400,
        f'{name} in version "{group}" cannot be handled as a {name}: strict decoding error: unknown field "odd"',
    )
    for more in ("", f"{mark}fieldValidation=Warn"):
        answer = wire.send(method, f"{target}{more}", odd)
        assert answer.status == code, answer.body
        assert '299 - "unknown field "odd""' in _warnings(answer), answer.headers
    ignored = wire.send(method, f"{target}{mark}fieldValidation=Ignore", odd)
    assert ignored.status == code and "odd" not in _warnings(ignored)
    wire.send(method, f"{target}{mark}fieldValidation=Some", body).must(
        422, "fieldValidation: Unsupported value"
    )


def _patches(wire: Wire, target: str, *dialects: dict[str, str]) -> None:
    """The same of a patch, whose outcome has the field. Under Strict 422."""
    mark = "&" if "?" in target else "?"
    for dialect in dialects:
        strict = wire.send("PATCH", f"{target}{mark}fieldValidation=Strict", {"spec": {"odd": 1}}, dialect)
        strict.must(422, 'strict decoding error: unknown field "spec.odd"')
        answer = wire.send("PATCH", target, {"spec": {"odd": 1}}, dialect)
        assert answer.status == 200, answer.body
        assert 'unknown field "spec.odd"' in _warnings(answer)
        twice = wire.send("PATCH", target, b'{"metadata":{"labels":null},"metadata":{}}', dialect)
        assert 'duplicate field "metadata"' in _warnings(twice), twice.headers
        ignored = wire.send("PATCH", f"{target}{mark}fieldValidation=Ignore", {"spec": {"odd": 1}}, dialect)
        assert ignored.status == 200 and "odd" not in _warnings(ignored)


def test_parts_of_a_pod(wire: Wire, kubectl: Kubectl, namespace: str) -> None:
    until(lambda: "default" in kubectl("get", "serviceaccounts"))
    pods = f"/api/v1/namespaces/{namespace}/pods"
    pod = wire.send("POST", pods, POD).must(201)
    del pod["metadata"]["resourceVersion"]
    for part in ("ephemeralcontainers", "resize"):
        _everywhere(wire, "PUT", f"{pods}/p/{part}", pod, "v1/Pod", 200)
        _patches(wire, f"{pods}/p/{part}", MERGE, STRATEGIC)
        wire.send("PUT", f"{pods}/p/{part}", {**pod, "kind": "Service"}).must(400, "cannot be handled as a")
    _everywhere(wire, "PUT", f"{pods}/p/status", pod, "v1/Pod", 200)
    _patches(wire, f"{pods}/p/status", MERGE, STRATEGIC)
    done = kubectl.run("patch", "pod", "p", "--subresource=resize", "-p", '{"spec":{"odd":1}}')
    assert done.returncode == 0 and 'Warning: unknown field "spec.odd"' in done.stderr
    text = json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}})[:-1].encode()
    twice = text + b',"spec":{},"spec":{"containers":[{"name":"c","resources":{"limits":{"cpu":"1"}}}]}}'
    resize = f"{pods}/p/resize?fieldManager=m&force=true"
    wire.send("PATCH", f"{resize}&fieldValidation=Strict", twice, APPLY).must(
        400, '"spec" already set in map'
    )
    assert '"spec" already set in map' in _warnings(wire.send("PATCH", resize, twice, APPLY))


def test_bodies_of_another_kind_than_their_object(wire: Wire, kubectl: Kubectl, namespace: str) -> None:
    until(lambda: "default" in kubectl("get", "serviceaccounts"))
    root = f"/api/v1/namespaces/{namespace}"
    wire.send("POST", f"{root}/pods", POD).must(201)
    binding = {"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n"}}
    _everywhere(wire, "POST", f"{root}/pods/p/binding?dryRun=All", binding, "v1/Binding")
    _everywhere(wire, "POST", f"{root}/bindings?dryRun=All", binding, "v1/Binding")
    eviction = {"metadata": {"name": "p"}}
    _everywhere(wire, "POST", f"{root}/pods/p/eviction?dryRun=All", eviction, "v1/Eviction")
    older = {"apiVersion": "policy/v1beta1", "kind": "Eviction", **eviction}
    wire.send("POST", f"{root}/pods/p/eviction?dryRun=All", older).must(201)
    wire.send("POST", f"{root}/pods/p/eviction?dryRun=All", {**older, "kind": "Pod"}).must(
        400, "cannot be handled as a"
    )
    token = {"spec": {"expirationSeconds": 600}}
    _everywhere(wire, "POST", f"{root}/serviceaccounts/default/token", token, "v1/TokenRequest")
    wrong = wire.send("POST", f"{root}/serviceaccounts/default/token", {"spec": {"expirationSeconds": "x"}})
    wrong.must(
        400, 'TokenRequest in version "v1" cannot be handled as a TokenRequest: json: cannot unmarshal'
    )


def test_reviews(wire: Wire) -> None:
    wish = {"spec": {"resourceAttributes": {"verb": "get", "resource": "pods"}}}
    reviews = "/apis/authorization.k8s.io/v1"
    _everywhere(wire, "POST", f"{reviews}/selfsubjectaccessreviews", wish, "v1/SelfSubjectAccessReview")
    rules = {"spec": {"namespace": "default"}}
    _everywhere(wire, "POST", f"{reviews}/selfsubjectrulesreviews", rules, "v1/SelfSubjectRulesReview")
    token = {"spec": {"token": "x"}}
    _everywhere(wire, "POST", "/apis/authentication.k8s.io/v1/tokenreviews", token, "v1/TokenReview")


def test_approval_and_finalize(wire: Wire, namespace: str) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    pem = base64.b64encode(request.public_bytes(serialization.Encoding.PEM)).decode()
    path, name = "/apis/certificates.k8s.io/v1/certificatesigningrequests", f"{namespace}-odd"
    spec = {"request": pem, "signerName": "example.com/signer", "usages": ["client auth"]}
    made = wire.send("POST", path, {"metadata": {"name": name}, "spec": spec}).must(201)
    del made["metadata"]["resourceVersion"]
    kind = "v1/CertificateSigningRequest"
    _everywhere(wire, "PUT", f"{path}/{name}/approval", made, kind, 200)
    _patches(wire, f"{path}/{name}/approval", MERGE, STRATEGIC)
    space = wire.send("GET", f"/api/v1/namespaces/{namespace}").must(200)
    del space["metadata"]["resourceVersion"]
    _everywhere(wire, "PUT", f"/api/v1/namespaces/{namespace}/finalize", space, "v1/Namespace", 200)


def test_scales(wire: Wire, kubectl: Kubectl, namespace: str) -> None:
    wire.send("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", CUSTOM).must(201)
    odds = f"/apis/fields.example/v1/namespaces/{namespace}/odds"
    until(lambda: wire.send("GET", odds).status == 200)
    custom = {"apiVersion": "fields.example/v1", "kind": "Odd", "metadata": {"name": "s"}, "spec": {"n": 1}}
    wire.send("POST", odds, custom).must(201)
    deployments = f"/apis/apps/v1/namespaces/{namespace}/deployments"
    template = {"metadata": {"labels": {"a": "b"}}, "spec": POD["spec"]}
    spec = {"replicas": 1, "selector": {"matchLabels": {"a": "b"}}, "template": template}
    del template["spec"]["schedulerName"]  # type: ignore[attr-defined]
    wire.send("POST", deployments, {"metadata": {"name": "s"}, "spec": spec}).must(201)
    for collection in (odds, deployments):
        target = f"{collection}/s/scale"
        scale = wire.send("GET", target).must(200)
        del scale["metadata"]["resourceVersion"]
        _everywhere(wire, "PUT", target, scale, "v1/Scale", 200)
        _patches(wire, target, MERGE)
        wire.send("PUT", target, {**scale, "kind": "Deployment"}).must(400, "cannot be handled as a")
    custom = wire.send("GET", f"{odds}/s").must(200)  # an update of it names its version
    _everywhere(wire, "PUT", f"{odds}/s/status?dryRun=All", custom, "v1/Odd", 200)
    _patches(wire, f"{deployments}/s/scale", STRATEGIC)
    done = kubectl.run(
        "patch", "deployment", "s", "--subresource=scale", "--type=merge", "-p", '{"spec":{"odd":1}}'
    )
    assert done.returncode == 0 and 'Warning: unknown field "spec.odd"' in done.stderr


def test_who_is_refused_afterwards_hears_of_unknown_fields_too(wire: Wire, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/services"
    refused = wire.send("POST", path, {"metadata": {"name": "S"}, "odd": 1})
    assert refused.status == 422 and 'unknown field "odd"' in _warnings(refused)
