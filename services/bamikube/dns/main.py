"""The ``bamikube-dns`` command."""

from __future__ import annotations

from bamikube.client import Client
from bamikube.dns.options import DnsOptions
from bamikube.dns.service import Dns
from bamikube.kit.service import run_main
from bamikube.kit.world import World


def build(options: DnsOptions, world: World) -> Dns:
    """The service from its flags."""
    return Dns(Client.from_kubeconfig(options.kubeconfig, world, user_agent="bamikube-dns"), world, options)


def main(argv: list[str] | None = None) -> int:
    """Run until SIGTERM."""
    return run_main("dns", build, DnsOptions, argv)


if __name__ == "__main__":
    raise SystemExit(main())
