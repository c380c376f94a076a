"""What Kubernetes' conformance suite says of volumes, as a table: each row a volume, a command in it, what it prints.

All rows of one security context are one pod, so that a row costs a process and not a pod. A row's command runs in the folder
where its volume is mounted (``.``); ``m F`` prints a file's mode as ``ls`` does.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

JSON = dict[str, Any]
PRELUDE = 'm() { stat -L -c %A "$1"; }; umask 0; '
BYTES = b"\xde\xca\xfe\xba\xd0\xfe\xff"
SETTINGS = {
    "data": {"data-1": "value-1", "data-2": "value-2"},
    "binaryData": {"bytes": base64.b64encode(BYTES).decode()},
}
SECRET = {"data": {"data-1": base64.b64encode(b"value-1").decode()}}
MAPPED = [{"key": "data-1", "path": "path/to/data-1", "mode": 0o400}]
DOWN = [
    {"path": "podname", "fieldRef": {"fieldPath": "metadata.name"}},
    {"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}, "mode": 0o400},
    *(
        {"path": name.replace(".", "_"), "resourceFieldRef": {"containerName": "app", "resource": name}}
        for name in ("limits.cpu", "limits.memory", "requests.cpu", "requests.memory")
    ),
]
EVERYTHING = {
    "sources": [
        {"configMap": {"name": "settings", "items": [{"key": "data-2", "path": "all/map"}]}},
        {"secret": {"name": "secret", "items": [{"key": "data-1", "path": "all/secret"}]}},
        {"downwardAPI": {"items": DOWN[:1]}},
        {"serviceAccountToken": {"path": "token"}},
    ]
}


@dataclass(frozen=True)
class Row:
    name: str
    volume: JSON
    command: str
    expected: str
    mount: JSON = field(default_factory=dict)


def empty(medium: str, kind: str) -> list[Row]:
    """emptyDir: (root|non-root) x (0644|0666|0777) x (disk|memory); root and non-root are two pods."""
    volume = {"emptyDir": {"medium": medium} if medium else {}}
    rows = [
        Row(
            f"empty-{kind}-{mode:o}",
            volume,
            f"echo -n content > f; chmod {mode:o} f; m f; cat f; echo; echo more >> f && tail -c 5 f",
            f"{text}\ncontent\nmore",
        )
        for mode, text in ((0o644, "-rw-r--r--"), (0o666, "-rw-rw-rw-"), (0o777, "-rwxrwxrwx"))
    ]
    fs = 'grep -c " $PWD tmpfs " /proc/mounts'
    rows.append(
        Row(f"empty-{kind}", volume, f"m . | cut -c 2-9; {fs}", f"rwxrwxrw\n{1 if kind == 'memory' else 0}")
    )
    return rows


ANYBODY = [
    Row("map", {"configMap": {"name": "settings"}}, "m data-1; cat data-1", "-rw-r--r--\nvalue-1"),
    Row("map-binary", {"configMap": {"name": "settings"}}, "md5sum bytes; cat data-2", "{md5}  bytes\nvalue-2"),
    Row(
        "map-items",
        {"configMap": {"name": "settings", "items": [{"key": "data-1", "path": "path/to/data-1"}]}},
        "ls; m path/to/data-1; cat path/to/data-1",
        "path\n-rw-r--r--\nvalue-1",
    ),
    Row("map-read-only", {"configMap": {"name": "settings"}}, "touch x 2>&1", "touch: x: Read-only file system"),
    Row("map-optional", {"configMap": {"name": "gone", "optional": True}}, "ls", ""),
    Row("secret", {"secret": {"secretName": "secret"}}, "m data-1; cat data-1", "-rw-r--r--\nvalue-1"),
    Row("secret-in-memory", {"secret": {"secretName": "secret"}}, "grep -c \" $PWD tmpfs ro,\" /proc/mounts", "1"),
    Row("secret-optional", {"secret": {"secretName": "gone", "optional": True}}, "ls", ""),
    Row("projected", {"projected": EVERYTHING}, "cat all/map all/secret podname", "value-2value-1table"),
    Row("down", {"downwardAPI": {"items": DOWN[:1]}}, "m podname; cat podname", "-rw-r--r--\ntable"),
    Row(
        "down-resources",
        {"downwardAPI": {"items": DOWN[2:]}},
        "for f in limits_cpu limits_memory requests_cpu requests_memory; do cat $f; echo; done",
        "2\n67108864\n1\n33554432",
    ),
    Row("sub-path", {"configMap": {"name": "settings"}}, "cat", "value-1", {"subPath": "data-1"}),
    Row("sub-path-folder", {"projected": EVERYTHING}, "ls", "map\nsecret", {"subPath": "all"}),
    Row("sub-path-secret", {"secret": {"secretName": "secret"}}, "cat", "value-1", {"subPath": "data-1"}),
    Row("sub-path-down", {"downwardAPI": {"items": DOWN[:1]}}, "cat", "table", {"subPath": "podname"}),
    *empty("", "disk"),
    *empty("Memory", "memory"),
]  # fmt: skip
ROOT = [
    Row("map-mode", {"configMap": {"name": "settings", "defaultMode": 0o400}}, "m data-1; cat data-1", "-r--------\nvalue-1"),
    Row("map-item-mode", {"configMap": {"name": "settings", "items": MAPPED}}, "m path/to/data-1", "-r--------"),
    Row("secret-mode", {"secret": {"secretName": "secret", "defaultMode": 0o400}}, "m data-1; cat data-1", "-r--------\nvalue-1"),
    Row("secret-item-mode", {"secret": {"secretName": "secret", "items": MAPPED}}, "m path/to/data-1", "-r--------"),
    Row("down-mode", {"downwardAPI": {"items": DOWN[:1], "defaultMode": 0o400}}, "m podname; cat podname", "-r--------\ntable"),
    Row("down-item-mode", {"downwardAPI": {"items": DOWN[1:2]}}, "m labels; cat labels", '-r--------\nkey="value"'),
    Row("projected-mode", {"projected": EVERYTHING | {"defaultMode": 0o400}}, "m all/map; m token", "-r--------\n-r--------"),
]  # fmt: skip
USER = [
    Row("map-denied", {"configMap": {"name": "settings", "defaultMode": 0o400}}, "m data-1; cat data-1 2>&1", "-r--------\ncat: can't open 'data-1': Permission denied"),
    Row("token-own", {"projected": EVERYTHING}, "m token; cat token", "-rw-------\ntoken-of-the-pod"),
]  # fmt: skip
GROUP = [
    Row("secret-group", {"secret": {"secretName": "secret", "defaultMode": 0o440}}, "m data-1; cat data-1", "-r--r-----\nvalue-1"),
    Row("map-group", {"configMap": {"name": "settings", "defaultMode": 0o400}}, "m data-1; cat data-1", "-r--r-----\nvalue-1"),
    Row("token-group", {"projected": EVERYTHING}, "stat -L -c %a-%u-%g token; cat token", "640-1000-1001\ntoken-of-the-pod"),
    Row("empty-group", {"emptyDir": {}}, "m .; touch f; mkdir d; stat -c %a-%g f d", "drwxrwsrwx\n666-1001\n2777-1001"),
    Row("memory-group", {"emptyDir": {"medium": "Memory"}}, "touch f; mkdir d; stat -c %a-%g f d", "666-1001\n2777-1001"),
    Row("sub-path-group", {"emptyDir": {}}, "m .; touch f; stat -c %g f", "drwxrwsrwx\n1001", {"subPath": "part"}),
]  # fmt: skip


def printed(log: Path) -> dict[str, str]:
    """Output by row, from a log in CRI's format."""
    result: dict[str, str] = {}
    name = ""
    for line in log.read_text().splitlines():
        _, _, tag, text = (*line.split(" ", 3), "")[:4]
        if text.startswith("== "):
            name = text[3:]
            result[name] = ""
        else:
            result[name] += text + ("\n" if tag == "F" else "")
    return {key: value.strip("\n") for key, value in result.items()}


@pytest.mark.parametrize(
    ("rows", "security"),
    [
        ([*ANYBODY, *ROOT], {}),
        ([*ANYBODY, *USER], {"runAsUser": 1000}),
        (GROUP, {"runAsUser": 1000, "fsGroup": 1001}),
    ],
    ids=["root", "non-root", "fs-group"],
)
async def test_volumes(node: Any, until: Any, rows: list[Row], security: JSON) -> None:
    node.api.objects[("ConfigMap", "settings")] = {"kind": "ConfigMap", **SETTINGS}
    node.api.objects[("Secret", "secret")] = {"kind": "Secret", **SECRET}

    def step(row: Row) -> str:
        if row.command == "cat":
            return f"echo '== {row.name}'; cat /rows/{row.name}; echo; "
        return f"echo '== {row.name}'; cd /rows/{row.name}; {row.command}; echo; "

    spec = {
        "restartPolicy": "Never",
        "securityContext": security,
        "volumes": [{"name": row.name, **row.volume} for row in rows],
        "containers": [
            {
                "name": "app",
                "command": ["sh", "-c", PRELUDE + "".join(map(step, rows)) + "true"],
                "resources": {
                    "limits": {"cpu": "1250m", "memory": "64Mi"},
                    "requests": {"cpu": "250m", "memory": "32Mi"},
                },
                "volumeMounts": [
                    {"name": row.name, "mountPath": f"/rows/{row.name}", **row.mount} for row in rows
                ],
            }
        ],
    }
    worker = node.run(node.pod("table", spec, labels={"key": "value"}))
    await until(lambda: worker.status.get("phase") in ("Succeeded", "Failed"))
    found = printed(Path(node.host.log_directory(worker.pod)) / "app" / "0.log")
    md5 = hashlib.md5(BYTES).hexdigest()
    assert found == {row.name: row.expected.replace("{md5}", md5) for row in rows}
