"""The ledger's deltas: applying them to a model of the kernel always gives what a whole plan gives."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from bamikube.netlink.conntrack import Flow
from bamikube.netlink.tables import Table, difference
from bamikube.proxy.endpoints import choose
from bamikube.proxy.ledger import plan
from bamikube.proxy.model import Endpoint, Port, Service, Slice
from bamikube.proxy.plan import Fragment, Node
from bamikube.proxy.state import State, stale_flows

NODE = Node("n1", cluster_cidr="10.244.0.0/16")


def _service(index: int, shape: int) -> Service:
    port = Port("p", "UDP" if shape & 1 else "TCP", 80, 30000 + index if shape & 2 else 0)
    return Service(
        f"ns/s{index}",
        (f"10.96.0.{index + 1}",),
        (port,),
        external_ips=("192.0.2.1",) if shape & 4 else (),
        affinity=60 if shape & 8 else 0,
        external_local=bool(shape & 16),
    )


def _slice(index: int, members: list[int], protocol: str) -> Slice:
    found = tuple(Endpoint(f"10.244.0.{m + 1}", "n1" if m % 2 else "n2") for m in members)
    return Slice(f"ns/s{index}-x", f"ns/s{index}", (("p", protocol, 8080),), found)


class Kernel:
    """Applies partial tables as the kernel would, and complains about what the kernel would refuse."""

    def __init__(self, table: Table) -> None:
        self.sets = {name: dict(part.elements) for name, part in table.sets.items()}
        self.chains = dict(table.chains)

    def apply(self, before: Table, after: Table) -> None:
        for name, part in before.sets.items():
            new = after.sets.get(name)
            if new is None:
                del self.sets[name]
                continue
            for key, value in part.elements.items():
                assert self.sets[name][key] == value
                del self.sets[name][key]
        for name, part in after.sets.items():
            held = self.sets.setdefault(name, {})
            for key, value in part.elements.items():
                assert key not in held
                held[key] = value
        for name in before.chains:
            if name not in after.chains:
                del self.chains[name]
        self.chains.update(after.chains)


steps = st.lists(
    st.tuples(
        st.integers(0, 3),
        st.one_of(st.none(), st.integers(0, 31)),
        st.lists(st.integers(0, 5), max_size=4, unique=True),
    ),
    min_size=1,
    max_size=12,
)


@settings(max_examples=150, deadline=None)
@given(steps)
def test_deltas_add_up_to_the_plan(history: list[tuple[int, int | None, list[int]]]) -> None:
    state = State(NODE)
    kernel = Kernel(state.ledger.table())
    services: dict[str, Service] = {}
    slices: dict[str, Slice] = {}
    for index, shape, members in history:
        service = None if shape is None else _service(index, shape)
        key = f"ns/s{index}"
        state.service(key, service)
        services.pop(key, None)
        if service is not None:
            services[key] = service
        part = _slice(index, members, "UDP" if shape is not None and shape & 1 else "TCP")
        state.slice(part.key, slices.get(part.key), part)
        slices[part.key] = part
        step = state.take()
        difference(step.before, step.after)
        kernel.apply(step.before, step.after)
    whole = plan(services.values(), slices.values(), NODE)
    contested = {"service-ips", "endpoints", "local-endpoints", "no-endpoints"}
    for name, part in whole.sets.items():
        if name in contested:  # who holds a contested address depends on who came first; the keys do not
            assert kernel.sets[name].keys() >= {
                k for k in part.elements if not k.startswith(bytes([192, 0, 2, 1]))
            }
        else:
            assert kernel.sets[name] == part.elements
    assert whole.chains.items() <= {**kernel.chains, **state.ledger.table().chains}.items()


def test_ready_endpoints_first_then_terminating_ones_that_serve() -> None:
    port = Port("p", "TCP", 80)
    ready = Endpoint("10.0.0.1", "n1")
    ending = Endpoint("10.0.0.2", "n2", ready=False, serving=True, terminating=True)
    dead = Endpoint("10.0.0.3", "n2", ready=False, serving=False, terminating=True)

    def chosen(*found: Endpoint) -> tuple[tuple[tuple[str, int], ...], str]:
        result = choose(port, [Slice("a", "s", (("p", "TCP", 1),), found)], "n1")
        return result.cluster, result.reason

    assert chosen(ready, ending) == ((("10.0.0.1", 1),), "Ready")
    assert chosen(ending, dead) == ((("10.0.0.2", 1),), "Terminating")
    assert chosen(dead) == ((), "NoEndpoints")


def test_zone_hints_count_only_when_every_endpoint_has_them() -> None:
    port = Port("p", "TCP", 80)
    near, far = Endpoint("10.0.0.1", zones=("a",)), Endpoint("10.0.0.2", zones=("b",))
    plain = Endpoint("10.0.0.3")
    assert choose(port, [Slice("x", "s", (("p", "TCP", 1),), (near, far))], "n", "a").cluster == (
        ("10.0.0.1", 1),
    )
    assert len(choose(port, [Slice("x", "s", (("p", "TCP", 1),), (near, far, plain))], "n", "a").cluster) == 3
    assert len(choose(port, [Slice("x", "s", (("p", "TCP", 1),), (near, far))], "n", "c").cluster) == 2


def test_udp_connections_of_gone_endpoints_are_stale() -> None:
    a, b = Flow(17, "10.96.0.1", 53, "10.0.0.1", 53), Flow(17, "10.96.0.1", 53, "10.0.0.2", 53)
    assert stale_flows(Fragment(flows=frozenset({a, b})), Fragment(flows=frozenset({b}))) == [a]
    assert stale_flows(None, Fragment(flows=frozenset({a}))) == [Flow(17, "10.96.0.1", 53, "10.96.0.1", 53)]
    assert stale_flows(Fragment(flows=frozenset({a})), None) == [a]
