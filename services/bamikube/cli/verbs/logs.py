"""``bamictl logs``: what a container printed, and with ``-f`` what it prints."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from bamikube.api.resources import Resource
from bamikube.api.selectors import from_object
from bamikube.cli.errors import CliError, usage
from bamikube.cli.resources import path_of
from bamikube.cli.selection import one
from bamikube.cli.session import Session, seconds_of

SUMMARY = "Print the logs for a container in a pod"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("words", nargs="*", metavar="POD | TYPE/NAME")
    parser.add_argument("-c", "--container", default="")
    parser.add_argument("-f", "--follow", action="store_true")
    parser.add_argument("-p", "--previous", action="store_true")
    parser.add_argument("-l", "--selector", default="")
    parser.add_argument("--tail", type=int, default=-1)
    parser.add_argument("--since", default="")
    parser.add_argument("--since-time", default="")
    parser.add_argument("--limit-bytes", type=int, default=0)
    parser.add_argument("--timestamps", action="store_true")
    parser.add_argument("--all-containers", action="store_true")
    parser.add_argument("--prefix", action="store_true")


def run(args: argparse.Namespace, session: Session) -> int:
    pods_resource = session.catalogue.find("pods")[0]
    pods = _pods(args, session, pods_resource)
    words = list(args.words)
    if len(words) > 1 and not args.container:
        args.container = words[1]
    for pod in pods:
        for container in _containers(args, pod):
            _print(args, session, pods_resource, pod, container)
    return 0


def _pods(args: argparse.Namespace, session: Session, resource: Resource) -> list[dict[str, Any]]:
    path = path_of(resource, session.namespace)
    if args.selector:
        if args.tail < 0:
            args.tail = 10
        return list(session.connection.call("GET", path, {"labelSelector": args.selector}).get("items") or [])
    if not args.words:
        raise usage(
            "expected 'logs [-f] [-p] (POD | TYPE/NAME) [-c CONTAINER]'.\nPOD or TYPE/NAME is a required argument for the logs command"
        )
    owner, name = one(session.catalogue, args.words[:1])
    obj = session.connection.call("GET", path_of(owner, session.namespace, name))
    if owner.plural == "pods":
        return [obj]
    selector = str(from_object(obj["spec"]["selector"])) if "selector" in obj.get("spec", {}) else ""
    items = session.connection.call("GET", path, {"labelSelector": selector}).get("items") if selector else []
    if not items:
        raise CliError(f"error: no pods found for {owner.plural}/{name}")
    if len(items) > 1:
        print(f"Found {len(items)} pods, using pod/{items[0]['metadata']['name']}", file=sys.stderr)
    return [items[0]]


def _containers(args: argparse.Namespace, pod: dict[str, Any]) -> list[str]:
    spec = pod["spec"]
    names = [container["name"] for container in spec["containers"]]
    if args.all_containers:
        return [container["name"] for container in spec.get("initContainers") or []] + names
    if args.container:
        return [args.container]
    wanted = (pod["metadata"].get("annotations") or {}).get("kubectl.kubernetes.io/default-container")
    chosen = wanted if wanted in names else names[0]
    if len(names) > 1 and not wanted:
        print(f'Defaulted container "{chosen}" out of: {", ".join(names)}', file=sys.stderr)
    return [str(chosen)]


def _print(
    args: argparse.Namespace, session: Session, resource: Resource, pod: dict[str, Any], container: str
) -> None:
    query: dict[str, Any] = {"container": container}
    query["follow"] = "true" if args.follow else None
    query["previous"] = "true" if args.previous else None
    query["timestamps"] = "true" if args.timestamps else None
    query["tailLines"] = args.tail if args.tail >= 0 else None
    query["sinceSeconds"] = max(1, int(seconds_of(args.since))) if args.since else None
    query["sinceTime"] = args.since_time
    query["limitBytes"] = args.limit_bytes or None
    metadata = pod["metadata"]
    path = path_of(resource, metadata["namespace"], metadata["name"], "log")
    answer = session.connection.open("GET", path, query, headers={"Accept": "*/*"})
    mark = f"[pod/{metadata['name']}/{container}] ".encode() if args.prefix else b""
    if mark:
        while line := answer.readline():
            sys.stdout.buffer.write(mark + line)
            sys.stdout.buffer.flush()
        return
    while data := answer.read1(65536):
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
