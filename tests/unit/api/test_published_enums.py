"""The values shown by ``kubectl explain`` are the values that are accepted."""

from __future__ import annotations

import re
from typing import Any

import pytest

from bamikube.api import defaults, schema, strategy, table, validation
from bamikube.api.schema.enums import ENUMS, published_definition

WRONG = "nonsense"


def test_every_entry_is_a_text_field_and_has_its_values_in_order() -> None:
    for name, fields in ENUMS.items():
        properties, plain = published_definition(name)["properties"], schema.definition(name)["properties"]
        for field, values in fields.items():
            shown = properties[field].get("items", properties[field])
            assert (shown["type"], shown["enum"]) == ("string", sorted(set(values))), (name, field)
            assert "enum" not in plain[field], (
                "the definitions that objects are checked with stay as they are"
            )


def causes(api_version: str, kind: str, spec: dict[str, Any], **more: Any) -> dict[str, str]:
    """What is wrong with a new object, by field."""
    resource = table.by_kind(api_version, kind)
    assert resource is not None
    obj = {
        "apiVersion": api_version,
        "kind": kind,
        "metadata": {"name": "a", "namespace": "n"},
        "spec": spec,
        **more,
    }
    defaults.apply(resource, obj)
    strategy.prepare_create(resource, obj)
    return {cause.field: cause.message for cause in validation.validate_create(resource, obj)}


CONTAINER = {"name": "a", "image": "a", "imagePullPolicy": WRONG, "terminationMessagePolicy": WRONG}
PROBE = {"httpGet": {"port": 1, "scheme": WRONG}}
POD = {
    "containers": [{**CONTAINER, "ports": [{"containerPort": 1, "protocol": WRONG}], "livenessProbe": PROBE}],
    "restartPolicy": WRONG,
    "dnsPolicy": WRONG,
    "tolerations": [{"key": "a", "operator": "Exists", "effect": WRONG}],
    "topologySpreadConstraints": [{"topologyKey": "a", "maxSkew": 1, "whenUnsatisfiable": WRONG}],
    "volumes": [{"name": "v", "hostPath": {"path": "/x", "type": WRONG}}],
    "securityContext": {"fsGroupChangePolicy": WRONG, "seccompProfile": {"type": WRONG}},
}
SERVICE = {"ports": [{"port": 1, "protocol": WRONG}], "type": WRONG, "sessionAffinity": WRONG}
VOLUME = {
    "capacity": {"storage": "1Gi"},
    "hostPath": {"path": "/x"},
    "accessModes": [WRONG],
    "volumeMode": WRONG,
    "persistentVolumeReclaimPolicy": WRONG,
}
CRON = {
    "schedule": "@daily",
    "concurrencyPolicy": WRONG,
    "jobTemplate": {"spec": {"template": {"spec": POD}}},
}
INGRESS = {
    "rules": [
        {
            "http": {
                "paths": [
                    {
                        "path": "/",
                        "pathType": WRONG,
                        "backend": {"service": {"name": "a", "port": {"number": 1}}},
                    }
                ]
            }
        }
    ]
}


@pytest.mark.parametrize(
    ("api_version", "kind", "spec", "judged"),
    [
        (
            "v1",
            "Pod",
            POD,
            {
                "spec.containers[0].imagePullPolicy": "core.v1.Container",
                "spec.containers[0].terminationMessagePolicy": "core.v1.Container",
                "spec.containers[0].ports[0].protocol": "core.v1.ContainerPort",
                "spec.containers[0].livenessProbe.httpGet.scheme": "core.v1.HTTPGetAction",
                "spec.restartPolicy": "core.v1.PodSpec",
                "spec.dnsPolicy": "core.v1.PodSpec",
                "spec.tolerations[0].effect": "core.v1.Toleration",
                "spec.topologySpreadConstraints[0].whenUnsatisfiable": "core.v1.TopologySpreadConstraint",
                "spec.volumes[0].hostPath.type": "core.v1.HostPathVolumeSource",
                "spec.securityContext.fsGroupChangePolicy": "core.v1.PodSecurityContext",
                "spec.securityContext.seccompProfile.type": "core.v1.SeccompProfile",
            },
        ),
        (
            "v1",
            "Service",
            SERVICE,
            {
                "spec.type": "core.v1.ServiceSpec",
                "spec.sessionAffinity": "core.v1.ServiceSpec",
                "spec.ports[0].protocol": "core.v1.ServicePort",
            },
        ),
        (
            "v1",
            "PersistentVolume",
            VOLUME,
            {
                "spec.accessModes": "core.v1.PersistentVolumeSpec",
                "spec.volumeMode": "core.v1.PersistentVolumeSpec",
                "spec.persistentVolumeReclaimPolicy": "core.v1.PersistentVolumeSpec",
            },
        ),
        ("batch/v1", "CronJob", CRON, {"spec.concurrencyPolicy": "batch.v1.CronJobSpec"}),
        (
            "networking.k8s.io/v1",
            "Ingress",
            INGRESS,
            {"spec.rules[0].http.paths[0].pathType": "networking.v1.HTTPIngressPath"},
        ),
    ],
)
def test_other_values_are_refused(
    api_version: str, kind: str, spec: dict[str, Any], judged: dict[str, str]
) -> None:
    found = causes(api_version, kind, spec)
    for path, definition in judged.items():
        message = found[path]
        assert message.startswith(f'Unsupported value: "{WRONG}": supported values: '), (path, message)
        supported = re.findall(r'"([^"]*)"', message.partition("supported values: ")[2])
        assert sorted(supported) == ENUMS[f"io.k8s.api.{definition}"][path.rpartition(".")[2]], path
