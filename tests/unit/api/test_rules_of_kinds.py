"""One line a rule: what is wrong with an object of each kind, in Kubernetes' words."""

from __future__ import annotations

import base64
import copy
from typing import Any

import pytest

from bamikube.api import defaults, schema, strategy, table, validation

POD: dict[str, Any] = {"containers": [{"name": "a", "image": "a"}]}
JOB_POD: dict[str, Any] = POD | {"restartPolicy": "Never"}


def resource_of(obj: dict[str, Any]) -> Any:
    found = table.by_kind(obj["apiVersion"], obj["kind"])
    assert found is not None
    return found


def made(obj: dict[str, Any]) -> dict[str, Any]:
    """The object as the API server would validate it on create."""
    obj = copy.deepcopy(obj)
    resource = resource_of(obj)
    obj["metadata"].setdefault("uid", "u-1")
    if resource.namespaced:
        obj["metadata"].setdefault("namespace", "default")
    schema.ensure(resource, obj, "Strict")
    defaults.apply(resource, obj)
    strategy.prepare_create(resource, obj)
    return obj


def faults(obj: dict[str, Any]) -> list[str]:
    new = made(obj)
    return [f"{cause.field}: {cause.message}" for cause in validation.validate_create(resource_of(obj), new)]


def changed(obj: dict[str, Any], **patch: Any) -> list[str]:
    """The faults of an update that replaces fields (``spec__x=...`` reaches into the spec)."""
    old = made(obj)
    new = copy.deepcopy(old)
    for path, value in patch.items():
        *parents, last = path.split("__")
        holder = new
        for name in parents:
            holder = holder.setdefault(name, {})
        holder[last] = value
    defaults.apply(resource_of(obj), new)
    strategy.prepare_update(resource_of(obj), new, old)
    causes = validation.validate_update(resource_of(obj), new, old)
    return [f"{cause.field}: {cause.message}" for cause in causes]


def status_faults(obj: dict[str, Any], status: dict[str, Any]) -> list[str]:
    old = made(obj)
    new = copy.deepcopy(old) | {"status": status}
    causes = validation.validate_status_update(resource_of(obj), new, old)
    return [f"{cause.field}: {cause.message}" for cause in causes]


def obj(kind: str, api_version: str = "v1", name: str = "a", **fields: Any) -> dict[str, Any]:
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": name}, **fields}


def job(**spec: Any) -> dict[str, Any]:
    return obj("Job", "batch/v1", spec={"template": {"spec": JOB_POD}} | spec)


def indexed(**spec: Any) -> dict[str, Any]:
    return job(completionMode="Indexed", completions=3, parallelism=1, **spec)


def cron_job(**spec: Any) -> dict[str, Any]:
    base = {"schedule": "* * * * *", "jobTemplate": {"spec": {"template": {"spec": JOB_POD}}}}
    return obj("CronJob", "batch/v1", spec=base | spec)


def failure(**rule: Any) -> dict[str, Any]:
    return job(podFailurePolicy={"rules": [{"action": "FailJob"} | rule]})


JOBS: list[tuple[dict[str, Any], str]] = [
    (job(), ""),
    (indexed(), ""),
    (
        job(template={"spec": POD}),
        'spec.template.spec.restartPolicy: Required value: valid values: "OnFailure", "Never"',
    ),
    (job(completions=-1), "spec.completions: Invalid value: -1: must be greater than or equal to 0"),
    (
        job(completionMode="Indexed", parallelism=1),
        "spec.completions: Required value: when completion mode is Indexed",
    ),
    (
        job(completionMode="Random"),
        'spec.completionMode: Unsupported value: "Random": supported values: "NonIndexed", "Indexed"',
    ),
    (
        job(backoffLimitPerIndex=1),
        "spec.backoffLimitPerIndex: Invalid value: 1: requires indexed completion mode",
    ),
    (
        indexed(maxFailedIndexes=4),
        "spec.maxFailedIndexes: Invalid value: 4: must be less than or equal to completions",
    ),
    (
        job(managedBy="me"),
        'spec.managedBy: Invalid value: "me": must be a domain-prefixed path (such as "acme.io/foo")',
    ),
    (
        failure(),
        'spec.podFailurePolicy.rules[0]: Invalid value: {"action":"FailJob"}: '
        "specifying one of OnExitCodes and OnPodConditions is required",
    ),
    (
        failure(onExitCodes={"operator": "In", "values": [0]}),
        "spec.podFailurePolicy.rules[0].onExitCodes.values[0]: Invalid value: 0: must not be 0 for the In operator",
    ),
    (
        failure(onExitCodes={"operator": "In", "values": [3, 2]}),
        "spec.podFailurePolicy.rules[0].onExitCodes.values: Invalid value: [3,2]: must be ordered",
    ),
    (
        failure(action="FailIndex", onPodConditions=[{"type": "X"}]),
        'spec.podFailurePolicy.rules[0].action: Invalid value: "FailIndex": '
        "requires the backoffLimitPerIndex to be set",
    ),
    (
        job(podFailurePolicy={"rules": []}, template={"spec": POD | {"restartPolicy": "OnFailure"}}),
        'spec.template.spec.restartPolicy: Invalid value: "OnFailure": '
        'only "Never" is supported when podFailurePolicy is specified',
    ),
    (
        indexed(successPolicy={"rules": []}),
        "spec.successPolicy.rules: Required value: at least one rules must be specified when the successPolicy is specified",
    ),
    (
        indexed(successPolicy={"rules": [{"succeededIndexes": "0-5"}]}),
        'spec.successPolicy.rules[0].succeededIndexes: Invalid value: "0-5": '
        'error parsing succeededIndexes: too large index: "5"',
    ),
    (indexed(successPolicy={"rules": [{"succeededIndexes": "0-1,2", "succeededCount": 2}]}), ""),
    (
        job(podReplacementPolicy="Never"),
        'spec.podReplacementPolicy: Unsupported value: "Never": supported values: "Failed", "TerminatingOrFailed"',
    ),
    (cron_job(timeZone="Asia/Seoul"), ""),
    (cron_job(timeZone="Mars/Olympus"), 'spec.timeZone: Invalid value: "Mars/Olympus": unknown time zone Mars/Olympus'),
    (cron_job(timeZone=""), 'spec.timeZone: Invalid value: "": timeZone must be nil or non-empty string'),
    (
        cron_job(timeZone="Local"),
        'spec.timeZone: Invalid value: "Local": timeZone must be an explicit time zone as defined in '
        "https://www.iana.org/time-zones",
    ),
    (
        cron_job(schedule="TZ=UTC * * * * *", timeZone="UTC"),
        'spec.schedule: Invalid value: "TZ=UTC * * * * *": cannot use both timeZone field and TZ or CRON_TZ in schedule',
    ),
    (
        cron_job(concurrencyPolicy="Maybe"),
        'spec.concurrencyPolicy: Unsupported value: "Maybe": supported values: "Allow", "Forbid", "Replace"',
    ),
]  # fmt: skip


def hpa(**spec: Any) -> dict[str, Any]:
    target = {"kind": "Deployment", "name": "d", "apiVersion": "apps/v1"}
    base = {"scaleTargetRef": target, "maxReplicas": 3}
    return obj("HorizontalPodAutoscaler", "autoscaling/v2", spec=base | spec)


def metric(kind: str, **source: Any) -> dict[str, Any]:
    return hpa(metrics=[{"type": kind, kind[0].lower() + kind[1:]: source}])


CPU = {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}
AUTOSCALERS: list[tuple[dict[str, Any], str]] = [
    (hpa(), ""),
    (metric("Resource", **CPU), ""),
    (hpa(minReplicas=0), "spec.minReplicas: Invalid value: 0: must be greater than or equal to 1"),
    (hpa(maxReplicas=0), "spec.maxReplicas: Invalid value: 0: must be greater than 0"),
    (
        hpa(minReplicas=4),
        "spec.maxReplicas: Invalid value: 3: must be greater than or equal to `minReplicas`",
    ),
    (hpa(scaleTargetRef={"kind": "", "name": "d"}), "spec.scaleTargetRef.kind: Required value"),
    (
        metric("Resource", name="cpu", target={"type": "Utilization"}),
        "spec.metrics[0].resource.target.averageUtilization: Required value: "
        "must set either a target raw value or a target utilization",
    ),
    (
        metric("Pods", metric={"name": "m"}, target={"type": "AverageValue"}),
        "spec.metrics[0].pods.target.averageValue: Required value: must specify a positive target averageValue",
    ),
    (
        hpa(metrics=[{"type": "Resource"}]),
        "spec.metrics[0].resource: Required value: must populate information for the given metric source",
    ),
    (
        hpa(metrics=[{"type": "Foo"}]),
        'spec.metrics[0].type: Unsupported value: "Foo": supported values: '
        '"ContainerResource", "External", "Object", "Pods", "Resource"',
    ),
    (
        hpa(behavior={"scaleUp": {"stabilizationWindowSeconds": 4000}}),
        "spec.behavior.scaleUp.stabilizationWindowSeconds: Invalid value: 4000: must be less than or equal to 3600",
    ),
    (
        hpa(behavior={"scaleDown": {"policies": [{"type": "Pods", "value": 0, "periodSeconds": 1}]}}),
        "spec.behavior.scaleDown.policies[0].value: Invalid value: 0: must be greater than zero",
    ),
]


def ingress(**spec: Any) -> dict[str, Any]:
    return obj("Ingress", "networking.k8s.io/v1", spec=spec)


BACKEND = {"service": {"name": "s", "port": {"number": 80}}}


def path(text: str, kind: str = "Prefix") -> dict[str, Any]:
    return ingress(rules=[{"http": {"paths": [{"path": text, "pathType": kind, "backend": BACKEND}]}}])


def policy(**spec: Any) -> dict[str, Any]:
    return obj("NetworkPolicy", "networking.k8s.io/v1", spec={"podSelector": {}} | spec)


def ingress_class(**spec: Any) -> dict[str, Any]:
    return obj("IngressClass", "networking.k8s.io/v1", spec={"controller": "a.io/b"} | spec)


def service(**spec: Any) -> dict[str, Any]:
    return obj("Service", spec={"ports": [{"port": 80}]} | spec)


PARENT = {"resource": "services", "namespace": "default", "name": "s"}
NETWORK: list[tuple[dict[str, Any], str]] = [
    (path("/a"), ""),
    (path("/a//b"), "spec.rules[0].http.paths[0].path: Invalid value: \"/a//b\": must not contain '//'"),
    (path("/a/.."), "spec.rules[0].http.paths[0].path: Invalid value: \"/a/..\": cannot end with '/..'"),
    (path("a"), 'spec.rules[0].http.paths[0].path: Invalid value: "a": must be an absolute path'),
    (
        ingress(rules=[{"host": "10.0.0.1"}]),
        'spec.rules[0].host: Invalid value: "10.0.0.1": must be a DNS name, not an IP address',
    ),
    (ingress(), "spec: Invalid value: []: either `defaultBackend` or `rules` must be specified"),
    (
        ingress(defaultBackend={"resource": {"kind": "", "name": "x"}}),
        "spec.defaultBackend.resource.kind: Required value",
    ),
    (ingress_class(), ""),
    (ingress_class(controller=""), "spec.controller: Required value"),
    (
        ingress_class(parameters={"kind": "K", "name": "n", "scope": "Namespace"}),
        "spec.parameters.namespace: Required value: `parameters.scope` is set to 'Namespace'",
    ),
    (
        policy(policyTypes=["Ingress", "Egress", "Ingress"]),
        'spec.policyTypes: Invalid value: ["Ingress","Egress","Ingress"]: may not specify more than two policyTypes',
    ),
    (
        policy(ingress=[{"from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["11.0.0.0/16"]}}]}]),
        'spec.ingress[0].from[0].ipBlock.except[0]: Invalid value: "11.0.0.0/16": must be a strict subset of `cidr`',
    ),
    (obj("IPAddress", "networking.k8s.io/v1", "10.0.0.7", spec={"parentRef": PARENT}), ""),
    (
        obj("IPAddress", "networking.k8s.io/v1", "2001:DB8::1", spec={"parentRef": PARENT}),
        'metadata.name: Invalid value: "2001:DB8::1": must be in canonical form ("2001:db8::1")',
    ),
    *(
        (
            obj("IPAddress", "networking.k8s.io/v1", name, spec={"parentRef": PARENT}),
            f'metadata.name: Invalid value: "{name}": {message}',
        )
        for name, message in (
            ("10.0.00.7", "must not have leading 0s"),
            ("::ffff:10.0.0.7", "must not be an IPv4-mapped IPv6 address"),
            ("fe80::1%eth0", "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"),
            ("10.0.0", "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"),
        )
    ),
    (obj("IPAddress", "networking.k8s.io/v1", "10.0.0.7", spec={}), "spec.parentRef: Required value"),
    (
        service(clusterIP="fe80::1%eth0", clusterIPs=["fe80::1%eth0"]),
        'spec.clusterIPs[0]: Invalid value: "fe80::1%eth0": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)',
    ),
    (
        obj("ServiceCIDR", "networking.k8s.io/v1", spec={"cidrs": ["10.0.0.0/8", "11.0.0.0/8"]}),
        'spec.cidrs: Invalid value: ["10.0.0.0/8","11.0.0.0/8"]: may specify no more than one IP for each IP family, '
        "i.e 192.168.0.0/24 and 2001:db8::/64",
    ),
    (
        obj("ServiceCIDR", "networking.k8s.io/v1", spec={"cidrs": ["10.0.0.0/8", "fd00::/64", "11.0.0.0/8"]}),
        'spec.cidrs: Invalid value: {"CIDRs":["10.0.0.0/8","fd00::/64","11.0.0.0/8"]}: may only hold up to 2 values',
    ),
    *(
        (
            obj("ServiceCIDR", "networking.k8s.io/v1", spec={"cidrs": [text]}),
            f'spec.cidrs[0]: Invalid value: "{text}": {message}',
        )
        for text, message in (
            ("10.0.0.0", "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"),
            ("10.0.0.1/8", "must not have bits set beyond the prefix length"),
            ("10.0.00.0/8", "must not have leading 0s in IP or prefix length"),
            ("10.0.0.0/08", "must not have leading 0s in IP or prefix length"),
            ("::ffff:10.0.0.0/104", "must not have an IPv4-mapped IPv6 address"),
            ("2001:DB8::/64", 'must be in canonical form ("2001:db8::/64")'),
        )
    ),
    (
        service(loadBalancerSourceRanges=["10.0.0.0/8"]),
        "spec.LoadBalancerSourceRanges: Forbidden: may only be used when `type` is 'LoadBalancer'",
    ),
    (
        service(healthCheckNodePort=30000),
        "spec.healthCheckNodePort: Invalid value: 30000: may only be set when `type` is 'LoadBalancer' and "
        "`externalTrafficPolicy` is 'Local'",
    ),
    (
        service(externalIPs=["127.0.0.1"]),
        'spec.externalIPs[0]: Invalid value: "127.0.0.1": may not be in the loopback range (127.0.0.0/8, ::1/128)',
    ),
]  # fmt: skip


def limits(**item: Any) -> dict[str, Any]:
    return obj("LimitRange", spec={"limits": [{"type": "Container"} | item]})


HIGH = {"scopeName": "PriorityClass", "operator": "In", "values": ["high"]}


def quota(hard: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    return obj("ResourceQuota", spec={"hard": hard or {}} | spec)


LIMITS: list[tuple[dict[str, Any], str]] = [
    (limits(max={"cpu": "1"}, min={"cpu": "100m"}), ""),
    (
        limits(max={"cpu": "1"}, min={"cpu": "2"}),
        'spec.limits[0].min[cpu]: Invalid value: "2": min value 2 is greater than max value 1',
    ),
    (
        limits(max={"cpu": "1"}, default={"cpu": "2"}),
        'spec.limits[0].default[cpu]: Invalid value: "2": default value 2 is greater than max value 1',
    ),
    (
        limits(maxLimitRequestRatio={"cpu": "500m"}),
        'spec.limits[0].maxLimitRequestRatio[cpu]: Invalid value: "500m": ratio 500m is less than 1',
    ),
    (
        limits(type="Pod", default={"cpu": "1"}),
        "spec.limits[0].default: Forbidden: may not be specified when `type` is 'Pod'",
    ),
    (
        limits(type="PersistentVolumeClaim", max={"cpu": "1"}),
        "spec.limits[0].limits: Required value: either minimum or maximum storage value is required, "
        "but neither was provided",
    ),
    (quota({"pods": "5", "requests.cpu": "1", "count/deployments.apps": "2"}), ""),
    (quota({"pods": "500m"}), 'spec.hard[pods]: Invalid value: "500m": must be an integer'),
    (
        quota({"cpu": "-1"}),
        'spec.hard[cpu]: Invalid value: "-1": must be greater than or equal to 0',
    ),
    (
        quota({"foo": "1"}),
        'spec.hard[foo]: Invalid value: "foo": must be a standard resource type or fully qualified',
    ),
    (
        quota({"pods": "1"}, scopes=["BestEffort", "NotBestEffort"]),
        'spec.scopes: Invalid value: ["BestEffort","NotBestEffort"]: conflicting scopes',
    ),
    (quota({"cpu": "1", "count/jobs.batch": "1"}, scopes=["Terminating"]), ""),
    (
        quota({"cpu": "1"}, scopes=["Terminating", "BestEffort"]),
        'spec.scopes: Invalid value: ["Terminating","BestEffort"]: unsupported scope applied to resource',
    ),
    (
        quota({"services": "1"}, scopeSelector={"matchExpressions": [HIGH]}),
        "spec.scopeSelector.matchExpressions: Invalid value: "
        '{"matchExpressions":[{"scopeName":"PriorityClass","operator":"In","values":["high"]}]}: '
        "unsupported scope applied to resource",
    ),
]


def csi_driver(**spec: Any) -> dict[str, Any]:
    return obj("CSIDriver", "storage.k8s.io/v1", spec=spec)


def csi_node(**driver: Any) -> dict[str, Any]:
    return obj("CSINode", "storage.k8s.io/v1", spec={"drivers": [{"name": "d.io"} | driver]})


def attachment(**spec: Any) -> dict[str, Any]:
    base = {"attacher": "a.io", "nodeName": "n", "source": {"persistentVolumeName": "v"}}
    return obj("VolumeAttachment", "storage.k8s.io/v1", spec=base | spec)


STORAGE: list[tuple[dict[str, Any], str]] = [
    (csi_driver(), ""),
    (
        csi_driver(fsGroupPolicy="Foo"),
        'spec.fsGroupPolicy: Unsupported value: "Foo": supported values: "File", "None", "ReadWriteOnceWithFSType"',
    ),
    (csi_node(nodeID=""), "spec.drivers[0].nodeID: Required value"),
    (csi_node(nodeID="x"), ""),
    (attachment(), ""),
    (
        attachment(source={}),
        "spec.source: Required value: must specify exactly one of inlineVolumeSpec and persistentVolumeName",
    ),
    (
        obj("VolumeAttributesClass", "storage.k8s.io/v1", driverName="d.io"),
        "parameters: Required value: must contain at least one key/value pair",
    ),
    (
        obj("StorageClass", "storage.k8s.io/v1", provisioner="p.io/x", reclaimPolicy="Recycle"),
        'reclaimPolicy: Unsupported value: "Recycle": supported values: "Delete", "Retain"',
    ),
    (
        obj("StorageClass", "storage.k8s.io/v1", provisioner="p.io/x",
            allowedTopologies=[{"matchLabelExpressions": [{"key": "zone", "values": []}]}]),
        "allowedTopologies[0].matchLabelExpressions[0].values: Required value",
    ),
]  # fmt: skip


def event(**fields: Any) -> dict[str, Any]:
    about = {"kind": "Pod", "apiVersion": "v1", "name": "p", "namespace": "default"}
    return obj("Event", "v1", involvedObject=about) | fields


def new_event(**fields: Any) -> dict[str, Any]:
    base = {
        "regarding": {"kind": "Pod", "apiVersion": "v1", "name": "p", "namespace": "default"},
        "eventTime": "2026-01-02T03:04:05.000000Z",
        "reportingController": "x.io/y",
        "reportingInstance": "z",
        "reason": "R",
        "action": "A",
        "type": "Normal",
    }
    return obj("Event", "events.k8s.io/v1", **(base | fields))


EVENTS: list[tuple[dict[str, Any], str]] = [
    (event(), ""),
    (new_event(), ""),
    (
        event(involvedObject={"kind": "Pod", "apiVersion": "v1", "name": "p", "namespace": "other"}),
        'involvedObject.namespace: Invalid value: "other": does not match event.namespace',
    ),
    (
        event(involvedObject={"kind": "Node", "apiVersion": "v1", "name": "p", "namespace": "default"}),
        'involvedObject.namespace: Invalid value: "default": not allowed for kind Node',
    ),
    (new_event(eventTime=None), "eventTime: Required value"),
    (new_event(type="Odd"), 'type: Invalid value: "": has invalid value: Odd'),
    (new_event(action=""), "action: Required value"),
    (new_event(reason="R" * 129), 'reason: Invalid value: "": can have at most 128 characters'),
    (new_event(note="n" * 1025), 'note: Invalid value: "": can have at most 1024 characters'),
    (new_event(deprecatedCount=1), 'count: Invalid value: "": needs to be unset'),
]

REQUEST_PEM = base64.b64encode(
    b"-----BEGIN CERTIFICATE REQUEST-----\nMAA=\n-----END CERTIFICATE REQUEST-----\n"
).decode()


def signing_request(**spec: Any) -> dict[str, Any]:
    base = {"request": REQUEST_PEM, "signerName": "example.com/s", "usages": ["client auth"]}
    return obj("CertificateSigningRequest", "certificates.k8s.io/v1", spec=base | spec)


def flow(**spec: Any) -> dict[str, Any]:
    base = {"priorityLevelConfiguration": {"name": "l"}, "matchingPrecedence": 100}
    return obj("FlowSchema", "flowcontrol.apiserver.k8s.io/v1", spec=base | spec)


def level(**spec: Any) -> dict[str, Any]:
    return obj("PriorityLevelConfiguration", "flowcontrol.apiserver.k8s.io/v1", spec=spec)


def claim(*requests: dict[str, Any]) -> dict[str, Any]:
    return obj("ResourceClaim", "resource.k8s.io/v1", spec={"devices": {"requests": list(requests)}})


OTHERS: list[tuple[dict[str, Any], str]] = [
    (signing_request(), ""),
    (signing_request(usages=[]), "spec.usages: Required value"),
    (
        signing_request(request=base64.b64encode(b"x").decode()),
        'spec.request: Invalid value: "eA==": PEM block type must be CERTIFICATE REQUEST',
    ),
    (
        signing_request(signerName="x"),
        'spec.signerName: Invalid value: "x": must be a fully qualified domain and path of the form '
        "'example.com/signer-name'",
    ),
    (
        signing_request(expirationSeconds=1),
        "spec.expirationSeconds: Invalid value: 1: may not specify a duration less than 600 seconds (10 minutes)",
    ),
    (flow(), ""),
    (flow(matchingPrecedence=-1), "spec.matchingPrecedence: Invalid value: -1: must be a positive value"),
    (
        flow(rules=[{"subjects": [{"kind": "User", "user": {"name": "u"}}]}]),
        "spec.rules[0]: Required value: at least one of resourceRules and nonResourceRules has to be non-empty",
    ),
    (level(type="Limited"), "spec.limited: Required value: must not be empty when type is Limited"),
    (
        level(type="Exempt"),
        "spec.type: Invalid value: \"Exempt\": must be 'Limited' if `name` is not 'exempt'",
    ),
    (
        level(type="Limited", limited={"limitResponse": {"type": "Queue", "queuing": {"handSize": 65}}}),
        "spec.limited.limitResponse.queuing.handSize: Invalid value: 65: should not be greater than queues (64)",
    ),
    (claim({"name": "r", "exactly": {"deviceClassName": "c"}}), ""),
    (
        claim({"name": "r"}),
        "spec.devices.requests[0]: Required value: exactly one of `exactly` or `firstAvailable` is required",
    ),
    (
        obj("Lease", "coordination.k8s.io/v1", spec={"leaseDurationSeconds": 0}),
        "spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0",
    ),
    (
        obj("RuntimeClass", "node.k8s.io/v1", handler="A_b"),
        'handler: Invalid value: "A_b": a lowercase RFC 1123 label must consist of',
    ),
    (
        obj("PodTemplate", template={"spec": {"containers": []}}),
        "template.spec.containers: Required value",
    ),
    (
        obj("ControllerRevision", "apps/v1", revision=-1, data={}),
        "revision: Invalid value: -1: must be greater than or equal to 0",
    ),
]


def pod(**spec: Any) -> dict[str, Any]:
    return obj("Pod", spec=POD | spec)


def container(**more: Any) -> dict[str, Any]:
    return pod(containers=[{"name": "a", "image": "a"} | more])


def stateful(**spec: Any) -> dict[str, Any]:
    base = {
        "serviceName": "s",
        "selector": {"matchLabels": {"a": "b"}},
        "template": {"metadata": {"labels": {"a": "b"}}, "spec": POD},
    }
    return obj("StatefulSet", "apps/v1", spec=base | spec)


PODS: list[tuple[dict[str, Any], str]] = [
    (
        pod(securityContext={"runAsUser": -1}),
        "spec.securityContext.runAsUser: Invalid value: -1: must be between 0 and 2147483647, inclusive",
    ),
    (
        pod(securityContext={"sysctls": [{"name": "net.a", "value": "1"}]}, hostNetwork=True),
        "spec.securityContext.sysctls[0].name: Invalid value: \"net.a\": may not be specified when 'hostNetwork' is true",
    ),
    (
        container(securityContext={"seccompProfile": {"type": "Localhost"}}),
        "spec.containers[0].securityContext.seccompProfile.localhostProfile: Required value: "
        "must be set when seccomp type is Localhost",
    ),
    (
        container(securityContext={"procMount": "Unmasked"}),
        'spec.containers[0].securityContext.procMount: Invalid value: "Unmasked": '
        "`hostUsers` must be false to use `Unmasked`",
    ),
    (
        pod(hostUsers=True, initContainers=[{"name": "b", "image": "a", "securityContext": {"procMount": "Unmasked"}}]),
        'spec.initContainers[0].securityContext.procMount: Invalid value: "Unmasked": '
        "`hostUsers` must be false to use `Unmasked`",
    ),
    (
        stateful(template={"metadata": {"labels": {"a": "b"}}, "spec": POD | {
            "containers": [{"name": "a", "image": "a", "securityContext": {"procMount": "Unmasked"}}]}}),
        'spec.template.spec.containers[0].securityContext.procMount: Invalid value: "Unmasked": '
        "`hostUsers` must be false to use `Unmasked`",
    ),
    (
        pod(hostUsers=False, containers=[{"name": "a", "image": "a", "securityContext": {"procMount": "Unmasked"}}]),
        "",
    ),
    (
        pod(hostUsers=False, volumes=[{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}], containers=[
            {"name": "a", "image": "a", "volumeDevices": [{"name": "v", "devicePath": "/dev/a"}]}]),
        "spec.containers[0].volumeDevices: Forbidden: when `hostUsers` is false",
    ),
    (
        pod(hostUsers=False, hostNetwork=True),
        "spec.hostNetwork: Forbidden: when `hostUsers` is false",
    ),
    (
        pod(shareProcessNamespace=True, hostPID=True),
        "spec.shareProcessNamespace: Invalid value: true: ShareProcessNamespace and HostPID cannot both be enabled",
    ),
    (
        pod(hostNetwork=True, containers=[
            {"name": "a", "image": "a", "ports": [{"containerPort": 80, "hostPort": 81}]}]),
        "spec.containers[0].ports[0].containerPort: Invalid value: 80: must match `hostPort` when `hostNetwork` is true",
    ),
    (
        pod(preemptionPolicy="Maybe"),
        'spec.preemptionPolicy: Unsupported value: "Maybe": supported values: "Never", "PreemptLowerPriority"',
    ),
    (
        pod(os={"name": "plan9"}),
        'spec.os.name: Unsupported value: "plan9": supported values: "linux", "windows"',
    ),
    (
        pod(topologySpreadConstraints=[
            {"maxSkew": 1, "topologyKey": "z", "whenUnsatisfiable": "ScheduleAnyway", "minDomains": 1}]),
        "spec.topologySpreadConstraints[0].minDomains: Invalid value: 1: can only use minDomains if "
        "whenUnsatisfiable=DoNotSchedule, not ScheduleAnyway",
    ),
    (
        container(resources={"limits": {"hugepages-2Mi": "2Mi"}}),
        "spec.containers[0].resources: Forbidden: HugePages require cpu or memory",
    ),
    (
        container(volumeDevices=[{"name": "x", "devicePath": "/dev/x"}]),
        'spec.containers[0].volumeDevices[0].name: Not found: "x"',
    ),
    (
        pod(volumes=[{"name": "v", "ephemeral": {}}]),
        "spec.volumes[0].ephemeral.volumeClaimTemplate: Required value",
    ),
    (pod(volumes=[{"name": "v", "image": {}}]), "spec.volumes[0].image.reference: Required value"),
    (pod(volumes=[{"name": "v", "image": {"reference": "data:1"}}]), ""),
    (stateful(), ""),
    (
        stateful(serviceName="a.b"),
        'spec.serviceName: Invalid value: "a.b": must not contain dots',
    ),
    (
        stateful(podManagementPolicy="Odd"),
        "spec.podManagementPolicy: Invalid value: \"Odd\": must be 'OrderedReady' or 'Parallel'",
    ),
    (
        stateful(updateStrategy={"type": "OnDelete", "rollingUpdate": {}}),
        "spec.updateStrategy.rollingUpdate: Invalid value: {}: only allowed for updateStrategy 'RollingUpdate'",
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("given", "expected"),
    [*JOBS, *AUTOSCALERS, *NETWORK, *LIMITS, *STORAGE, *EVENTS, *OTHERS, *PODS],
)
def test_faults_of_new_objects(given: dict[str, Any], expected: str) -> None:
    found = faults(given)
    if expected:
        assert any(fault.startswith(expected) for fault in found), found
    else:
        assert found == []


CHANGES: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    (job(), {"spec__parallelism": 5}, ""),
    (job(), {"spec__completions": 5}, "spec.completions: Invalid value: 5: field is immutable"),
    (indexed(), {"spec__completions": 5, "spec__parallelism": 5}, ""),
    (
        indexed(),
        {"spec__completions": 5},
        "spec.completions: Invalid value: 5: can only be modified in tandem with parallelism",
    ),
    (job(), {"spec__template__spec__nodeSelector": {"a": "b"}}, "spec.template: Invalid value: "),
    (job(suspend=True), {"spec__template__spec__nodeSelector": {"a": "b"}}, ""),
    (
        job(suspend=True),
        {"spec__template__spec__hostNetwork": True},
        "spec.template: Invalid value: ",
    ),
    (ingress_class(), {"spec__controller": "b.io/c"}, 'spec.controller: Invalid value: "b.io/c": field is immutable'),
    (
        quota({"pods": "1"}),
        {"spec__scopes": ["BestEffort"]},
        'spec.scopes: Invalid value: ["BestEffort"]: field is immutable',
    ),
    (attachment(), {"spec__nodeName": "other"}, "spec: Invalid value: "),
    (csi_driver(), {"spec__attachRequired": False}, "spec.attachRequired: Invalid value: false: field is immutable"),
    (
        obj("VolumeAttributesClass", "storage.k8s.io/v1", driverName="d.io", parameters={"a": "b"}),
        {"parameters": {"a": "c"}},
        "parameters: Forbidden: updates to parameters are forbidden.",
    ),
    (new_event(), {"reason": "Other"}, 'reason: Invalid value: "Other": field is immutable'),
    (new_event(), {"series": {"count": 2, "lastObservedTime": "2026-01-02T03:04:05.000000Z"}}, ""),
    (signing_request(), {"spec__usages": ["any"]}, ""),
    (
        claim({"name": "r", "exactly": {"deviceClassName": "c"}}),
        {"spec__devices": {}},
        "spec: Invalid value: ",
    ),
    (
        obj("ControllerRevision", "apps/v1", revision=1, data={"a": 1}),
        {"data": {"a": 2}},
        'data: Invalid value: {"a":2}: field is immutable',
    ),
    (
        service(type="LoadBalancer", loadBalancerClass="a.io/b"),
        {"spec__loadBalancerClass": "a.io/c"},
        'spec.loadBalancerClass: Invalid value: "a.io/c": may not change once set',
    ),
    *(
        (obj("ServiceCIDR", "networking.k8s.io/v1", spec={"cidrs": before}), {"spec__cidrs": after}, expected)
        for before, after, expected in (
            (["10.0.0.0/8"], ["10.0.0.0/8", "fd00::/64"], ""),
            (["10.0.0.0/8"], ["11.0.0.0/8"], 'spec.cidrs[0]: Invalid value: "11.0.0.0/8": field is immutable'),
            (["10.0.0.0/8"], ["fd00::/64", "10.0.0.0/8"], 'spec.cidrs[0]: Invalid value: "fd00::/64": field is immut'),
            (["10.0.0.0/8"], ["10.0.0.0/8", "fd00::1/64"], 'spec.cidrs[1]: Invalid value: "fd00::1/64": must not have'),
            (["10.0.0.0/8", "fd00::/64"], ["10.0.0.0/8"], 'spec.cidrs: Invalid value: ["10.0.0.0/8"]: field is immut'),
        )
    ),
    (
        stateful(),
        {"spec__serviceName": "other"},
        "spec: Forbidden: updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', "
        "'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' "
        "are forbidden",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("given", "patch", "expected"), CHANGES)
def test_faults_of_changes(given: dict[str, Any], patch: dict[str, Any], expected: str) -> None:
    found = changed(given, **patch)
    if expected:
        assert any(fault.startswith(expected) for fault in found), found
    else:
        assert found == []


STATUSES: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    (
        job(),
        {"conditions": [{"type": kind, "status": "True"} for kind in ("Complete", "Failed")]},
        "cannot set Complete=True and Failed=True conditions",
    ),
    (job(), {"active": -1}, "status.active: Invalid value: -1"),
    (hpa(), {"desiredReplicas": -1, "currentReplicas": 0}, "status.desiredReplicas: Invalid value: -1"),
    (
        ingress(defaultBackend=BACKEND),
        {"loadBalancer": {"ingress": [{"ip": "x"}]}},
        'status.loadBalancer.ingress[0].ip: Invalid value: "x": must be a valid IP address',
    ),
    (
        obj("Namespace"),
        {"phase": "Terminating"},
        "status.Phase: Invalid value: \"Terminating\": may only be 'Active' if `deletionTimestamp` is empty",
    ),
    (
        signing_request(),
        {"conditions": [{"type": "Approved", "status": "True"}]},
        'status.conditions: Forbidden: updates may not add a condition of type "Approved"',
    ),
    (
        signing_request(),
        {"certificate": base64.b64encode(b"x").decode()},
        'status.certificate: Invalid value: "<certificate data>": must contain at least one CERTIFICATE PEM block',
    ),
    (quota({"pods": "1"}), {"used": {"pods": "-1"}}, 'status.used[pods]: Invalid value: "-1"'),
]


@pytest.mark.parametrize(("given", "status", "expected"), STATUSES)
def test_faults_of_statuses(given: dict[str, Any], status: dict[str, Any], expected: str) -> None:
    found = status_faults(given, status)
    assert any(expected in fault for fault in found), found


def test_a_jobs_selector_is_the_servers() -> None:
    given = job(selector={"matchLabels": {"mine": "x"}})
    assert any("`selector` not auto-generated" in fault for fault in faults(given))
    given = job()
    assert faults(given) == []
    new = made(given)
    assert new["spec"]["selector"] == {"matchLabels": {"batch.kubernetes.io/controller-uid": "u-1"}}
    assert new["spec"]["template"]["metadata"]["labels"] == {
        "batch.kubernetes.io/controller-uid": "u-1",
        "controller-uid": "u-1",
        "batch.kubernetes.io/job-name": "a",
        "job-name": "a",
    }


def test_what_a_signing_request_asks_for_is_said_once() -> None:
    old = made(signing_request())
    new = copy.deepcopy(old)
    new["spec"]["usages"] = ["any"]
    strategy.prepare_update(resource_of(old), new, old)
    assert new["spec"]["usages"] == ["client auth"]
