"""The ``bamikube-network`` command."""

from __future__ import annotations

import socket

from bamikube.client import Client
from bamikube.kit.service import run_main
from bamikube.kit.world import World
from bamikube.network.options import NetworkOptions
from bamikube.network.service import Network


def build(options: NetworkOptions, world: World) -> Network:
    """The service from its flags."""
    client = Client.from_kubeconfig(options.kubeconfig, world, user_agent="bamikube-network")
    return Network(client, world, options, options.hostname_override or socket.gethostname().lower())


def main(argv: list[str] | None = None) -> int:
    """Run until SIGTERM."""
    return run_main("network", build, NetworkOptions, argv)


if __name__ == "__main__":
    raise SystemExit(main())
