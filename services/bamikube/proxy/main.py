"""The ``bamikube-proxy`` command."""

from __future__ import annotations

import socket

from bamikube.client import Client
from bamikube.kit.service import run_main
from bamikube.kit.world import World
from bamikube.proxy.options import ProxyOptions
from bamikube.proxy.plan import Node
from bamikube.proxy.service import Proxy


def build(options: ProxyOptions, world: World) -> Proxy:
    """The service from its flags."""
    client = Client.from_kubeconfig(options.kubeconfig, world, user_agent="bamikube-proxy")
    node = Node(
        name=options.hostname_override or socket.gethostname().lower(),
        cluster_cidr=options.cluster_cidr,
        masquerade_all=options.masquerade_all,
        nodeport_addresses=tuple(options.nodeport_addresses),
    )
    return Proxy(
        client,
        world,
        node,
        service_range=options.service_cluster_ip_range,
        min_sync_period=options.min_sync_period,
        sync_period=options.sync_period,
    )


def main(argv: list[str] | None = None) -> int:
    """Run until SIGTERM."""
    return run_main("proxy", build, ProxyOptions, argv)


if __name__ == "__main__":
    raise SystemExit(main())
