"""From services to netfilter tables: the decision, pure.

One service becomes a :class:`Fragment`: elements of the shared maps, and, only where session affinity or source ranges
ask for it, chains of its own. All fragments together with the fixed chains are the table. The shape::

    map service-ips    { ipv4_addr . inet_proto . inet_service : verdict }       10.96.0.10 . tcp . 80 : goto cluster-2
    map endpoints      { ipv4_addr . inet_proto . inet_service . mark : ipv4_addr . inet_service }
    chain services     { ip daddr . meta l4proto . th dport vmap @service-ips ... }
    chain cluster-2    { dnat ip to ip daddr . meta l4proto . th dport . numgen random mod 2 map @endpoints }

``cluster-2`` serves *every* service that has two endpoints: the address the packet was sent to is part of the key. So
the number of rules does not grow with the number of services, a packet costs two hash lookups whatever their number,
and replacing an endpoint is one element. Node ports have no address of their own: they have the same four things keyed
by protocol and port only. The shared chains, N being a number of endpoints and M of local ones:

=====================  ==========================================================================================
``cluster-N``          for cluster IPs: clients that are not pods are masqueraded
``external-N``         from outside, policy Cluster: always masqueraded, or the answer would bypass this node
``external-local-M-N`` from outside, policy Local: pods and this node are served as inside, others by the M local ones
``nodeport-...``       the same two for node ports
=====================  ==========================================================================================

Why masquerading is decided by a mark: only the first chain knows how a connection came in, only postrouting may change
its source. A pod that reaches *itself* through its service needs it too (it would see a packet from itself): the set
``hairpin`` holds (address, address) of the node's own endpoints.

A service port without endpoints stands in ``no-endpoints`` and is refused (RST, or ICMP port unreachable), one whose
policy is Local and whose endpoints are elsewhere is dropped, as health checks of load balancers expect.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from bamikube.netlink import statements as nft
from bamikube.netlink.conntrack import Flow
from bamikube.netlink.tables import (
    ADDRESS,
    DROPPED,
    MARK,
    PROTO,
    SERVICE,
    Chain,
    Hook,
    Set,
    Table,
    Verdict,
    goto_chain,
)
from bamikube.proxy.endpoints import Chosen, Target, choose
from bamikube.proxy.model import Port, Service, Slice

TABLE = "bamikube-proxy"
MASQUERADE_BIT = 0x4000  # the bit Kubernetes uses for this

Value = bytes | Verdict | None
Rule = tuple[nft.Statement, ...]

_BY_ADDRESS = (nft.DESTINATION, nft.PROTOCOL, nft.PORT)
_BY_PORT = (nft.PROTOCOL, nft.PORT)
_REJECT = goto_chain("refuse")

_PACK_INDEX = [struct.pack("=I", index) for index in range(1024)]


@dataclass(frozen=True, slots=True)
class Node:
    """Where this proxy stands. ``cluster_cidr`` empty: pods cannot be told from other clients."""

    name: str = ""
    zone: str = ""
    cluster_cidr: str = ""
    masquerade_all: bool = False
    nodeport_addresses: tuple[str, ...] = ()


@dataclass(slots=True)
class Fragment:
    """What one service contributes.

    ``elements``: by map. ``shared``: names of shared chains it goes to. ``flows``: of UDP, which connections it makes,
    so that those of a vanished endpoint can be forgotten.
    """

    elements: dict[str, dict[bytes, Value]] = field(default_factory=dict)
    shared: set[str] = field(default_factory=set)
    chains: dict[str, Chain] = field(default_factory=dict)
    sets: dict[str, Set] = field(default_factory=dict)
    flows: frozenset[Flow] = frozenset()

    def put(self, name: str, key: bytes, value: Value) -> None:
        held = self.elements.get(name)
        if held is None:
            held = self.elements[name] = {}
        held[key] = value


def _target(target: Target) -> bytes:
    return socket.inet_aton(target[0]) + struct.pack(">HH", target[1], 0)


def _port_key(port: Port, number: int) -> bytes:
    return struct.pack(">BxxxHxx", nft.PROTOCOLS[port.protocol], number)


def fragment(service: Service, slices: Iterable[Slice], node: Node) -> Fragment:
    """Decide one service."""
    made = Fragment()
    slices = list(slices)
    flows: list[Flow] = []
    for port in service.ports:
        if port.protocol not in nft.PROTOCOLS:
            continue
        chosen = choose(port, slices, node.name, node.zone)
        affinity = _Affinity(service, port, node, made) if service.affinity else None
        tail = _port_key(port, port.port)
        inside = chosen.local if service.internal_local else chosen.cluster
        for address in service.cluster_ips:
            key = socket.inet_aton(address) + tail
            if inside:
                made.put("service-ips", key, _inside(made, affinity, inside, service.internal_local))
                if not affinity:
                    _spread(made, "endpoints", key, inside)
            else:
                made.put("no-endpoints", key, DROPPED if chosen.cluster else _REJECT)
        for address in (*service.external_ips, *service.balancer_ips):
            _outside(made, service, chosen, affinity, "external", socket.inet_aton(address) + tail)
        if service.source_ranges:
            for address in service.balancer_ips:
                made.put("firewall", socket.inet_aton(address) + tail, goto_chain(_firewall(made, service)))
        if port.node_port:
            _outside(made, service, chosen, affinity, "nodeport", _port_key(port, port.node_port))
        for target in chosen.local:
            made.put("hairpin", socket.inet_aton(target[0]) * 2, None)
        if port.protocol == "UDP":
            flows += _flows(service, port, chosen)
    if flows:
        made.flows = frozenset(flows)
    return made


def _inside(made: Fragment, affinity: _Affinity | None, targets: tuple[Target, ...], local: bool) -> Verdict:
    if affinity:
        return goto_chain(affinity.cluster(targets, local))
    name = f"cluster-{len(targets)}"
    made.shared.add(name)
    return goto_chain(name)


def _spread(made: Fragment, name: str, key: bytes, targets: tuple[Target, ...]) -> None:
    for index, target in enumerate(targets):
        made.put(
            name, key + (_PACK_INDEX[index] if index < 1024 else struct.pack("=I", index)), _target(target)
        )


def _outside(
    made: Fragment, service: Service, chosen: Chosen, affinity: _Affinity | None, kind: str, key: bytes
) -> None:
    """A way in from outside: an external address, or a node port."""
    frontends, refused, targets, local_targets = (
        ("service-ips", "no-endpoints", "endpoints", "local-endpoints")
        if kind == "external"
        else ("service-nodeports", "no-endpoint-nodeports", "nodeport-endpoints", "nodeport-local-endpoints")
    )
    if not chosen.cluster:
        made.put(refused, key, _REJECT)
    elif affinity:
        made.put(frontends, key, goto_chain(affinity.external(chosen, service.external_local)))
    elif service.external_local:
        name = f"{kind}-local-{len(chosen.local)}-{len(chosen.cluster)}"
        made.shared.update((name, f"{kind}-{len(chosen.cluster)}", f"{_same(kind)}-{len(chosen.cluster)}"))
        made.put(frontends, key, goto_chain(name))
        _spread(made, targets, key, chosen.cluster)
        _spread(made, local_targets, key, chosen.local)
    else:
        name = f"{kind}-{len(chosen.cluster)}"
        made.shared.add(name)
        made.put(frontends, key, goto_chain(name))
        _spread(made, targets, key, chosen.cluster)


def _same(kind: str) -> str:
    """The chain that serves pods at an outside address: as inside, without changing their address."""
    return "cluster" if kind == "external" else "nodeport-pod"


def _flows(service: Service, port: Port, chosen: Chosen) -> list[Flow]:
    addresses = [
        (address, port.port)
        for address in (*service.cluster_ips, *service.external_ips, *service.balancer_ips)
    ]
    if port.node_port:
        addresses.append(("", port.node_port))
    return [
        Flow(17, address, number, target[0], target[1])
        for address, number in addresses
        for target in {*chosen.cluster, *chosen.local}
    ]


def _firewall(made: Fragment, service: Service) -> str:
    name = f"firewall/{service.key}"
    if name not in made.chains:
        rules: list[Rule] = [
            (nft.source_in(network), nft.verdict(nft.RETURN)) for network in service.source_ranges
        ]
        made.chains[name] = Chain(name, (*rules, (nft.drop(),)))
    return name


class _Affinity:
    """Chains of a service port whose clients stay with the endpoint they first met.

    Each endpoint has a dynamic set of its clients (named after service and endpoint, so that it survives changes of the
    others) and a chain that remembers the client and goes there. Known clients first, then one endpoint by lot.
    """

    def __init__(self, service: Service, port: Port, node: Node, made: Fragment) -> None:
        self._id = f"{service.key}/{port.protocol.lower()}/{port.name or port.port}"
        self._seconds = service.affinity
        self._node = node
        self._made = made

    def _endpoint(self, target: Target) -> tuple[str, str]:
        """The names of the endpoint's set and chain."""
        where = f"{self._id}/{target[0]}/{target[1]}"
        clients, chain = f"clients/{where}", f"endpoint/{where}"
        if chain not in self._made.chains:
            self._made.sets[clients] = Set(clients, (ADDRESS,), timeout=self._seconds)
            self._made.chains[chain] = Chain(chain, ((nft.remember_source(clients), nft.dnat_to(*target)),))
        return clients, chain

    def _pick(self, kind: str, targets: tuple[Target, ...]) -> str:
        name = f"{kind}/{self._id}"
        if name not in self._made.chains:
            named = [self._endpoint(target) for target in targets]
            rules: list[Rule] = [
                (nft.in_set((nft.SOURCE,), clients), nft.goto(chain)) for clients, chain in named
            ]
            for index, (_, chain) in enumerate(named[:-1]):
                rules.append((nft.one_in(len(named) - index), nft.goto(chain)))
            rules.append((nft.goto(named[-1][1]),))
            self._made.chains[name] = Chain(name, tuple(rules))
        return name

    def _wrap(self, name: str, rules: list[Rule]) -> str:
        self._made.chains.setdefault(name, Chain(name, tuple(rules)))
        return name

    def cluster(self, targets: tuple[Target, ...], local: bool) -> str:
        pick = self._pick("pick-local" if local else "pick", targets)
        return self._wrap(f"cluster/{self._id}", [*_inside_marks(self._node), (nft.goto(pick),)])

    def external(self, chosen: Chosen, local: bool) -> str:
        every = self._pick("pick", chosen.cluster)
        marked: Rule = (nft.set_mark(MASQUERADE_BIT), nft.goto(every))
        if not local:
            return self._wrap(f"external/{self._id}", [marked])
        rules: list[Rule] = []
        if self._node.cluster_cidr:
            rules.append((nft.source_in(self._node.cluster_cidr), nft.goto(every)))
        rules.append((nft.source_is_local(), *marked))
        rules.append((nft.goto(self._pick("pick-local", chosen.local)) if chosen.local else nft.drop(),))
        return self._wrap(f"external-local/{self._id}", rules)


def _inside_marks(node: Node) -> list[Rule]:
    if node.masquerade_all:
        return [(nft.set_mark(MASQUERADE_BIT),)]
    if node.cluster_cidr:
        return [(nft.source_in(node.cluster_cidr, negate=True), nft.set_mark(MASQUERADE_BIT))]
    return []


def shared_chain(name: str, node: Node) -> Chain:
    """The shared chain of that name (see the table above)."""
    kind, _, numbers = name.rpartition("-")
    count = int(numbers)
    if kind in ("external", "nodeport"):
        keys, targets = (_BY_ADDRESS, "endpoints") if kind == "external" else (_BY_PORT, "nodeport-endpoints")
        return Chain(
            name,
            ((nft.set_mark(MASQUERADE_BIT),), (nft.dnat_by_map((*keys, nft.random_below(count)), targets),)),
        )
    if kind in ("cluster", "nodeport-pod"):
        keys, targets = (_BY_ADDRESS, "endpoints") if kind == "cluster" else (_BY_PORT, "nodeport-endpoints")
        marks = _inside_marks(node) if kind == "cluster" else []
        return Chain(name, (*marks, (nft.dnat_by_map((*keys, nft.random_below(count)), targets),)))
    # external-local-M-N or nodeport-local-M-N
    kind, _, local = kind.rpartition("-")
    kind = kind.removesuffix("-local")
    keys, targets = (
        (_BY_ADDRESS, "local-endpoints") if kind == "external" else (_BY_PORT, "nodeport-local-endpoints")
    )
    rules: list[Rule] = []
    if node.cluster_cidr:
        rules.append((nft.source_in(node.cluster_cidr), nft.goto(f"{_same(kind)}-{count}")))
    rules.append((nft.source_is_local(), nft.goto(f"{kind}-{count}")))
    if int(local):
        rules.append((nft.dnat_by_map((*keys, nft.random_below(int(local))), targets),))
    else:
        rules.append((nft.drop(),))
    return Chain(name, tuple(rules))


def frame(node: Node) -> Table:
    """The table without any service: its maps and the chains that are always there."""
    by_address, by_port = (ADDRESS, PROTO, SERVICE), (PROTO, SERVICE)
    target = (ADDRESS, SERVICE)
    sets = [
        Set("service-ips", by_address, verdicts=True),
        Set("service-nodeports", by_port, verdicts=True),
        Set("no-endpoints", by_address, verdicts=True),
        Set("no-endpoint-nodeports", by_port, verdicts=True),
        Set("firewall", by_address, verdicts=True),
        Set("endpoints", (*by_address, MARK), target),
        Set("local-endpoints", (*by_address, MARK), target),
        Set("nodeport-endpoints", (*by_port, MARK), target),
        Set("nodeport-local-endpoints", (*by_port, MARK), target),
        Set("hairpin", (ADDRESS, ADDRESS)),
    ]
    to_node: list[Rule] = [(nft.destination_is_local(), nft.destination_in("127.0.0.0/8", negate=True))]
    if node.nodeport_addresses:
        to_node = [(*to_node[0], nft.destination_in(network)) for network in node.nodeport_addresses]
    services: list[Rule] = [(nft.verdict_map(_BY_ADDRESS, "service-ips"),)]
    services += [(*match, nft.verdict_map(_BY_PORT, "service-nodeports")) for match in to_node]
    refused: list[Rule] = [
        (nft.verdict_map(_BY_ADDRESS, "firewall"),),
        (nft.verdict_map(_BY_ADDRESS, "no-endpoints"),),
    ]
    refused += [(*match, nft.verdict_map(_BY_PORT, "no-endpoint-nodeports")) for match in to_node]
    marked = nft.mark_has(MASQUERADE_BIT)
    chains = [
        # before destinations are changed (-100), and after connections are known (-200)
        Chain("filter-prerouting", ((nft.jump("refused"),),), Hook("filter", "prerouting", -110)),
        Chain("filter-output", ((nft.jump("refused"),),), Hook("filter", "output", -110)),
        Chain("nat-prerouting", ((nft.jump("services"),),), Hook("nat", "prerouting", -100)),
        Chain("nat-output", ((nft.jump("services"),),), Hook("nat", "output", -100)),
        Chain(
            "nat-postrouting",
            (
                (marked, nft.clear_mark(MASQUERADE_BIT), nft.masquerade(fully_random=True)),
                (
                    # Only what came back to its sender by way of a service: a node that speaks to itself directly
                    # must keep its addresses.
                    nft.destination_was_changed(),
                    nft.in_set((nft.SOURCE, nft.DESTINATION), "hairpin"),
                    nft.masquerade(fully_random=True),
                ),
            ),
            Hook("nat", "postrouting", 100),
        ),
        Chain("services", tuple(services)),
        Chain("refused", tuple(refused)),
        Chain("refuse", ((nft.reject_tcp(),), (nft.reject(),))),
    ]
    return Table(TABLE, {part.name: part for part in sets}, {chain.name: chain for chain in chains})


Changes = Mapping[str, Fragment | None]
