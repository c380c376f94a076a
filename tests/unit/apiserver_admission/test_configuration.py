"""The file of --admission-control-config-file: what it says to each plugin, and what is said of its mistakes."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
import yaml

from bamikube.api.errors import ApiError
from bamikube.apiserver.admission import configuration
from bamikube.apiserver.admission.event_rate_limit import EventLimit, EventRateLimit
from bamikube.apiserver.admission.quota_ledger import QUOTAS, QuotaLedger
from bamikube.apiserver.admission.resource_quota import ResourceQuota
from bamikube.apiserver.identity import User
from bamikube.apiserver.outbound.introductions import Introductions
from bamikube.kit.world import World
from bamikube.store.model import ModelStore

from .conftest import DictReader, Object, admit, context, pod, refusal

HEAD = {"apiVersion": "apiserver.config.k8s.io/v1", "kind": "AdmissionConfiguration"}
QUOTA = {"apiVersion": "apiserver.config.k8s.io/v1", "kind": "ResourceQuotaConfiguration"}
EVENTS = {"apiVersion": "eventratelimit.admission.k8s.io/v1alpha1", "kind": "Configuration"}
HOOKS = {"apiVersion": "apiserver.config.k8s.io/v1", "kind": "WebhookAdmissionConfiguration"}


def written(folder: Path, *plugins: Object) -> str:
    file = folder / "admission.yaml"
    file.write_text(yaml.safe_dump({**HEAD, "plugins": list(plugins)}))
    return str(file)


def section(name: str, head: Object, **fields: Any) -> Object:
    return {"name": name, "configuration": {**head, **fields}}


def test_each_plugin_finds_its_section_in_the_file_or_beside_it(tmp_path: Path) -> None:
    (tmp_path / "quota.yaml").write_text(
        yaml.safe_dump({**QUOTA, "limitedResources": [{"resource": "pods", "matchContains": ["gpu"]}]})
    )
    limit = {"type": "User", "qps": 1, "burst": 2, "cacheSize": 3}
    file = written(
        tmp_path,
        {"name": "ResourceQuota", "path": "quota.yaml"},
        section("EventRateLimit", EVENTS, limits=[limit, {"type": "Server", "qps": 5, "burst": 6}]),
    )
    found = configuration.read(file)
    assert found.events == (EventLimit("User", 1, 2, 3), EventLimit("Server", 5, 6))
    assert [(one.kind, one.contains) for one in found.limited] == [(("", "pods"), ("gpu",))]
    assert found.pod_security == configuration.NO_DEFAULTS
    assert configuration.read("") is configuration.UNCONFIGURED


@pytest.mark.parametrize(
    ("plugin", "why"),
    [
        (
            section("ImagePolicyWebhook", EVENTS),
            "plugins[0].name: 'ImagePolicyWebhook' takes no configuration",
        ),
        (
            section("ResourceQuota", EVENTS | {"kind": "Other"}),
            "plugins[0].configuration: expected an object of",
        ),
        (
            section("ResourceQuota", HEAD | {"kind": "Configuration"}),
            "configuration.apiVersion: must be one of",
        ),
        (section("EventRateLimit", EVENTS), "configuration.limits: Invalid value: []: must not be empty"),
        (
            section("EventRateLimit", EVENTS, limits=[{"type": "Node", "qps": 1, "burst": 1}]),
            'limits[0].type: Unsupported value: "Node": supported values: "Namespace", "Server", "SourceAndObject", "User"',
        ),
        (
            section("EventRateLimit", EVENTS, limits=[{"type": "User", "qps": 0, "burst": 1}]),
            "configuration.limits[0].qps: Invalid value: 0: must be positive",
        ),
        (
            section("ResourceQuota", QUOTA, limitedResources=[{"matchContains": ["gpu"]}]),
            "configuration.limitedResources[0].resource: Required value",
        ),
        (section("ResourceQuota", QUOTA, limitedResources={}), "limitedResources: expected a list"),
        (
            section("ValidatingAdmissionWebhook", HOOKS, kubeConfigFile="a/b"),
            "kubeConfigFile: Invalid value: 'a/b'",
        ),
        (
            section("MutatingAdmissionWebhook", HOOKS, kubeConfigFile="/no/such"),
            "cannot read kubeconfig /no/such",
        ),
        ({"name": "PodSecurity", "path": "none.yaml"}, "none.yaml: No such file or directory"),
        ({"nam": "PodSecurity"}, "plugins[0]: unknown fields nam; known are name, path, configuration"),
    ],
)
def test_mistakes_are_named_with_file_and_field(tmp_path: Path, plugin: Object, why: str) -> None:
    with pytest.raises(ValueError) as caught:
        configuration.read(written(tmp_path, plugin))
    said = str(caught.value)
    assert said.startswith(f"--admission-control-config-file {tmp_path}/") and why in said


async def test_what_is_limited_by_default_takes_a_quota(reader: DictReader, tmp_path: Path) -> None:
    scope = {"scopeName": "PriorityClass", "operator": "In", "values": ["high", "higher"]}
    limits = [
        {"resource": "pods", "matchContains": ["example.com/gpu"]},
        {"resource": "pods", "matchScopes": [scope]},
        {"resource": "persistentvolumeclaims", "matchContains": ["gold.storageclass"]},
    ]
    file = written(tmp_path, section("ResourceQuota", QUOTA, limitedResources=limits))
    limited = configuration.read(file).limited
    plugin = ResourceQuota(QuotaLedger(reader), ModelStore(World()), reader, limited)
    asks = {"requests": {"example.com/gpu": "1"}, "limits": {"example.com/gpu": "1"}}
    gpu = pod(containers=[{"name": "c", "image": "i", "resources": asks}])
    await admit(plugin, context("pods", pod()))
    error = await refusal(plugin, context("pods", gpu))
    assert error.message == ('pods "p" is forbidden: insufficient quota to consume: requests.example.com/gpu')
    await admit(plugin, context("pods", gpu, "UPDATE", old=gpu))
    high = pod(priorityClassName="high")
    error = await refusal(plugin, context("pods", high))
    assert error.message == (
        'pods "p" is forbidden: insufficient quota to match these scopes: [{PriorityClass In [high higher]}]'
    )
    hard = {"requests.example.com/gpu": "4"}
    quota: Object = {
        "metadata": {"name": "q", "namespace": "default", "resourceVersion": "1"},
        "spec": {"hard": hard},
        "status": {"hard": hard, "used": {}},
    }
    reader.put(QUOTAS, quota)
    await admit(plugin, context("pods", gpu))
    selector = {"matchExpressions": [{**scope, "values": ["high"]}]}
    some = {
        "metadata": {**quota["metadata"], "name": "r"},
        "spec": {"hard": {"pods": "9"}, "scopeSelector": selector},
    }
    reader.put(QUOTAS, some)
    await admit(plugin, context("pods", high))
    await refusal(plugin, context("pods", pod(priorityClassName="higher")))
    claim = {
        "metadata": {"name": "c", "namespace": "default"},
        "spec": {"storageClassName": "gold", "resources": {"requests": {"storage": "1Gi"}}},
    }
    error = await refusal(plugin, context("persistentvolumeclaims", claim))
    names = "gold.storageclass.storage.k8s.io/persistentvolumeclaims,gold.storageclass.storage.k8s.io/requests.storage"
    assert f"insufficient quota to consume: {names}" in error.message


class At:
    def __init__(self) -> None:
        self.time = 0.0

    def monotonic(self) -> float:
        return self.time


async def test_events_come_no_faster_than_the_limits_let_them() -> None:
    clock = At()
    limits = [
        EventLimit("Namespace", 1, 2, 1),
        EventLimit("SourceAndObject", 1, 3),
        EventLimit("Server", 9, 99),
    ]
    plugin = EventRateLimit(limits, clock)  # type: ignore[arg-type]
    about = {"kind": "Pod", "namespace": "default", "name": "p", "uid": "u", "apiVersion": "v1"}
    event = {"metadata": {"name": "e"}, "source": {"component": "c", "host": "h"}, "involvedObject": about}

    def asked(namespace: str = "default", **more: Any) -> Any:
        return context("events", {**event, **more}, namespace=namespace, user=User("u", ()))

    for _ in range(2):
        await admit(plugin, asked())
    error: ApiError = await refusal(plugin, asked())
    assert (error.code, error.reason) == (429, "TooManyRequests")
    assert error.message == "Too many requests: limit reached on type Namespace for key default"
    dry = asked()
    dry.dry_run = True
    await admit(plugin, dry)
    clock.time = 1.0
    await admit(plugin, asked())
    error = await refusal(plugin, asked())
    clock.time = 1.5
    error = await refusal(plugin, asked())
    both = "[limit reached on type Namespace for key default, limit reached on type SourceAndObject for key chPoddefaultpuv1]"
    assert error.message == f"Too many requests: {both}"
    # Of one namespace is remembered: the other one's bucket is full again.
    await admit(plugin, asked("other", source={}))
    await admit(plugin, asked(source={}))
    with pytest.raises(ValueError, match="has to name its limits"):
        EventRateLimit((), clock)  # type: ignore[arg-type]


def test_webhooks_are_shown_what_the_kubeconfig_has_for_them(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("from-file\n")
    users = {
        "judge.web.svc": {"token": "judge"},
        "judge.web.svc:8443": {"username": "me", "password": "secret"},
        "*.example.com": {"tokenFile": "token"},
        "fallback": {"token": "anybody"},
    }
    config: Object = {
        "users": [{"name": name, "user": user} for name, user in users.items()],
        "contexts": [{"name": "c", "context": {"user": "fallback"}}],
        "current-context": "c",
    }
    file = tmp_path / "hooks.conf"
    file.write_text(yaml.safe_dump(config))

    def shown(client: Object, authority: str = "") -> str:
        headers = dict(Introductions.read(str(file)).of(client, authority).headers)
        return headers.get("Authorization", "")

    judge = {"name": "judge", "namespace": "web"}
    assert shown({"service": judge}) == "Bearer judge"
    assert shown({"service": {**judge, "port": 443}}) == "Bearer judge"
    basic = base64.b64encode(b"me:secret").decode()
    assert shown({"service": {**judge, "port": 8443}}) == f"Basic {basic}"
    assert shown({"url": "..."}, "a.b.example.com") == "Bearer from-file"
    assert shown({"url": "..."}, "example.org:9") == "Bearer anybody"
    config["current-context"] = ""
    file.write_text(yaml.safe_dump(config))
    assert shown({"url": "..."}, "example.org:9") == ""
    config["users"].append({"name": "*", "user": {"token": "star"}})
    file.write_text(yaml.safe_dump(config))
    assert shown({"url": "..."}, "example.org:9") == "Bearer star"
