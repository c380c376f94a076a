"""Objects nobody would write but every decoder may have to read: made from the schema, with strange values.

``strange(random, definition)`` follows the OpenAPI definition. Most values have the right type, so that the object
gets past decoding and reaches defaulting, validation, admission, conversion and the printers; a few do not.
"""

from __future__ import annotations

from random import Random
from typing import Any

from bamikube.api import schema

TEXTS = [
    "", "a", "web", "default", "kube-system", "A b", "a/b", "a.b/c", "-", ".", "..", "x" * 64, "x" * 254, "\0", "\n", "é",
    "\U0001f600", "%2F", "$(A)", "{}", "null", "0", "1", "-1", "80", "65536", "1.5", "1e400", "99999999999999999999",
    "50%", "-5%", "101%", "1Gi", "-1Gi", "1e3k", "100m", "0.0000000001", "10.0.0.1", "10.96.0.5", "256.1.1.1", "::1",
    "fe80::1%eth0", "10.0.0.0/8", "10.0.0.0/99", "2020-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "0000-00-00T00:00:00Z",
    "*/5 * * * *", "@daily", "@every 1x", "* * *", "TZ=Mars/Base * * * * *", "None", "ClusterIP", "NodePort", "LoadBalancer",
    "ExternalName", "Always", "Never", "OnFailure", "RollingUpdate", "Recreate", "OnDelete", "TCP", "SCTP", "tcp", "HTTP",
    "In", "Exists", "Gt", "DoesNotExist", "NoSchedule", "NoExecute", "Equal", "Directory", "Prefix", "Exact", "Terminating",
    "ReadWriteOnce", "Filesystem", "Block", "Retain", "Delete", "kubernetes.io/tls", "kubernetes.io/dockerconfigjson",
    "kubernetes.io/service-account-token", "Utilization", "Resource", "Pods", "Indexed", "NonIndexed", "Guaranteed",
    "metadata.name", "spec.nodeName", "limits.cpu", "metadata.labels['a']", "v1", "apps/v1", "Pod", "IPv4", "IPv6",
    "SingleStack", "PreferDualStack", "Local", "Cluster", "ClientIP", "Unconfined", "Localhost", "RuntimeDefault",
    "https://example.com/x", "http://", "example.com", "*.example.com", "*", "get", "rbac.authorization.k8s.io", "pods/*",
    "/etc/passwd", "../x", "c:\\x", "aGVsbG8=", "!!", "15", "0-5", "5-1",
]  # fmt: skip
INTEGERS = [0, 1, -1, 2, 3, 80, 443, 1000, 8080, 30000, 65535, 65536, 2**31 - 1, -(2**31)]
WIDE = [2**31, 2**53, 2**63 - 1, -(2**63)]
WRONG = [None, True, 0, -1, 1.5, 2**64, "", "x", [], [None], [[]], {}, {"": None}, {"a": {"b": []}}]


def strange(random: Random, name: str, depth: int = 0) -> Any:
    """A value of the definition ``name``."""
    return _value(random, {"$ref": f"#/definitions/{name}"}, depth)


def _value(random: Random, wanted: dict[str, Any], depth: int) -> Any:
    if random.randrange(60) == 0 and depth > 1:
        return random.choice(WRONG)
    reference = wanted.get("$ref")
    if reference:
        name = reference.rpartition("/")[2]
        if name.endswith((".IntOrString", ".Quantity")):
            return random.choice([*TEXTS, *INTEGERS])
        definition = schema.definition(name)
        if definition is None:
            return {}
        if "properties" not in definition:
            return _plain(random, definition, depth)
        return _object(random, definition, depth)
    return _plain(random, wanted, depth)


def _plain(random: Random, wanted: dict[str, Any], depth: int) -> Any:
    kind = wanted.get("type")
    kind = next((one for one in kind if one != "null"), "") if isinstance(kind, list) else kind
    if "properties" in wanted:
        return _object(random, wanted, depth)
    if kind == "array":
        most = 3 if depth < 8 else 1
        return [_value(random, wanted.get("items") or {}, depth + 1) for _ in range(random.randrange(most))]
    if kind == "boolean":
        return random.choice([True, False])
    if kind == "integer":
        return random.choice([*INTEGERS, *(WIDE if wanted.get("format") == "int64" else ())])
    if kind == "number":
        return random.choice([0, -1.5, 1e308])
    if kind == "string":
        return random.choice(wanted.get("enum") or TEXTS)
    inner = wanted.get("additionalProperties")
    if isinstance(inner, dict) and inner:
        return {random.choice(TEXTS): _value(random, inner, depth + 1) for _ in range(random.randrange(3))}
    return random.choice([{}, {"a": "b"}, "x", 5])


def _object(random: Random, definition: dict[str, Any], depth: int) -> dict[str, Any]:
    required = set(definition.get("required") or ())
    properties: dict[str, Any] = definition["properties"]
    chance = 0.7 if depth == 0 else 0.5 if depth < 3 else 0.3 if depth < 6 else 0.1
    return {
        key: _value(random, inner, depth + 1)
        for key, inner in properties.items()
        if (random.random() < 0.9 if key in required else random.random() < chance)
    }
