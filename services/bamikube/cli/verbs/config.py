"""``bamictl config``: look at and change kubeconfig files."""

from __future__ import annotations

import argparse
import base64
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bamikube.cli.errors import CliError, usage
from bamikube.cli.printers import format_rows, print_object
from bamikube.cli.session import Session

SUMMARY = "Modify kubeconfig files (view, get-contexts, use-context, set-context ...)"
Map = dict[str, Any]
_SECRETS = ("client-key-data", "token", "password")
_DATA = ("certificate-authority-data", "client-certificate-data")


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "action", choices=sorted(_ACTIONS), metavar="ACTION", help=", ".join(sorted(_ACTIONS))
    )
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--minify", action="store_true", help="view: only the current context")
    parser.add_argument("--raw", action="store_true", help="view: show certificates and keys")
    parser.add_argument("--flatten", action="store_true", help="view: put files into the document")
    parser.add_argument("-o", "--output", default="")
    parser.add_argument("--no-headers", action="store_true")
    parser.add_argument("--current", action="store_true", help="set-context: the current context")
    parser.add_argument("--embed-certs", nargs="?", const="true", default="false", choices=["true", "false"])
    parser.add_argument("--username", default=None)
    parser.add_argument("--password", default=None)


def run(args: argparse.Namespace, session: Session) -> int:
    _ACTIONS[args.action](args, session)
    return 0


def _name(args: argparse.Namespace) -> str:
    if len(args.names) != 1:
        raise usage(f"config {args.action} needs one name")
    return str(args.names[0])


def _view(args: argparse.Namespace, session: Session) -> None:
    document = session.config.merged()
    if args.minify:
        document = _minified(document, args.context or document["current-context"])
    for section, key in (("clusters", "cluster"), ("users", "user")):
        for entry in document[section]:
            content = entry[key] = dict(entry[key])
            if args.flatten:
                _embed(content)
            if not args.raw and not args.flatten:
                content.update({name: "REDACTED" for name in _SECRETS if name in content})
                content.update({name: "DATA+OMITTED" for name in _DATA if name in content})
                if "client-key-data" in content:
                    content["client-key-data"] = "DATA+OMITTED"
    from bamikube.cli.printers import parse_output

    print_object(parse_output(args.output or "yaml"), document)


def _minified(document: Map, name: str) -> Map:
    contexts = [entry for entry in document["contexts"] if entry["name"] == name]
    if not contexts:
        raise CliError(f'error: context "{name}" does not exist')
    wanted = contexts[0]["context"]
    kept = dict(document) | {"contexts": contexts, "current-context": name}
    kept["clusters"] = [entry for entry in document["clusters"] if entry["name"] == wanted.get("cluster")]
    kept["users"] = [entry for entry in document["users"] if entry["name"] == wanted.get("user")]
    return kept


def _embed(content: Map) -> None:
    for name in ("certificate-authority", "client-certificate", "client-key"):
        if content.get(name):
            content[f"{name}-data"] = base64.b64encode(Path(content.pop(name)).read_bytes()).decode()


def _get_contexts(args: argparse.Namespace, session: Session) -> None:
    config = session.config
    names = args.names or sorted(config.names("contexts"))
    if args.output == "name":
        print("\n".join(names))
        return
    rows = []
    for name in names:
        found = config.find("contexts", name)
        if found is None:
            raise CliError(f"error: context {name} not found")
        context = found[1]
        mark = "*" if name == config.current else ""
        rows.append(
            [mark, name, context.get("cluster", ""), context.get("user", ""), context.get("namespace", "")]
        )
    headers = None if args.no_headers else ["CURRENT", "NAME", "CLUSTER", "AUTHINFO", "NAMESPACE"]
    sys.stdout.write(format_rows(headers, rows))


def _list(section: str) -> Callable[[argparse.Namespace, Session], None]:
    def show(args: argparse.Namespace, session: Session) -> None:
        print("\n".join([*([] if args.no_headers else ["NAME"]), *session.config.names(section)]))

    return show


def _current_context(args: argparse.Namespace, session: Session) -> None:
    if not session.config.current:
        raise CliError("error: current-context is not set")
    print(session.config.current)


def _use_context(args: argparse.Namespace, session: Session) -> None:
    name = _name(args)
    if session.config.find("contexts", name) is None:
        raise CliError(f'error: no context exists with the name: "{name}"')
    file = session.config.file_of_current()
    file.data["current-context"] = name
    file.save()
    print(f'Switched to context "{name}".')


def _set(section: str, what: str, fields: Callable[[argparse.Namespace], Map]) -> Callable[..., None]:
    def change(args: argparse.Namespace, session: Session) -> None:
        name = session.config.current if args.current and section == "contexts" else _name(args)
        file, content, created = session.config.change(section, name)
        for key, value in fields(args).items():
            if value is None:
                continue
            # A file and its embedded form exclude each other.
            content.pop(f"{key}-data", None)
            content.pop(key.removesuffix("-data"), None)
            content[key] = value
        file.save()
        print(
            f'{what} "{name}" {("created" if created else "modified") if section == "contexts" else "set"}.'
        )

    return change


def _context_fields(args: argparse.Namespace) -> Map:
    return {"cluster": args.cluster, "user": args.user, "namespace": args.namespace}


def _file(args: argparse.Namespace, name: str, path: str | None) -> Map:
    if path is None:
        return {}
    if args.embed_certs == "true":
        return {f"{name}-data": base64.b64encode(Path(path).read_bytes()).decode()}
    return {name: str(Path(path).absolute())}


def _cluster_fields(args: argparse.Namespace) -> Map:
    fields: Map = {"server": args.server, "tls-server-name": args.tls_server_name}
    if args.insecure_skip_tls_verify:
        fields["insecure-skip-tls-verify"] = True
    return fields | _file(args, "certificate-authority", args.certificate_authority)


def _user_fields(args: argparse.Namespace) -> Map:
    fields: Map = {"token": args.token, "username": args.username, "password": args.password}
    return (
        fields
        | _file(args, "client-certificate", args.client_certificate)
        | _file(args, "client-key", args.client_key)
    )


def _delete(section: str, what: str) -> Callable[[argparse.Namespace, Session], None]:
    def remove(args: argparse.Namespace, session: Session) -> None:
        name = _name(args)
        found = session.config.find(section, name)
        if found is None:
            raise CliError(f"error: cannot delete {what} {name}, not in {session.config.files[0].path}")
        file = found[0]
        file.data[section] = [entry for entry in file.entries(section) if entry.get("name") != name]
        if section == "contexts" and name == session.config.current:
            print(
                'warning: this removed your active context, use "bamictl config use-context" to select a different one',
                file=sys.stderr,
            )
        file.save()
        print(f"deleted {what} {name} from {file.path}")

    return remove


def _unset(args: argparse.Namespace, session: Session) -> None:
    """``unset users.admin.token``, ``unset current-context``: the last step of a path goes."""
    path = _name(args)
    section, _, rest = path.partition(".")
    file = session.config.files[0]
    if section in ("clusters", "users", "contexts") and rest:
        name, _, field = (
            rest.rpartition(".") if session.config.find(section, rest) is None else (rest, "", "")
        )
        found = session.config.find(section, name)
        if found is not None:
            file = found[0]
            if field:
                found[1].pop(field, None)
            else:
                file.data[section] = [entry for entry in file.entries(section) if entry.get("name") != name]
    else:
        file = session.config.file_of_current()
        file.data.pop(section, None)
    file.save()
    print(f'Property "{path}" unset.')


_ACTIONS: dict[str, Callable[[argparse.Namespace, Session], None]] = {
    "view": _view,
    "get-contexts": _get_contexts,
    "get-clusters": _list("clusters"),
    "get-users": _list("users"),
    "current-context": _current_context,
    "use-context": _use_context,
    "set-context": _set("contexts", "Context", _context_fields),
    "set-cluster": _set("clusters", "Cluster", _cluster_fields),
    "set-credentials": _set("users", "User", _user_fields),
    "delete-context": _delete("contexts", "context"),
    "delete-cluster": _delete("clusters", "cluster"),
    "delete-user": _delete("users", "user"),
    "unset": _unset,
}
