"""``x-kubernetes-validations`` as kubectl and the official client meet them."""

from __future__ import annotations

import json

import pytest
from kubernetes import client

from tests.support.kubectl import Kubectl

DEFINITION = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: gadgets.rules.example.com}
spec:
  group: rules.example.com
  scope: Namespaced
  names: {plural: gadgets, singular: gadget, kind: Gadget}
  versions:
  - name: v1
    served: true
    storage: true
    subresources: {status: {}}
    schema:
      openAPIV3Schema:
        type: object
        x-kubernetes-validations:
        - {rule: "self.metadata.name.size() <= 8", message: the name is too long}
        properties:
          spec:
            type: object
            x-kubernetes-validations:
            - {rule: "self.replicas <= self.max"}
            - {rule: "self.color == oldSelf.color", message: color is immutable, reason: FieldValueForbidden, fieldPath: .color}
            - rule: "!has(self.memory) || quantity(self.memory).isLessThan(quantity('1Gi'))"
              messageExpression: "'memory is ' + self.memory + ', less than 1Gi is allowed'"
            properties:
              replicas: {type: integer}
              max: {type: integer, default: 5}
              color: {type: string, default: red}
              memory: {type: string, maxLength: 20}
          status:
            type: object
            x-kubernetes-validations: [{rule: "self.ready >= 0", message: ready must not be negative}]
            properties: {ready: {type: integer}}
"""


@pytest.fixture(scope="module", autouse=True)
def _defined(private) -> None:  # type: ignore[no-untyped-def]
    one = Kubectl(private.kubeconfig)
    one("create", "-f", "-", stdin=DEFINITION)
    one("wait", "--for=condition=Established", "crd/gadgets.rules.example.com")


def gadget(name: str = "one", **spec: object) -> str:
    body = {"apiVersion": "rules.example.com/v1", "kind": "Gadget", "metadata": {"name": name}, "spec": spec}
    return json.dumps(body)


def test_rules_refuse_what_they_do_not_allow(kubectl: Kubectl) -> None:
    said = kubectl.fails("create", "-f", "-", stdin=gadget(replicas=6))
    assert said == (
        'The Gadget "one" is invalid: spec: Invalid value: "object": failed rule: self.replicas <= self.max\n'
    )
    said = kubectl.fails("create", "-f", "-", stdin=gadget("much-too-long", replicas=1, memory="2Gi"))
    assert '* <nil>: Invalid value: "object": the name is too long' in said
    assert '* spec: Invalid value: "object": memory is 2Gi, less than 1Gi is allowed' in said
    assert kubectl("create", "-f", "-", stdin=gadget(replicas=5)) == "gadget.rules.example.com/one created\n"


def test_changes_are_judged_with_what_was_before(kubectl: Kubectl) -> None:
    kubectl("create", "-f", "-", stdin=gadget(replicas=1))
    said = kubectl.fails("patch", "gadget", "one", "--type=merge", "-p", '{"spec":{"color":"blue"}}')
    assert said == 'The Gadget "one" is invalid: spec.color: Forbidden: color is immutable\n'
    kubectl("patch", "gadget", "one", "--type=merge", "-p", '{"spec":{"replicas":2}}')


def test_a_status_is_judged_too(kubectl: Kubectl, python: client.ApiClient) -> None:
    kubectl("create", "-f", "-", stdin=gadget(replicas=1))
    objects = client.CustomObjectsApi(python)
    place = ("rules.example.com", "v1", kubectl.namespace, "gadgets", "one")
    with pytest.raises(client.ApiException) as raised:
        objects.patch_namespaced_custom_object_status(*place, {"status": {"ready": -1}})
    assert raised.value.status == 422
    status = json.loads(raised.value.body)
    assert status["details"]["causes"] == [
        {
            "reason": "FieldValueInvalid",
            "message": 'Invalid value: "object": ready must not be negative',
            "field": "status",
        }
    ]
    objects.patch_namespaced_custom_object_status(*place, {"status": {"ready": 1}})


def test_rules_are_checked_when_a_definition_is_written(kubectl: Kubectl) -> None:
    def refused(rule: str) -> str:
        text = DEFINITION.replace("gadgets", "gizmos").replace("gadget", "gizmo").replace("Gadget", "Gizmo")
        return kubectl.fails("create", "-f", "-", stdin=text.replace("self.replicas <= self.max", rule))

    path = "spec.versions[0].schema.openAPIV3Schema.properties[spec].x-kubernetes-validations[0].rule: "
    said = refused("self.nofield == 1")
    assert path + 'Invalid value: apiextensions.ValidationRule{Rule:"self.nofield == 1"' in said
    assert "compilation failed: ERROR: <input>:1:5: undefined field 'nofield'" in said
    assert "found no matching overload for '_>_' applied to '(int, string)'" in refused("self.replicas > 'a'")
    assert "oldSelf" not in refused("self.replicas")
    costly = "self.memory.matches(self.memory) && self.color.contains(self.color)"
    assert path + "Forbidden: estimated rule cost exceeds budget by factor of more than 100x" in refused(
        costly
    )
