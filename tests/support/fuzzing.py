"""Requests nobody should send, made from the API's own OpenAPI documents.

A :class:`Fuzzer` knows every operation of the documents of ``/openapi/v3`` and a valid object of every kind. What it
sends is a valid request in which a few things are not: a value of another type or beyond its range, a field too many
or too few, a parameter that makes no sense, a body in another form. Everything comes from one seed, so that a request
that did harm can be sent again.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import orjson
import yaml

from bamikube.api import table
from tests.support.objects import NAMES, example

Json = Any
STRANGE: tuple[Json, ...] = (
    None, "", " ", "\0", "a" * 300, "é€𝄞", "../..", "a/b", "%00", "-", "*", "1Gi", "-1", "1e400", "25%", "25.5%",
    "2026-01-02T03:04:05Z", "not a time", "MjAyNg==", "10.0.0.300", "::1", "a=b,c", "Always", "v1",
    0, 1, -1, 2**31, -(2**31) - 1, 2**63 - 1, 2**63, -(2**64), 1e308, 0.5, -0.0, True, False,
    [], {}, [None], [[]], [{}], {"": ""}, {"a": None}, {"a": {"b": {"c": []}}}, ["a", "a"], [1, "a", {}],
)  # fmt: skip
QUERIES: dict[str, tuple[str, ...]] = {
    "labelSelector": ("a=b", "a in (", "!a", "a>1", "==", "\0", "a in (b,c),d notin (e)", "é=1"),
    "fieldSelector": ("metadata.name=a", "spec.x=1", "a", "=", "metadata.name!=", "status.phase=Running,a=b"),
    "limit": ("1", "0", "-1", "x", "9" * 30),
    "continue": ("x", "", "eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6NSwic3RhcnQiOiJhIn0"),
    "resourceVersion": ("0", "1", "x", "-1", "00", "9" * 25),
    "resourceVersionMatch": ("Exact", "NotOlderThan", "x"),
    "sendInitialEvents": ("true", "false", "x"),
    "allowWatchBookmarks": ("true", "x"),
    "watch": ("true", "0", "x"),
    "timeoutSeconds": ("1", "0", "x", "-5"),
    "dryRun": ("All", "x", ""),
    "fieldManager": ("me", "", "m" * 200, "\0"),
    "fieldValidation": ("Strict", "Warn", "Ignore", "x"),
    "force": ("true", "x"),
    "gracePeriodSeconds": ("0", "-1", "x", "9" * 20),
    "propagationPolicy": ("Orphan", "Background", "Foreground", "x"),
    "orphanDependents": ("true", "x"),
    "pretty": ("true", "x"),
    "includeObject": ("None", "Object", "x"),
    "container": ("a", "\0"),
    "tailLines": ("1", "-1", "x"),
    "sinceSeconds": ("1", "-1", "x"),
    "command": ("sh", ""),
    "ports": ("80", "x"),
    "path": ("/", "../x"),
}
_ACCEPTS = (
    "application/json", "application/yaml", "application/vnd.kubernetes.protobuf", "*/*", "text/html", "",
    "application/json;as=Table;g=meta.k8s.io;v=v1", "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1",
    "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json", ";;q=x,,",
)  # fmt: skip
_PATCHES = (
    "application/merge-patch+json", "application/strategic-merge-patch+json", "application/json-patch+json",
    "application/apply-patch+yaml",
)  # fmt: skip
_OPERATIONS = ("add", "remove", "replace", "test", "move", "copy", "x")


@dataclass(frozen=True)
class Operation:
    """One operation of a document: method, path template, names of query parameters, schema of the body."""

    method: str
    path: str
    queries: tuple[str, ...]
    body: str = ""
    kind: str = ""


@dataclass(frozen=True)
class Shot:
    """One request, ready to be sent."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    def __str__(self) -> str:
        return f"{self.method} {self.target} {self.headers} {self.body[:600]!r}"


def _ref(schema: Json) -> str:
    found = schema.get("$ref") or next((each.get("$ref", "") for each in schema.get("allOf", ())), "")
    return str(found).rpartition("/")[2]


def operations(document: Json) -> Iterator[Operation]:
    """The operations of one OpenAPI v3 document."""
    for path, item in document["paths"].items():
        for method, one in item.items():
            names = tuple(each["name"] for each in one.get("parameters", ()) if each["in"] == "query")
            content = (one.get("requestBody") or {}).get("content") or {}
            body = next((_ref(each["schema"]) for each in content.values()), "")
            kind = (one.get("x-kubernetes-group-version-kind") or {}).get("kind", "")
            yield Operation(method.upper(), path, names, body, kind)


class Fuzzer:
    """Makes requests from documents. ``shot`` makes one; the same seed makes the same ones."""

    def __init__(self, documents: list[Json], seed: int) -> None:
        self.random = random.Random(seed)
        self.schemas: dict[str, Json] = {}
        self.operations: list[Operation] = []
        for document in documents:
            self.schemas |= document["components"]["schemas"]
            self.operations += operations(document)
        self._rows = {f"{row.definition}": row for row in table.TABLE}

    # -- values ---------------------------------------------------------------------------------------------------

    def value(self, schema: Json, depth: int = 0) -> Json:
        """A value of the schema, now and then of another one."""
        dice = self.random
        if dice.random() < 0.04 or depth > 9:
            return copy.deepcopy(dice.choice(STRANGE))
        name = _ref(schema)
        if name:
            return self.value(self.schemas.get(name, {}), depth + 1)
        match schema.get("type"):
            case "object":
                return self._object(schema, depth)
            case "array":
                inner = schema.get("items") or {}
                return [self.value(inner, depth + 1) for _ in range(dice.choice((0, 1, 1, 2)))]
            case "integer":
                return dice.choice((0, 1, 5, 80, 65536, -1, 2**31 - 1))
            case "number":
                return dice.choice((0.5, 1, -1.5))
            case "boolean":
                return dice.random() < 0.5
            case "string":
                return dice.choice(
                    ("a", "b-1", "", "10.0.0.1", "100m", "1Gi", "Always", "TCP", "a.example.com/b")
                )
        return copy.deepcopy(dice.choice(STRANGE))

    def _object(self, schema: Json, depth: int) -> Json:
        dice = self.random
        properties = schema.get("properties")
        if not properties:
            inner = schema.get("additionalProperties")
            inner = inner if isinstance(inner, dict) else {"type": "string"}
            return {
                key: self.value(inner, depth + 1)
                for key in dice.sample(("a", "b", "cpu", ""), dice.choice((0, 1, 2)))
            }
        needed = [name for name in schema.get("required", ()) if dice.random() < 0.9]
        share = 0.5 if depth < 2 else 0.12
        chosen = {*needed, *(name for name in properties if dice.random() < share)}
        return {
            name: self.value(properties[name], depth + 1) for name in sorted(chosen) if name in properties
        }

    def mutated(self, value: Json) -> Json:
        """A copy of a valid object with one to three things changed."""
        changed = copy.deepcopy(value)
        for _ in range(self.random.choice((1, 1, 2, 3))):
            self._mutate(changed)
        return changed

    def _mutate(self, root: Json) -> None:
        dice, node = self.random, root
        while True:
            keys = list(node) if isinstance(node, dict) else list(range(len(node)))
            if not keys:
                return
            key = dice.choice(keys)
            inner = node[key]
            if isinstance(inner, dict | list) and inner and dice.random() < 0.8:
                node = inner
                continue
            match dice.randrange(4):
                case 0:
                    del node[key]
                case 1 if isinstance(node, list):
                    node.append(copy.deepcopy(inner))
                case 2 if isinstance(node, dict):
                    node[dice.choice(("x", "", "a.b/c", "é", "$patch"))] = copy.deepcopy(dice.choice(STRANGE))
                case _:
                    node[key] = copy.deepcopy(dice.choice(STRANGE))
            return

    # -- requests -------------------------------------------------------------------------------------------------

    def _query(self, operation: Operation) -> str:
        dice = self.random
        pairs = []
        for name in operation.queries:
            if name in QUERIES and dice.random() < 0.12:
                pairs.append(f"{name}={quote(dice.choice(QUERIES[name]))}")
        if "watch" in operation.queries and any(pair.startswith("watch=") for pair in pairs):
            pairs.append("timeoutSeconds=1")
        return "?" + "&".join(pairs) if pairs else ""

    def _content(self, operation: Operation) -> tuple[str, Json]:
        """The body before it is written: a mutated valid object, or anything of the schema."""
        row = self._rows.get(operation.body)
        if row is None:
            row = next((each for each in table.TABLE if each.kind == operation.kind), None)
        if row is not None and self.random.random() < 0.6:
            return row.kind, self.mutated(example(row, "fuzz"))
        made = self.value({"$ref": f"/{operation.body}"})
        if isinstance(made, dict) and row is not None and self.random.random() < 0.8:
            made["metadata"] = {"name": NAMES.get(row.kind, "fuzz")}
            made.pop("kind", None)
            made.pop("apiVersion", None)
        return operation.kind, made

    def _patch(self, operation: Operation) -> tuple[str, bytes]:
        dice = self.random
        media = dice.choice(_PATCHES)
        _, content = self._content(operation)
        if media == "application/json-patch+json":
            paths = (
                "/metadata",
                "/spec",
                "/metadata/labels/a",
                "/spec/replicas",
                "/data",
                "",
                "/",
                "/~2",
                "x",
                "/spec/-",
            )
            content = [
                {"op": dice.choice(_OPERATIONS), "path": dice.choice(paths), "from": dice.choice(paths), "value": dice.choice(STRANGE)}
                for _ in range(dice.choice((0, 1, 2)))
            ]  # fmt: skip
        return media, _written(content)

    def shot(self, operation: Operation) -> Shot:
        """A request to this operation."""
        dice = self.random
        names = {"{namespace}": (*["default"] * 12, "nope", "A_b", "a%2Fb")}
        path = operation.path
        own = next(
            (NAMES[each.kind] for each in table.TABLE if each.kind in NAMES and f"/{each.plural}/" in path),
            "fuzz",
        )
        names["{name}"] = (*[own] * 15, "nope", "%00", "..", "a%2Fb", "é")
        names["{path}"] = ("x", "%2e%2e/x")
        for part, choices in names.items():
            path = path.replace(part, quote(dice.choice(choices), safe="%"))
        headers = {"accept": dice.choice(_ACCEPTS)} if dice.random() < 0.3 else {}
        body = b""
        if operation.method == "PATCH":
            headers["content-type"], body = self._patch(operation)
        elif operation.method in ("POST", "PUT") or (operation.method == "DELETE" and dice.random() < 0.5):
            _, content = self._content(operation)
            if operation.method == "DELETE":
                content = self.value({"$ref": f"/{operation.body}"})
            headers["content-type"], body = self._encoded(content)
        return Shot(operation.method, path + self._query(operation), headers, body)

    def _encoded(self, content: Json) -> tuple[str, bytes]:
        dice = self.random
        roll = dice.random()
        if roll < 0.8:
            body = _written(content)
            if dice.random() < 0.05:
                cut = dice.randrange(len(body) + 1)
                body = body[:cut] + bytes([dice.randrange(256)]) + body[cut + 1 :]
            return "application/json", body
        if roll < 0.9:
            return "application/yaml", yaml.safe_dump(content).encode("utf-8", "surrogatepass")
        return "application/vnd.kubernetes.protobuf", b"k8s\0" + dice.randbytes(dice.randrange(60))


def _written(content: Json) -> bytes:
    try:
        return orjson.dumps(content)
    except TypeError:  # numbers beyond 64 bits
        import json

        return json.dumps(content).encode()
