"""``bamictl create``: from manifests, and the short forms for tokens and namespaces."""

from __future__ import annotations

import argparse
from typing import Any

from bamikube.cli.errors import usage
from bamikube.cli.printers import parse_output, print_object
from bamikube.cli.resources import path_of, short_name
from bamikube.cli.selection import manifests
from bamikube.cli.session import Session, seconds_of

SUMMARY = "Create a resource from a file or from stdin; create token NAME; create namespace NAME"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("words", nargs="*", metavar="token NAME | namespace NAME")
    parser.add_argument("-f", "--filename", action="append", default=[])
    parser.add_argument("-R", "--recursive", action="store_true")
    parser.add_argument("-o", "--output", default="")
    parser.add_argument(
        "--dry-run", nargs="?", const="client", default="none", choices=["none", "client", "server"]
    )
    parser.add_argument("--duration", default="", help="token: how long it is valid, such as 1h")
    parser.add_argument("--audience", action="append", default=[], help="token: for whom")


def run(args: argparse.Namespace, session: Session) -> int:
    if args.filename:
        for obj in manifests(args.filename, args.recursive):
            _create(args, session, obj)
        return 0
    match args.words:
        case ["token", name]:
            _token(args, session, name)
        case ["namespace" | "ns", name]:
            _create(args, session, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        case ["serviceaccount" | "sa", name]:
            _create(args, session, {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}})
        case _:
            raise usage("create needs -f FILE, or one of: token NAME, namespace NAME, serviceaccount NAME")
    return 0


def _token(args: argparse.Namespace, session: Session, name: str) -> None:
    spec: dict[str, Any] = {}
    if args.duration:
        spec["expirationSeconds"] = int(seconds_of(args.duration))
    if args.audience:
        spec["audiences"] = args.audience
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "metadata": {}, "spec": spec}
    resource = session.catalogue.find("serviceaccounts")[0]
    answer = session.connection.call(
        "POST", path_of(resource, session.namespace, name, "token"), body=request
    )
    if args.output:
        print_object(parse_output(args.output), answer)
    else:
        print(answer["status"]["token"])


def _create(args: argparse.Namespace, session: Session, obj: dict[str, Any]) -> None:
    resource = session.catalogue.by_kind(obj["apiVersion"], obj["kind"])
    metadata = obj.setdefault("metadata", {})
    if resource.namespaced:
        metadata.setdefault("namespace", session.namespace)
    query = {"fieldManager": "kubectl-create", "fieldValidation": "Strict"}
    if args.dry_run == "server":
        query["dryRun"] = "All"
    if args.dry_run != "client":
        obj = session.connection.call("POST", path_of(resource, metadata.get("namespace", "")), query, obj)
    name = f"{short_name(resource)}/{obj['metadata'].get('name', '')}"
    if args.output:
        print_object(parse_output(args.output), obj, name)
        return
    suffix = {"client": " (dry run)", "server": " (server dry run)"}.get(args.dry_run, "")
    print(f"{name} created{suffix}")
