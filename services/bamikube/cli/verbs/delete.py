"""``bamictl delete``: objects by name, by manifest or by label, and wait until they are gone."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from bamikube.api.resources import Resource
from bamikube.cli.errors import CliError, ServerError, usage
from bamikube.cli.resources import path_of, short_name
from bamikube.cli.selection import manifests, select
from bamikube.cli.session import Session, seconds_of

SUMMARY = "Delete resources by file names, stdin, resources and names, or by label selector"
_POLICIES = {"background": "Background", "foreground": "Foreground", "orphan": "Orphan"}
Found = tuple[Resource, str, str]  # resource, namespace, name


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("words", nargs="*", metavar="TYPE [NAME...] | TYPE/NAME")
    parser.add_argument("-f", "--filename", action="append", default=[])
    parser.add_argument("-R", "--recursive", action="store_true")
    parser.add_argument("-l", "--selector", default="")
    parser.add_argument("--field-selector", default="")
    parser.add_argument("--all", action="store_true")
    parser.add_argument("-A", "--all-namespaces", action="store_true")
    parser.add_argument(
        "--cascade", nargs="?", const="background", default="background", choices=list(_POLICIES)
    )
    parser.add_argument("--grace-period", type=int, default=-1)
    parser.add_argument("--now", action="store_true")
    parser.add_argument("--force", action="store_true")
    parser.add_argument("--ignore-not-found", nargs="?", const="true", default="false")
    parser.add_argument("--wait", nargs="?", const="true", default="true", choices=["true", "false"])
    parser.add_argument("--timeout", default="0s")
    parser.add_argument("-o", "--output", default="", choices=["", "name"])
    parser.add_argument(
        "--dry-run", nargs="?", const="client", default="none", choices=["none", "client", "server"]
    )


def run(args: argparse.Namespace, session: Session) -> int:
    if args.now and args.grace_period < 0:
        args.grace_period = 1
    if args.force and args.grace_period < 0:
        args.grace_period = 0
    if args.grace_period == 0 and not args.force:
        # Without force, the object is still waited for, so one second is what kubectl makes of it.
        args.grace_period = 1
    if args.force and args.grace_period == 0:
        print(
            "Warning: Immediate deletion does not wait for confirmation that the running resource has been terminated. "
            "The resource may continue to run on the cluster indefinitely.",
            file=sys.stderr,
        )
    failed = 0
    waiting: list[tuple[Found, str]] = []
    for found in _targets(args, session):
        try:
            uid = _delete(args, session, found)
        except ServerError as error:
            if error.reason == "NotFound" and args.ignore_not_found == "true":
                continue
            print(error.message, file=sys.stderr)
            failed = 1
            continue
        waiting.append((found, uid))
    if args.wait == "true" and args.dry_run == "none" and not (args.force and args.grace_period == 0):
        limit = seconds_of(args.timeout)
        for found, uid in waiting:
            _wait(session, found, uid, limit)
    return failed


def _targets(args: argparse.Namespace, session: Session) -> list[Found]:
    if args.filename:
        found: list[Found] = []
        for obj in manifests(args.filename, args.recursive):
            resource = session.catalogue.by_kind(obj["apiVersion"], obj["kind"])
            namespace = obj["metadata"].get("namespace") or session.namespace
            found.append((resource, namespace if resource.namespaced else "", obj["metadata"]["name"]))
        return found
    selected = select(session.catalogue, args.words)
    chosen = args.selector or args.field_selector or args.all
    if any(not name for _, name in selected) and not chosen:
        raise usage("resource(s) were provided, but no name was specified")
    found = []
    for resource, name in selected:
        if name:
            found.append((resource, session.namespace if resource.namespaced else "", name))
            continue
        namespace = "" if args.all_namespaces else session.namespace
        query = {"labelSelector": args.selector, "fieldSelector": args.field_selector}
        answer = session.connection.call("GET", path_of(resource, namespace), query)
        for item in answer.get("items") or []:
            found.append((resource, item["metadata"].get("namespace", ""), item["metadata"]["name"]))
    if not found:
        print("No resources found", file=sys.stderr)
    return found


def _delete(args: argparse.Namespace, session: Session, found: Found) -> str:
    """Ask for the deletion; the uid of what goes."""
    resource, namespace, name = found
    options: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "DeleteOptions",
        "propagationPolicy": _POLICIES[args.cascade],
    }
    if args.grace_period >= 0:
        options["gracePeriodSeconds"] = args.grace_period
    query = {"dryRun": "All"} if args.dry_run == "server" else {}
    answer: dict[str, Any] = {}
    if args.dry_run != "client":
        answer = session.connection.call("DELETE", path_of(resource, namespace, name), query, options)
    if args.output == "name":
        print(f"{short_name(resource)}/{name}")
    else:
        how = " force" if args.force and args.grace_period == 0 else ""
        where = f" from {namespace} namespace" if namespace else ""
        suffix = {"client": " (dry run)", "server": " (server dry run)"}.get(args.dry_run, "")
        print(f'{short_name(resource)} "{name}"{how} deleted{where}{suffix}')
    details = answer.get("details") or {}
    return str(details.get("uid") or (answer.get("metadata") or {}).get("uid") or "")


def _wait(session: Session, found: Found, uid: str, limit: float) -> None:
    """Until the object is gone, or another one has its name. The watch tells; nothing is polled."""
    resource, namespace, name = found
    query: dict[str, Any] = {"fieldSelector": f"metadata.name={name}"}
    while True:
        answer = session.connection.call("GET", path_of(resource, namespace), query)
        items = answer.get("items") or []
        if not items or (uid and items[0]["metadata"].get("uid") != uid):
            return
        version = (answer.get("metadata") or {}).get("resourceVersion", "")
        watch = {"watch": "true", "resourceVersion": version, "timeoutSeconds": int(limit) or None}
        for event in session.connection.lines(path_of(resource, namespace), query | watch):
            if event.get("type") == "DELETED":
                return
        if limit:
            raise CliError(f"error: timed out waiting for the condition on {resource.plural}/{name}")
