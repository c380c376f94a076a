"""Names, hosts, volumes on disk, classes and image names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bamikube.nodeagent.container import dns
from bamikube.nodeagent.node.status import parse_taint
from bamikube.nodeagent.pod.kernel import Kernel
from bamikube.nodeagent.pod.publisher import patch_between
from bamikube.nodeagent.pod.qos import container_resources, pod_cgroup
from bamikube.nodeagent.volumes import atomic
from bamikube.nodeagent.volumes.payload import File

NODE = dns.Resolver(("192.0.2.53",), ("example.org",), ())


def pod(**spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": "web", "namespace": "shop", "uid": "u"}, "spec": {"containers": []} | spec}


def test_resolvers_by_policy() -> None:
    made = dns.resolver(pod(), node=NODE, cluster_dns=("10.96.0.10",), domain="cluster.local")
    assert made.servers == ("10.96.0.10",)
    assert made.searches == ("shop.svc.cluster.local", "svc.cluster.local", "cluster.local", "example.org")
    assert made.options == ("ndots:5",)
    host = pod(hostNetwork=True)
    assert dns.resolver(host, node=NODE, cluster_dns=("10.96.0.10",), domain="cluster.local") == NODE
    host = pod(hostNetwork=True, dnsPolicy="ClusterFirstWithHostNet")
    assert dns.resolver(host, node=NODE, cluster_dns=("10.96.0.10",), domain="d").servers == ("10.96.0.10",)
    own = pod(
        dnsPolicy="None", dnsConfig={"nameservers": ["1.1.1.1"], "options": [{"name": "ndots", "value": "2"}]}
    )
    assert dns.resolver(own, node=NODE, cluster_dns=(), domain="d") == dns.Resolver(
        ("1.1.1.1",), (), ("ndots:2",)
    )


def test_hosts_file_names_the_pod_and_its_aliases() -> None:
    made = pod(subdomain="db", hostAliases=[{"ip": "1.2.3.4", "hostnames": ["a", "b"]}])
    text = dns.hosts_file(made, ("10.0.0.1",), "n1", "cluster.local", "")
    assert "10.0.0.1\tweb.db.shop.svc.cluster.local\tweb\n" in text
    assert text.endswith("# Entries added by HostAliases.\n1.2.3.4\ta\tb\n")


def test_volumes_change_all_at_once(tmp_path: Path) -> None:
    assert atomic.write(tmp_path, {"a": File(b"1", 0o644), "d/b": File(b"2", 0o400)}, "v1")
    assert (tmp_path / "a").read_bytes() == b"1" and (tmp_path / "d/b").read_bytes() == b"2"
    assert not atomic.write(tmp_path, {"a": File(b"1", 0o644), "d/b": File(b"2", 0o400)}, "v2")
    assert atomic.write(tmp_path, {"a": File(b"3", 0o644)}, "v3")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["..data", "..v3", "a"]
    assert (tmp_path / "a").read_bytes() == b"3"


def test_cgroup_values() -> None:
    spec = {
        "name": "c",
        "resources": {"limits": {"cpu": "500m", "memory": "64Mi"}, "requests": {"cpu": "250m"}},
    }
    made = container_resources(pod(containers=[spec]), spec, Kernel(memory=2**30))
    assert (made.cpu_shares, made.cpu_quota, made.cpu_period, made.memory_limit) == (
        256,
        50000,
        100000,
        64 * 2**20,
    )
    assert made.oom_score_adj == 999


def test_cgroup_of_a_pod() -> None:
    def bounded(cpu: str = "", memory: str = "") -> dict[str, Any]:
        limits = {name: text for name, text in (("cpu", cpu), ("memory", memory)) if text}
        return {"name": "c", "resources": {"limits": limits, "requests": limits}}

    def values(**spec: Any) -> tuple[int, int, int]:
        made = pod_cgroup(pod(**spec))
        return made.cpu_shares, made.cpu_quota, made.memory_limit // 2**20

    both = [bounded("500m", "64Mi"), bounded("250m", "64Mi")]
    assert values(containers=both) == (768, 75_000, 128)
    assert values(containers=[*both, bounded("250m")]) == (1024, 100_000, 0)  # one has no limit of memory
    once, side = bounded("1", "32Mi"), bounded("500m", "32Mi") | {"restartPolicy": "Always"}
    assert values(containers=both, initContainers=[side, once]) == (1536, 150_000, 160)
    whole = {"limits": {"cpu": "1", "memory": "256Mi"}, "requests": {"cpu": "100m"}}
    assert values(containers=[bounded()], resources=whole) == (102, 100_000, 256)
    assert values(containers=[bounded()]) == (2, 0, 0)
    assert values(containers=both, overhead={"cpu": "250m", "memory": "64Mi"}) == (1024, 100_000, 192)


def test_status_patches_hold_changes_only() -> None:
    old = {
        "phase": "Pending",
        "podIPs": [{"ip": "1"}],
        "reason": "x",
        "conditions": [{"type": "A", "status": "True"}],
    }
    new = {"phase": "Running", "podIPs": [{"ip": "2"}], "conditions": [{"type": "A", "status": "True"}]}
    assert patch_between(old, new) == {
        "phase": "Running",
        "podIPs": [{"ip": "2"}, {"$patch": "delete", "ip": "1"}],
        "reason": None,
    }
    assert patch_between(new, new) == {}


def test_taints() -> None:
    assert parse_taint("a/b=:NoSchedule") == {"key": "a/b", "effect": "NoSchedule"}
    assert parse_taint("k=v:NoExecute") == {"key": "k", "value": "v", "effect": "NoExecute"}
    with pytest.raises(ValueError, match="--register-with-taints"):
        parse_taint("k=v")
