"""Every operation of the API, as values: which path, which verb, with which parameters and bodies.

Pure, and neutral between OpenAPI versions; :mod:`~bamikube.apiserver.openapi.v2` and
:mod:`~bamikube.apiserver.openapi.v3` write them out. Clients rely on more than the schemas: ``kubectl apply`` looks at
the parameters of PATCH to find out whether ``fieldValidation`` and ``dryRun`` are understood, ``kubectl explain``
finds a resource's kind through ``x-kubernetes-group-version-kind`` of its paths.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from bamikube.api.custom import published
from bamikube.api.resources import Resource
from bamikube.apiserver.discovery import subresource
from bamikube.apiserver.registry import policy

META = "io.k8s.apimachinery.pkg.apis.meta.v1"
STATUS = f"{META}.Status"
DELETE_OPTIONS = f"{META}.DeleteOptions"
PATCH = f"{META}.Patch"
WATCH_EVENT = f"{META}.WatchEvent"

JSON_TYPES = ("application/json", "application/yaml", "application/vnd.kubernetes.protobuf")
ANSWER_TYPES = ("application/json", "application/vnd.kubernetes.protobuf", "application/yaml")
CUSTOM_TYPES = ("application/json", "application/yaml")
PATCH_TYPES = (
    "application/apply-patch+yaml",
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
)
CUSTOM_PATCH_TYPES = tuple(each for each in PATCH_TYPES if "strategic" not in each)


@dataclass(frozen=True, slots=True)
class Parameter:
    name: str
    kind: str  # string, integer or boolean
    description: str
    place: str = "query"
    required: bool = False


@dataclass(frozen=True, slots=True)
class Operation:
    """``method`` in lower case; ``body`` and ``answers`` are names of definitions ("" for text or none)."""

    path: str
    method: str
    action: str  # x-kubernetes-action
    ident: str
    description: str
    group: str
    version: str
    kind: str
    parameters: tuple[Parameter, ...] = ()
    body: str = ""
    answers: str = ""
    statuses: tuple[int, ...] = (200,)
    consumes: tuple[str, ...] = JSON_TYPES
    produces: tuple[str, ...] = ANSWER_TYPES


_PRETTY = Parameter("pretty", "string", "If 'true', then the output is pretty printed.")
_DRY = Parameter("dryRun", "string", "'All': everything is done but the write itself.")
_MANAGER = Parameter(
    "fieldManager", "string", "The name of the actor that makes these changes, at most 128 characters."
)
_VALIDATION = Parameter(
    "fieldValidation",
    "string",
    "What happens to unknown and duplicate fields: Ignore, Warn (default) or Strict.",
)
_FORCE = Parameter("force", "boolean", "Take fields over from other managers (apply patches only).")
_NAME = Parameter("name", "string", "name of the object", "path", True)
_NAMESPACE = Parameter(
    "namespace", "string", "object name and auth scope, such as for teams and projects", "path", True
)
_PATH = Parameter("path", "string", "path to the resource", "path", True)
_LIST = (
    Parameter("allowWatchBookmarks", "boolean", "Whether the watch may send events of type BOOKMARK."),
    Parameter("continue", "string", "The token of the previous page."),
    Parameter("fieldSelector", "string", "Restricts the answer by fields; default: everything."),
    Parameter("labelSelector", "string", "Restricts the answer by labels; default: everything."),
    Parameter("limit", "integer", "The most objects of one page."),
    Parameter("resourceVersion", "string", "Which state may be answered from; unset: the newest."),
    Parameter("resourceVersionMatch", "string", "How resourceVersion is applied: Exact or NotOlderThan."),
    Parameter("sendInitialEvents", "boolean", "Whether a watch begins with the objects that are there."),
    Parameter("timeoutSeconds", "integer", "How long the call may last, in seconds."),
    Parameter("watch", "boolean", "Follow changes as a stream of events."),
)
_DELETE = (
    _DRY,
    Parameter("gracePeriodSeconds", "integer", "Seconds before the object is deleted; 0: at once."),
    Parameter("orphanDependents", "boolean", "Deprecated: use propagationPolicy."),
    Parameter("propagationPolicy", "string", "What becomes of dependents: Orphan, Background or Foreground."),
)
_WRITE = (_DRY, _MANAGER, _VALIDATION)
_LOG = (
    Parameter("container", "string", "The container whose log is wanted; default: the only one."),
    Parameter("follow", "boolean", "Go on with new lines as they come."),
    Parameter("limitBytes", "integer", "The most bytes to answer with."),
    Parameter("previous", "boolean", "The log of the previous, terminated container."),
    Parameter("sinceSeconds", "integer", "Only lines younger than this many seconds."),
    Parameter("tailLines", "integer", "Only so many lines from the end."),
    Parameter("timestamps", "boolean", "Put a time before every line."),
)
_EXEC = (
    Parameter("command", "string", "The command and its arguments, one parameter each."),
    Parameter("container", "string", "The container; default: the only one."),
    Parameter("stderr", "boolean", "Attach standard error."),
    Parameter("stdin", "boolean", "Attach standard input."),
    Parameter("stdout", "boolean", "Attach standard output."),
    Parameter("tty", "boolean", "With a terminal."),
)
_CONNECT = {
    "attach": _EXEC[1:],
    "exec": _EXEC,
    "portforward": (Parameter("ports", "integer", "The ports to forward, for websockets."),),
    "proxy": (Parameter("path", "string", "The path at the target."),),
}
_METHODS = {"get": "get", "create": "post", "update": "put", "patch": "patch", "delete": "delete"}


def group_root(group: str, version: str) -> str:
    """``/api/v1`` or ``/apis/<group>/<version>``."""
    return f"/apis/{group}/{version}" if group else f"/api/{version}"


def row_definition(row: Resource) -> str:
    """The definition of a row's own kind."""
    return row.definition if row.custom is None else published.name_of(row)


def definition_of(row: Resource, group: str, version: str, kind: str) -> str:
    """The definition of a subresource's body."""
    if (group, version, kind) == (row.group, row.version, row.kind):
        return row_definition(row)
    package = group.removesuffix(".k8s.io") or "core"
    return f"io.k8s.api.{package}.{version}.{kind}"


def operations(rows: Iterable[Resource]) -> Iterator[Operation]:
    """All operations of all rows. Custom resources have neither protobuf nor strategic merge patches."""
    for row in rows:
        if row.custom is None:
            yield from _of_row(row)
            continue
        for operation in _of_row(row):
            consumes = CUSTOM_PATCH_TYPES if operation.method == "patch" else operation.consumes
            yield replace(operation, consumes=consumes, produces=CUSTOM_TYPES)


def _of_row(row: Resource) -> Iterator[Operation]:
    root = group_root(row.group, row.version)
    base = f"{root}/namespaces/{{namespace}}/{row.plural}" if row.namespaced else f"{root}/{row.plural}"
    scope = (_NAMESPACE,) if row.namespaced else ()
    title = _title(row)
    one, many = f"{title}Namespaced{row.kind}" if row.namespaced else f"{title}{row.kind}", row.kind
    kind = (row.group, row.version, row.kind)
    item = f"{base}/{{name}}"
    own = row_definition(row)
    listed = f"{own}List" if row.custom is None else f"{own.removesuffix(row.kind)}{row.list_kind}"
    if "list" in row.verbs:
        about = f"list or watch objects of kind {row.kind}"
        yield Operation(
            base, "get", "list", f"list{one}", about, *kind, (*scope, _PRETTY, *_LIST), "", listed
        )
        if row.namespaced:
            path, ident = f"{root}/{row.plural}", f"list{title}{many}ForAllNamespaces"
            yield Operation(path, "get", "list", ident, about, *kind, (_PRETTY, *_LIST), "", listed)
    if "create" in row.verbs:
        about = f"create {_article(row.kind)}"
        given = (*scope, _PRETTY, *_WRITE)
        yield Operation(
            base,
            "post",
            "post",
            f"create{one}",
            about,
            *kind,
            given,
            own,
            own,
            (200, 201, 202),
        )
    if "deletecollection" in row.verbs:
        about = f"delete collection of {row.kind}"
        given = (*scope, _PRETTY, *_LIST[1:-1], *_DELETE)
        ident = f"delete{title}Collection{one.removeprefix(title)}"
        yield Operation(
            base, "delete", "deletecollection", ident, about, *kind, given, DELETE_OPTIONS, STATUS
        )
    for verb, method in _METHODS.items():
        if verb in row.verbs and verb != "create":
            yield _on_item(row, item, one, verb, method, own, kind, scope)
    for name in sorted(row.subresources):
        yield from _of_subresource(row, name, item, one, scope)


def _of_subresource(
    row: Resource, name: str, item: str, one: str, scope: tuple[Parameter, ...]
) -> Iterator[Operation]:
    group, version, kind_name, verbs = subresource(row, name)
    kind = (group, version, kind_name)
    path = f"{item}/{name}"
    ident = one + name.capitalize()
    if name in _CONNECT:
        extra = _CONNECT[name]
        for where, more in ((path, ()), (f"{path}/{{path}}", (_PATH,))) if name == "proxy" else ((path, ()),):
            for verb in verbs:
                method = _METHODS[verb]
                yield Operation(
                    where,
                    method,
                    "connect",
                    f"connect{method.capitalize()}{ident}{'WithPath' if more else ''}",
                    f"connect {method.upper()} requests to {name} of {row.kind}",
                    *kind,
                    (*scope, _NAME, *more, *extra),
                )
        return
    if name == "log":
        about = f"read log of the specified {row.kind}"
        yield Operation(path, "get", "get", f"read{ident}", about, *kind, (*scope, _NAME, _PRETTY, *_LOG))
        return
    definition = definition_of(row, *kind)
    for verb in ("get", "create", "update", "patch"):
        if verb not in verbs:
            continue
        if verb == "create":
            about = f"create {name} of {_article(row.kind)}"
            given = (*scope, _NAME, _PRETTY, *_WRITE)
            yield Operation(
                path,
                "post",
                "post",
                f"create{ident}",
                about,
                *kind,
                given,
                definition,
                definition,
                (200, 201, 202),
            )
        else:
            yield _on_item(
                row, path, ident, verb, _METHODS[verb], definition, kind, scope, part=f"{name} of "
            )


def _on_item(
    row: Resource,
    path: str,
    ident: str,
    verb: str,
    method: str,
    definition: str,
    kind: tuple[str, str, str],
    scope: tuple[Parameter, ...],
    part: str = "",
) -> Operation:
    common = (*scope, _NAME, _PRETTY)
    what = f"{part}the specified {row.kind}"
    match verb:
        case "get":
            return Operation(
                path, method, "get", f"read{ident}", f"read {what}", *kind, common, "", definition
            )
        case "update":
            return Operation(
                path,
                method,
                "put",
                f"replace{ident}",
                f"replace {what}",
                *kind,
                (*common, *_WRITE),
                definition,
                definition,
                (200, 201),
            )
        case "patch":
            about = f"partially update {what}"
            given = (*common, *_WRITE, _FORCE)
            return Operation(
                path,
                method,
                "patch",
                f"patch{ident}",
                about,
                *kind,
                given,
                PATCH,
                definition,
                (200, 201),
                PATCH_TYPES,
            )
    about = f"delete {_article(row.kind)}"
    return Operation(
        path,
        method,
        "delete",
        f"delete{ident}",
        about,
        *kind,
        (*common, *_DELETE),
        DELETE_OPTIONS,
        definition if row.key in policy.RETURNS_DELETED else STATUS,
        (200, 202),
    )


def _title(row: Resource) -> str:
    """``CoreV1``, ``AppsV1``, ``RbacAuthorizationV1``: how operation names begin."""
    group = row.group.removesuffix(".k8s.io") or "core"
    return "".join(part.capitalize() for part in group.split(".")) + row.version.capitalize()


def tag(operation_path: str) -> str:
    """``core_v1``, ``apps_v1``: how operations are grouped."""
    parts = operation_path.split("/")
    if parts[1] == "api":
        return f"core_{parts[2]}"
    return f"{parts[2].removesuffix('.k8s.io').replace('.', '_')}_{parts[3]}"


def _article(kind: str) -> str:
    return f"{'an' if kind[0] in 'AEIOU' else 'a'} {kind}"
