"""Name servers, search domains and host names beyond what a resolver or the kernel takes."""

from __future__ import annotations

from typing import Any

import pytest

from bamikube.nodeagent.container import dns
from bamikube.nodeagent.container.env import ConfigError
from tests.simulation import virtual
from tests.support.hollow_pods import HollowNode

JSON = dict[str, Any]
NODE = dns.Resolver(("192.0.2.53",), ("example.com",))


def pod(**spec: Any) -> JSON:
    return {"metadata": {"name": "web", "namespace": "default", "uid": "u"}, "spec": spec}


def told(made: JSON, cluster_dns: tuple[str, ...] = ("10.96.0.10",)) -> list[tuple[str, str]]:
    return dns.warnings(made, node=NODE, cluster_dns=cluster_dns, domain="cluster.local")


def test_three_name_servers_are_the_limit() -> None:
    made = pod(dnsPolicy="None", dnsConfig={"nameservers": ["1.1.1.1", "2.2.2.2", "3.3.3.3", "4.4.4.4"]})
    text = (
        "Nameserver limits were exceeded, some nameservers have been omitted, the applied nameserver line is"
    )
    assert told(made) == [("DNSConfigForming", f"{text}: 1.1.1.1 2.2.2.2 3.3.3.3")]


def test_search_lines_have_limits_too() -> None:
    given: JSON = {"nameservers": ["1.1.1.1"], "searches": [f"d{number}.test" for number in range(40)]}
    made = pod(dnsPolicy="None", dnsConfig=given)
    [(reason, text)] = told(made)
    assert reason == "DNSConfigForming" and text.endswith(" d31.test") and "search line is: d0.test" in text
    given["searches"] = [f"{number}{'x' * 200}.test" for number in range(20)]
    found = dns.resolver(made, node=NODE, cluster_dns=(), domain="cluster.local")
    assert len(found.searches) == 9 and len(" ".join(found.searches)) <= 2048


def test_no_cluster_dns_falls_back_to_the_node() -> None:
    [(reason, text)] = told(pod(), ())
    assert reason == "MissingClusterDNS"
    words = 'cannot create Pod using "ClusterFirst" policy. Falling back to "Default" policy.'
    assert text.startswith('pod: "web_default(u)". kubelet does not have ClusterDNS') and text.endswith(words)
    assert told(pod()) == told(pod(dnsPolicy="Default"), ()) == []


def test_a_full_name_of_65_characters_is_too_long() -> None:
    made = pod(subdomain="s", setHostnameAsFQDN=True, hostname="h" * 36)
    assert len(dns.own_name(made, "n", "cluster.local")) == 64
    made["spec"]["hostname"] += "h"
    with pytest.raises(
        ConfigError, match=r"is too long \(64 characters is the max, 65 characters requested\)"
    ):
        dns.own_name(made, "n", "cluster.local")


def test_a_pod_with_such_a_name_stays_pending() -> None:
    async def story() -> None:
        async with HollowNode() as node:
            spec = {"subdomain": "s", "setHostnameAsFQDN": True, "hostname": "h" * 60}
            worker = node.run("web", containers=[{"name": "app"}], **spec)
            await node.until(lambda: len(node.api.said("FailedCreatePodSandBox")) > 2)
            assert worker.status["phase"] == "Pending"
            text = (
                "Failed to create pod sandbox: failed to construct FQDN from pod hostname and cluster domain"
            )
            assert node.api.said("FailedCreatePodSandBox")[0].startswith(text)

    virtual.run(story())
