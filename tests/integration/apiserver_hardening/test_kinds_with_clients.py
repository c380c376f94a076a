"""Kinds and their rules as people meet them: kubectl of several versions, the official Python client, kr8s."""

from __future__ import annotations

import json

import kr8s.asyncio
import pytest
from kr8s.asyncio.objects import Job
from kubernetes import client, config

from tests.support.kubectl import Kubectl, find_kubectl
from tests.support.private_api import PrivateApi


@pytest.mark.parametrize("version", ["1.27", "1.30", "1.33"])
def test_kubectl_says_why_and_warns(private: PrivateApi, namespace: str, version: str) -> None:
    kubectl = Kubectl(private.kubeconfig, namespace, find_kubectl(version))
    refused = kubectl.fails("create", "cronjob", "c", "--image=i", "--schedule=61 * * * *")
    assert 'CronJob.batch "c" is invalid: spec.schedule: Invalid value: "61 * * * *": ' in refused
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "j"},
        "spec": {"template": {"spec": {"containers": [{"name": "c", "image": "i"}]}}},
    }
    refused = kubectl.fails("create", "-f", "-", stdin=json.dumps(job))
    assert 'spec.template.spec.restartPolicy: Required value: valid values: "OnFailure", "Never"' in refused
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p"},
        "spec": {
            "containers": [
                {"name": "c", "image": "i", "env": [{"name": "A", "value": v} for v in ("1", "2")]}
            ]
        },
    }
    done = kubectl.run("create", "-f", "-", stdin=json.dumps(pod))
    assert done.returncode == 0
    warned = 'Warning: spec.containers[0].env[1]: hides previous definition of "A", which may be dropped when using apply'
    assert warned in done.stderr
    listed = kubectl.run("get", "endpoints")
    warned = "Warning: v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice"
    assert (listed.returncode, warned in listed.stderr) == (0, True)


def test_the_python_client(private: PrivateApi, namespace: str) -> None:
    connection = config.new_client_from_config(str(private.kubeconfig))
    batch, scaling = client.BatchV1Api(connection), client.AutoscalingV2Api(connection)
    pod = client.V1PodSpec(containers=[client.V1Container(name="c", image="i")], restart_policy="Never")
    template = client.V1PodTemplateSpec(spec=pod)
    body = client.V1Job(
        metadata=client.V1ObjectMeta(name="j"), spec=client.V1JobSpec(template=template, completions=2)
    )
    made = batch.create_namespaced_job(namespace, body)
    uid = made.metadata.uid
    assert made.spec.selector.match_labels == {"batch.kubernetes.io/controller-uid": uid}
    assert made.spec.template.metadata.labels["batch.kubernetes.io/job-name"] == "j"
    with pytest.raises(client.ApiException) as fixed:
        batch.patch_namespaced_job("j", namespace, {"spec": {"completions": 3}})
    assert fixed.value.status == 422
    causes = json.loads(fixed.value.body)["details"]["causes"]
    assert causes == [
        {"reason": "FieldValueInvalid", "message": "Invalid value: 3: field is immutable", "field": "spec.completions"}
    ]  # fmt: skip
    target = client.V2CrossVersionObjectReference(kind="Deployment", name="d", api_version="apps/v1")
    spec = client.V2HorizontalPodAutoscalerSpec(scale_target_ref=target, max_replicas=3)
    scaler = client.V2HorizontalPodAutoscaler(metadata=client.V1ObjectMeta(name="h"), spec=spec)
    assert scaling.create_namespaced_horizontal_pod_autoscaler(namespace, scaler).spec.metrics
    old = client.AutoscalingV1Api(connection).read_namespaced_horizontal_pod_autoscaler("h", namespace)
    assert old.spec.target_cpu_utilization_percentage == 80


async def test_kr8s(private: PrivateApi, namespace: str) -> None:
    api = await kr8s.asyncio.api(kubeconfig=str(private.kubeconfig), namespace=namespace)
    template = {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}}
    job = await Job(
        {"metadata": {"name": "k", "namespace": namespace}, "spec": {"template": template}}, api=api
    )
    await job.create()
    assert job.spec.completionMode == "NonIndexed"
    with pytest.raises(kr8s.ServerError) as refused:
        await job.patch({"spec": {"backoffLimit": -1}})
    assert "must be greater than or equal to 0" in str(refused.value)
