"""``bamictl version``: of the client and of the server."""

from __future__ import annotations

import argparse
from importlib import metadata

from bamikube.cli.printers import Output, print_object
from bamikube.cli.session import Session

SUMMARY = "Print the client and server version information"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--client", action="store_true", help="do not ask the server")
    parser.add_argument("-o", "--output", default="", choices=["", "yaml", "json"])


def run(args: argparse.Namespace, session: Session) -> int:
    try:
        own = metadata.version("bamikube")
    except metadata.PackageNotFoundError:
        own = "0.1.0"
    found: dict[str, object] = {"clientVersion": {"gitVersion": f"v{own}"}}
    server = None if args.client else session.connection.call("GET", "/version")
    if server is not None:
        found["serverVersion"] = server
    if args.output:
        print_object(Output(args.output), found)
        return 0
    print(f"Client Version: v{own}")
    if server is not None:
        print(f"Server Version: {server.get('gitVersion', '')}")
    return 0
