"""``bamictl api-resources``: every resource the server offers."""

from __future__ import annotations

import argparse
import sys

from bamikube.cli.printers import format_rows
from bamikube.cli.resources import full_name
from bamikube.cli.session import Session

SUMMARY = "Print the supported API resources on the server"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--namespaced", nargs="?", const="true", default="", choices=["true", "false"])
    parser.add_argument("--api-group", default=None)
    parser.add_argument("--no-headers", action="store_true")
    parser.add_argument("-o", "--output", default="", choices=["", "name", "wide"])
    parser.add_argument("--verbs", default="")
    parser.add_argument("--categories", default="")


def run(args: argparse.Namespace, session: Session) -> int:
    wanted = set(filter(None, args.verbs.split(",")))
    categories = set(filter(None, args.categories.split(",")))
    seen: set[tuple[str, str]] = set()
    rows = []
    for one in session.catalogue.served():
        if one.key in seen or not one.verbs:
            continue
        seen.add(one.key)
        if args.namespaced and one.namespaced != (args.namespaced == "true"):
            continue
        if args.api_group is not None and one.group != args.api_group:
            continue
        if not wanted <= set(one.verbs) or not categories <= set(one.categories):
            continue
        rows.append(one)
    rows.sort(key=lambda one: (one.group, one.plural))
    if args.output == "name":
        for one in rows:
            print(full_name(one))
        return 0
    headers = ["NAME", "SHORTNAMES", "APIVERSION", "NAMESPACED", "KIND"]
    lines = [
        [one.plural, ",".join(one.short_names), one.api_version, str(one.namespaced).lower(), one.kind]
        for one in rows
    ]
    if args.output == "wide":
        headers += ["VERBS", "CATEGORIES"]
        lines = [
            [*line, ",".join(one.verbs), ",".join(one.categories)]
            for line, one in zip(lines, rows, strict=True)
        ]
    sys.stdout.write(format_rows(None if args.no_headers else headers, lines))
    return 0
