"""``bamictl get``: objects as tables, YAML, JSON, names or templates, once or watching."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from bamikube.api.resources import Resource
from bamikube.cli.connection import TABLE
from bamikube.cli.errors import CliError, ServerError, usage
from bamikube.cli.printers import Output, TableOptions, format_table, parse_output, print_object
from bamikube.cli.resources import path_of, short_name
from bamikube.cli.selection import Selected, manifests, select
from bamikube.cli.session import Session

SUMMARY = "Display one or many resources"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("words", nargs="*", metavar="TYPE [NAME...] | TYPE/NAME")
    parser.add_argument("-o", "--output", default="")
    parser.add_argument("-l", "--selector", default="")
    parser.add_argument("--field-selector", default="")
    parser.add_argument("-A", "--all-namespaces", action="store_true")
    parser.add_argument("-w", "--watch", action="store_true")
    parser.add_argument("--watch-only", action="store_true")
    parser.add_argument("--show-labels", action="store_true")
    parser.add_argument("-L", "--label-columns", action="append", default=[])
    parser.add_argument("--no-headers", action="store_true")
    parser.add_argument("--show-managed-fields", action="store_true")
    parser.add_argument("--ignore-not-found", action="store_true")
    parser.add_argument("-f", "--filename", action="append", default=[])
    parser.add_argument("-R", "--recursive", action="store_true")
    parser.add_argument("--raw", default="")
    parser.add_argument("--chunk-size", type=int, default=500)
    parser.add_argument("--subresource", default="")


def run(args: argparse.Namespace, session: Session) -> int:
    if args.raw:
        sys.stdout.write(session.connection.open("GET", args.raw).read().decode("utf-8", "replace"))
        return 0
    output = parse_output(args.output)
    selected = _selected(args, session)
    if args.watch or args.watch_only:
        return _watch(args, session, output, selected)
    return (
        _tables(args, session, output, selected)
        if output.tabular
        else _documents(args, session, output, selected)
    )


def _selected(args: argparse.Namespace, session: Session) -> list[Selected]:
    if not args.filename:
        selected = select(session.catalogue, args.words)
        if args.all_namespaces and any(name for _, name in selected):
            raise usage("a resource cannot be retrieved by name across all namespaces")
        return selected
    found = []
    for obj in manifests(args.filename, args.recursive):
        found.append((session.catalogue.by_kind(obj["apiVersion"], obj["kind"]), obj["metadata"]["name"]))
    return found


def _place(args: argparse.Namespace, session: Session, resource: Resource, name: str = "") -> str:
    namespace = "" if args.all_namespaces else session.namespace
    return path_of(resource, namespace, name, args.subresource)


def _query(args: argparse.Namespace, name: str) -> dict[str, Any]:
    if name:
        return {}
    return {
        "labelSelector": args.selector,
        "fieldSelector": args.field_selector,
        "limit": args.chunk_size or None,
    }


def _options(
    args: argparse.Namespace, output: Output, selected: list[Selected], resource: Resource
) -> TableOptions:
    columns = [key for part in args.label_columns for key in part.split(",")]
    several = len({row.key for row, _ in selected}) > 1
    return TableOptions(
        wide=output.format == "wide",
        namespace=args.all_namespaces and resource.namespaced,
        labels=args.show_labels,
        label_columns=columns,
        prefix=f"{short_name(resource)}/" if several else "",
        headers=not args.no_headers,
    )


def _pages(
    args: argparse.Namespace, session: Session, resource: Resource, name: str, accept: str
) -> dict[str, Any]:
    """A whole list, or one object, in the form asked for; the pages of a list are put together."""
    path, query = _place(args, session, resource, name), _query(args, name)
    whole = session.connection.call("GET", path, query, accept=accept)
    key = "rows" if "rows" in whole else "items"
    token = (whole.get("metadata") or {}).get("continue")
    while token and not name:
        page = session.connection.call("GET", path, query | {"continue": token}, accept=accept)
        whole[key] = [*(whole.get(key) or []), *(page.get(key) or [])]
        token = (page.get("metadata") or {}).get("continue")
    return whole


def _tables(args: argparse.Namespace, session: Session, output: Output, selected: list[Selected]) -> int:
    grouped: dict[tuple[str, str], tuple[Resource, dict[str, Any]]] = {}
    failed = 0
    for resource, name in selected:
        try:
            table = _pages(args, session, resource, name, TABLE)
        except ServerError as error:
            if error.reason == "NotFound" and name and args.ignore_not_found:
                continue
            if len(selected) == 1:
                raise
            print(error.message, file=sys.stderr)
            failed = 1
            continue
        if resource.key in grouped:
            grouped[resource.key][1]["rows"] += table.get("rows") or []
        elif table.get("rows"):
            grouped[resource.key] = (resource, table)
    for number, (resource, table) in enumerate(grouped.values()):
        if number:
            print()
        sys.stdout.write(format_table(table, _options(args, output, selected, resource)))
    if not grouped and not failed and not args.ignore_not_found:
        everywhere = args.all_namespaces or not any(resource.namespaced for resource, _ in selected)
        place = "" if everywhere else f" in {session.namespace} namespace."
        print(f"No resources found{place}", file=sys.stderr)
    return failed


def _documents(args: argparse.Namespace, session: Session, output: Output, selected: list[Selected]) -> int:
    objects: list[tuple[Resource, dict[str, Any]]] = []
    single = len(selected) == 1 and bool(selected[0][1])
    for resource, name in selected:
        try:
            answer = _pages(args, session, resource, name, "")
        except ServerError as error:
            if error.reason == "NotFound" and name and args.ignore_not_found:
                continue
            raise
        items = [answer] if name else answer.get("items") or []
        for item in items:
            head = {"apiVersion": resource.api_version, "kind": resource.kind}
            objects.append((resource, head | item))
    for _, obj in objects:
        if not args.show_managed_fields:
            (obj.get("metadata") or {}).pop("managedFields", None)
    if output.format == "name":
        for resource, obj in objects:
            print(f"{short_name(resource)}/{obj['metadata']['name']}")
    elif single:
        if objects:
            print_object(output, objects[0][1])
    else:
        items = [obj for _, obj in objects]
        print_object(
            output, {"apiVersion": "v1", "items": items, "kind": "List", "metadata": {"resourceVersion": ""}}
        )
    return 0


def _watch(args: argparse.Namespace, session: Session, output: Output, selected: list[Selected]) -> int:
    if len({resource.key for resource, _ in selected}) > 1 or len(selected) > 1:
        raise usage("you may only specify a single resource type")
    resource, name = selected[0]
    accept = TABLE if output.tabular else ""
    path = _place(args, session, resource)
    fields = ",".join(filter(None, [args.field_selector, f"metadata.name={name}" if name else ""]))
    query = {"labelSelector": args.selector, "fieldSelector": fields}
    first = session.connection.call("GET", path, query, accept=accept)
    if name and not first.get("rows" if output.tabular else "items"):
        session.connection.call(
            "GET", _place(args, session, resource, name)
        )  # its absence is the error to show
    options = _options(args, output, selected, resource)
    if not args.watch_only:
        _show(output, resource, first, options)
    query |= {"watch": "true", "resourceVersion": (first.get("metadata") or {}).get("resourceVersion", "")}
    columns = first.get("columnDefinitions")
    for event in session.connection.lines(path, query, accept):
        kind, obj = event.get("type"), event.get("object") or {}
        if kind == "ERROR":
            raise CliError(f"error: {obj.get('message') or 'the watch ended'}")
        if kind == "BOOKMARK":
            continue
        if output.tabular and columns:
            obj.setdefault("columnDefinitions", columns)
            obj["columnDefinitions"] = obj["columnDefinitions"] or columns
        _show(output, resource, obj, options)
    return 0


def _show(output: Output, resource: Resource, obj: dict[str, Any], options: TableOptions) -> None:
    if output.tabular:
        text = format_table(obj, options)
        if obj.get("rows"):
            sys.stdout.write(text)
            options.headers = False
    else:
        for item in obj["items"] if isinstance(obj.get("items"), list) else [obj]:
            if output.format == "yaml":
                print("---")
            head = {"apiVersion": resource.api_version, "kind": resource.kind}
            print_object(output, head | item, f"{short_name(resource)}/{item['metadata']['name']}")
    sys.stdout.flush()
