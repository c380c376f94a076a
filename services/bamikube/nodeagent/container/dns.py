"""Names inside a pod: resolv.conf, hostname and /etc/hosts.

Source: "DNS for Services and Pods" (policies, at most three name servers, 32 search domains), "Adding entries to
Pod /etc/hosts with HostAliases". Pure.
"""

from __future__ import annotations

from dataclasses import dataclass

from bamikube.nodeagent.container.env import ConfigError
from bamikube.nodeagent.pod import facts
from bamikube.nodeagent.pod.facts import JSON

MAX_SERVERS = 3
MAX_SEARCHES = 32
MAX_SEARCH_LINE = 2048  # characters
MAX_SEARCH_DOMAIN = 253  # characters
MAX_FQDN = 64  # characters of a host name, by the kernel


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
    return _fitting(_asked_for(pod, node, cluster_dns, domain))


def warnings(
    pod: JSON, *, node: Resolver, cluster_dns: tuple[str, ...], domain: str
) -> list[tuple[str, str]]:
    """Reasons and messages of what the pod asks for in its resolv.conf and does not get."""
    found = []
    if _policy(pod) == "ClusterFirst" and not cluster_dns:
        text = 'kubelet does not have ClusterDNS IP configured and cannot create Pod using "ClusterFirst" policy.'
        name = facts.full_name(pod)
        found.append(("MissingClusterDNS", f'pod: "{name}". {text} Falling back to "Default" policy.'))
    asked = _asked_for(pod, node, cluster_dns, domain)
    given = _fitting(asked)
    if given.servers != asked.servers:
        line = " ".join(given.servers)
        text = "Nameserver limits were exceeded, some nameservers have been omitted, the applied nameserver line is"
        found.append(("DNSConfigForming", f"{text}: {line}"))
    if given.searches != asked.searches:
        line = " ".join(given.searches)
        text = "Search Line limits were exceeded, some search paths have been omitted, the applied search line is"
        found.append(("DNSConfigForming", f"{text}: {line}"))
    return found


def _fitting(asked: Resolver) -> Resolver:
    """As much of it as a resolver library takes."""
    searches = [s for s in asked.searches if len(s) <= MAX_SEARCH_DOMAIN][:MAX_SEARCHES]
    while len(" ".join(searches)) > MAX_SEARCH_LINE:
        searches.pop()
    return Resolver(asked.servers[:MAX_SERVERS], tuple(searches), asked.options)


def _policy(pod: JSON) -> str:
    policy = str(pod["spec"].get("dnsPolicy") or "ClusterFirst")
    if policy == "ClusterFirst" and facts.host_network(pod):
        return "Default"
    return "ClusterFirst" if policy == "ClusterFirstWithHostNet" else policy


def _asked_for(pod: JSON, node: Resolver, cluster_dns: tuple[str, ...], domain: str) -> Resolver:
    policy = _policy(pod)
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
        tuple(dict.fromkeys((*base.servers, *(extra.get("nameservers") or ())))),
        tuple(dict.fromkeys((*base.searches, *(extra.get("searches") or ())))),
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


def own_name(pod: JSON, node_name: str, domain: str) -> str:
    """The host name a pod gets, its full name where it asks for that. Raises ConfigError for one that is too long."""
    full = fqdn(pod, node_name, domain)
    if not pod["spec"].get("setHostnameAsFQDN") or not full:
        return hostname(pod, node_name)
    if len(full) > MAX_FQDN:
        raise ConfigError(
            f"failed to construct FQDN from pod hostname and cluster domain, FQDN {full} is too long "
            f"({MAX_FQDN} characters is the max, {len(full)} characters requested)"
        )
    return full


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
