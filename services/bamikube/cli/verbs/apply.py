"""``bamictl apply -f``: make the live objects follow the manifests, by a three-way patch or by the server.

With ``--server-side`` the server merges, and says whose fields the manifest would change; ``--force-conflicts`` takes them.

Otherwise the manifest applied last is kept in an annotation of the object, ``kubectl.kubernetes.io/last-applied-configuration``,
the same that kubectl uses, so both can be used in turn. How the patch is computed:
:mod:`bamikube.api.patches.three_way`.
"""

from __future__ import annotations

import argparse
import copy
import json
from typing import Any

from bamikube.api.patches import PatchError, three_way
from bamikube.api.resources import Resource
from bamikube.cli.errors import CliError, ServerError, usage
from bamikube.cli.printers import parse_output, print_object
from bamikube.cli.resources import path_of, short_name
from bamikube.cli.selection import manifests
from bamikube.cli.session import Session

SUMMARY = "Apply a configuration to a resource by file name or stdin"
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
Map = dict[str, Any]


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-f", "--filename", action="append", default=[], metavar="FILE|FOLDER|-")
    parser.add_argument("-R", "--recursive", action="store_true")
    parser.add_argument("-o", "--output", default="")
    parser.add_argument(
        "--dry-run", nargs="?", const="client", default="none", choices=["none", "client", "server"]
    )
    parser.add_argument("--server-side", action="store_true")
    parser.add_argument("--force-conflicts", action="store_true")
    parser.add_argument("--field-manager", default="")
    parser.add_argument("--validate", nargs="?", const="strict", default="strict")


def run(args: argparse.Namespace, session: Session) -> int:
    if not args.filename:
        raise usage("must specify one of -f and -k")
    if args.force_conflicts and not args.server_side:
        raise usage("--force-conflicts only works with --server-side")
    if args.server_side and args.dry_run == "client":
        raise usage(
            "--dry-run=client doesn't work with --server-side (did you mean --dry-run=server instead?)"
        )
    failed = 0
    for obj in manifests(args.filename, args.recursive):
        try:
            _apply(args, session, obj)
        except CliError as error:
            import sys

            print(error.message, file=sys.stderr)
            failed = 1
    return failed


def _apply(args: argparse.Namespace, session: Session, obj: Map) -> None:
    resource = session.catalogue.by_kind(obj["apiVersion"], obj["kind"])
    metadata = obj.setdefault("metadata", {})
    name = metadata.get("name")
    if not name:
        raise CliError("error: resource name may not be empty")
    if resource.namespaced:
        if session.args.namespace and metadata.get("namespace", session.namespace) != session.namespace:
            raise CliError(
                f'error: the namespace from the provided object "{metadata["namespace"]}" does not match the namespace '
                f"\"{session.namespace}\". You must pass '--namespace={metadata['namespace']}' to perform this operation."
            )
        metadata.setdefault("namespace", session.namespace)
    namespace = metadata.get("namespace", "")
    path = path_of(resource, namespace, name)
    if args.server_side:
        _told(args, resource, name, "serverside-applied", _by_server(args, session, path, obj))
        return
    modified = with_last_applied(obj)
    live = session.connection.get_or_none(path)
    query = {"fieldManager": args.field_manager or "kubectl-client-side-apply"}
    if args.validate in ("strict", "true"):
        query["fieldValidation"] = "Strict"
    if args.dry_run == "server":
        query["dryRun"] = "All"
    if live is None:
        done, result = "created", modified
        if args.dry_run != "client":
            result = session.connection.call("POST", path_of(resource, namespace), query, modified)
    else:
        done, result = _update(args, session, resource, path, query, live, modified)
    _told(args, resource, name, done, result)


def _told(args: argparse.Namespace, resource: Resource, name: str, done: str, result: Map) -> None:
    if args.output:
        print_object(parse_output(args.output), result, f"{short_name(resource)}/{name}")
        return
    suffix = {"client": " (dry run)", "server": " (server dry run)"}.get(args.dry_run, "")
    print(f"{short_name(resource)}/{name} {done}{suffix}")


def _by_server(args: argparse.Namespace, session: Session, path: str, obj: Map) -> Map:
    """The object after the server has applied the manifest."""
    query = {"fieldManager": args.field_manager or "kubectl", "force": str(args.force_conflicts).lower()}
    if args.validate in ("strict", "true"):
        query["fieldValidation"] = "Strict"
    if args.dry_run == "server":
        query["dryRun"] = "All"
    try:
        return session.connection.call("PATCH", path, query, obj, content_type="application/apply-patch+yaml")
    except ServerError as error:
        _, found, conflicts = error.message.partition("Apply failed with ")
        if error.reason != "Conflict" or not found:
            raise
        raise CliError(
            f"error: {found}{conflicts}\n"
            "These fields have other managers. Take them over with --force-conflicts, leave them out of the manifest,\n"
            "or give them the value they have: then you manage them together."
        ) from None


def with_last_applied(obj: Map) -> Map:
    """The manifest with itself in the annotation (which does not count itself)."""
    plain = copy.deepcopy(obj)
    annotations = plain["metadata"].setdefault("annotations", {}) or {}
    annotations.pop(LAST_APPLIED, None)
    plain["metadata"]["annotations"] = annotations
    modified = copy.deepcopy(plain)
    text = json.dumps(plain, separators=(",", ":"), sort_keys=True, ensure_ascii=False) + "\n"
    modified["metadata"]["annotations"][LAST_APPLIED] = text
    return modified


def plan(resource: Resource, live: Map, modified: Map) -> tuple[Map, str]:
    """The patch for the live object and its content type; an empty patch when nothing is to be done."""
    text = ((live.get("metadata") or {}).get("annotations") or {}).get(LAST_APPLIED)
    try:
        original = json.loads(text) if text else {}
    except ValueError:
        original = {}
    try:
        if resource.definition:
            from bamikube.api.schema import property

            patch = three_way(original, modified, live, resource.definition, property)
            return patch, "application/strategic-merge-patch+json"
        return three_way(original, modified, live), "application/merge-patch+json"
    except PatchError as error:
        raise CliError(f"error: cannot compare the manifest with the live object: {error}") from None


def _update(
    args: argparse.Namespace,
    session: Session,
    resource: Resource,
    path: str,
    query: Map,
    live: Map,
    modified: Map,
) -> tuple[str, Map]:
    patch, content_type = plan(resource, live, modified)
    if not patch:
        return "unchanged", live
    if args.dry_run == "client":
        return "configured", modified
    try:
        answer = session.connection.call("PATCH", path, query, patch, content_type=content_type)
    except ServerError as error:
        if error.reason != "NotFound":
            raise
        return "created", session.connection.call("POST", path.rpartition("/")[0], query, modified)
    same = answer["metadata"].get("resourceVersion") == live["metadata"].get("resourceVersion")
    return ("unchanged" if same else "configured"), answer
