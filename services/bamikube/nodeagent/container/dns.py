"""Names inside a pod: resolv.conf, hostname and /etc/hosts.

Source: "DNS for Services and Pods" (policies, at most three name servers, 32 search domains), "Adding entries to
Pod /etc/hosts with HostAliases". Pure.
"""

from __future__ import annotations

from dataclasses import dataclass

from bamikube.nodeagent.pod import facts
from bamikube.nodeagent.pod.facts import JSON

MAX_SERVERS = 3
MAX_SEARCHES = 32


@dataclass(frozen=True, slots=True)
class Resolver:
    """The three kinds of lines of a resolv.conf."""

    servers: tuple[str, ...] = ()
    searches: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


def parse(text: str) -> Resolver:
    """A resolv.conf as it lies on the node; the last ``search`` line counts."""
    servers: list[str] = []
    searches: tuple[str, ...] = ()
    options: list[str] = []
    for line in text.splitlines():
        words = line.split("#")[0].split(";")[0].split()
        if not words:
            continue
        if words[0] == "nameserver" and len(words) > 1:
            servers.append(words[1])
        elif words[0] in ("search", "domain"):
            searches = tuple(words[1:])
        elif words[0] == "options":
            options.extend(words[1:])
    return Resolver(tuple(servers), searches, tuple(options))


def resolver(pod: JSON, *, node: Resolver, cluster_dns: tuple[str, ...], domain: str) -> Resolver:
    """What the pod's resolv.conf says."""
    policy = pod["spec"].get("dnsPolicy") or "ClusterFirst"
    if policy == "ClusterFirst" and facts.host_network(pod):
        policy = "Default"
    if policy == "ClusterFirstWithHostNet":
        policy = "ClusterFirst"
    if policy == "None":
        base = Resolver()
    elif policy == "Default" or not cluster_dns:
        base = node if node.servers else Resolver(("127.0.0.1",), node.searches, node.options)
    else:
        namespace = pod["metadata"].get("namespace", "default")
        own = (f"{namespace}.svc.{domain}", f"svc.{domain}", domain) if domain else ()
        base = Resolver(cluster_dns, tuple(dict.fromkeys((*own, *node.searches))), ("ndots:5",))
    extra = pod["spec"].get("dnsConfig") or {}
    options = {o.partition(":")[0]: o for o in base.options}
    for option in extra.get("options") or ():
        value = option.get("value")
        options[option["name"]] = f"{option['name']}:{value}" if value is not None else option["name"]
    return Resolver(
        tuple(dict.fromkeys((*base.servers, *(extra.get("nameservers") or ()))))[:MAX_SERVERS],
        tuple(dict.fromkeys((*base.searches, *(extra.get("searches") or ()))))[:MAX_SEARCHES],
        tuple(options.values()),
    )


def hostname(pod: JSON, node_name: str) -> str:
    """The pod's host name: its own, spec.hostname, or the node's in the host network. At most 63 characters."""
    if facts.host_network(pod):
        return node_name
    name = pod["spec"].get("hostname") or pod["metadata"]["name"]
    return str(name)[:63].rstrip("-.")


def fqdn(pod: JSON, node_name: str, domain: str) -> str:
    """The full name a pod with a subdomain has, or ''."""
    subdomain = pod["spec"].get("subdomain")
    if not subdomain or facts.host_network(pod):
        return ""
    return f"{hostname(pod, node_name)}.{subdomain}.{pod['metadata'].get('namespace', '')}.svc.{domain}"


def hosts_file(pod: JSON, ips: tuple[str, ...], node_name: str, domain: str, node_hosts: str) -> str:
    """The text of /etc/hosts: the node's own in the host network, else made from the pod."""
    if facts.host_network(pod):
        text = "# Kubernetes-managed hosts file (host network).\n" + node_hosts.rstrip("\n") + "\n"
    else:
        text = (
            "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"
            "fe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n"
        )
        full = fqdn(pod, node_name, domain)
        for ip in ips:
            text += (
                f"{ip}\t{full}\t{hostname(pod, node_name)}\n"
                if full
                else f"{ip}\t{hostname(pod, node_name)}\n"
            )
    aliases = pod["spec"].get("hostAliases") or ()
    if aliases:
        text += "\n# Entries added by HostAliases.\n"
        for alias in aliases:
            text += f"{alias['ip']}\t" + "\t".join(alias.get("hostnames") or ()) + "\n"
    return text
