"""bamictl from the command line down to HTTP, against a small server in the test process."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from bamikube.cli.main import main

POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {
        "name": "web",
        "namespace": "default",
        "uid": "u1",
        "labels": {"app": "web"},
        "resourceVersion": "5",
    },
    "spec": {"containers": [{"name": "c", "image": "nginx"}], "nodeName": "worker-1"},
    "status": {"phase": "Running", "podIP": "10.244.1.2"},
}
TABLE = {
    "kind": "Table",
    "apiVersion": "meta.k8s.io/v1",
    "metadata": {"resourceVersion": "9"},
    "columnDefinitions": [
        {"name": "Name", "priority": 0},
        {"name": "Status", "priority": 0},
        {"name": "Node", "priority": 1},
    ],
    "rows": [{"cells": ["web", "Running", None], "object": {"metadata": POD["metadata"]}}],
}


class Server(http.server.ThreadingHTTPServer):
    """Answers by method and path, and remembers what was asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[tuple[str, str, Any]] = []
        self.answers: dict[tuple[str, str], Any] = {}
        self.refusals: dict[tuple[str, str], Any] = {}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def _answer(self) -> None:
        size = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(size)) if size else None
        path = self.path.partition("?")[0]
        self.server.asked.append((self.command, self.path, body))
        form = "Table" if "as=Table" in self.headers.get("Accept", "") else ""
        answer = self.server.answers.get(
            (self.command, path + form), self.server.answers.get((self.command, path))
        )
        code = 200
        if refusal := self.server.refusals.get((self.command, path)):
            answer, code = refusal, refusal["code"]
        if answer is None:
            name = path.rpartition("/")[2]
            message = f'pods "{name}" not found'
            answer, code = {"kind": "Status", "reason": "NotFound", "message": message, "code": 404}, 404
        data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_PATCH = do_DELETE = _answer

    def log_message(self, format: str, *args: Any) -> None:
        return


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "lab",
        "clusters": [{"name": "lab", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}],
        "users": [{"name": "admin", "user": {"token": "t0"}}],
        "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": "admin"}}],
    }
    path = tmp_path / "config"
    path.write_text(yaml.safe_dump(config))
    monkeypatch.setenv("KUBECONFIG", str(path))
    server.answers[("GET", "/api/v1/namespaces/default/podsTable")] = TABLE
    server.answers[("GET", "/api/v1/namespaces/default/pods/web")] = POD
    server.answers[("GET", "/api/v1/namespaces/default/pods")] = {"kind": "PodList", "items": [POD]}
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


Captured = pytest.CaptureFixture[str]


def test_get_prints_the_servers_table(server: Server, capsys: Captured) -> None:
    assert main(["get", "po"]) == 0
    assert capsys.readouterr().out == "NAME   STATUS\nweb    Running\n"
    assert main(["get", "pods", "-o", "wide", "--show-labels"]) == 0
    assert capsys.readouterr().out == "NAME   STATUS    NODE     LABELS\nweb    Running   <none>   app=web\n"


def test_get_prints_documents(server: Server, capsys: Captured) -> None:
    assert main(["get", "pod", "web", "-o", "jsonpath={.status.podIP}"]) == 0
    assert capsys.readouterr().out == "10.244.1.2"
    assert main(["get", "pod/web", "-o", "yaml"]) == 0
    assert yaml.safe_load(capsys.readouterr().out) == POD
    assert main(["get", "pods", "-o", "name"]) == 0
    assert capsys.readouterr().out == "pod/web\n"
    assert main(["-n", "default", "get", "pods", "-o", "custom-columns=N:.metadata.name,X:.none"]) == 0
    assert capsys.readouterr().out == "N     X\nweb   <none>\n"


def test_errors_are_worded_as_kubectls(server: Server, capsys: Captured) -> None:
    assert main(["get", "pod", "nope"]) == 1
    assert capsys.readouterr().err == 'Error from server (NotFound): pods "nope" not found\n'
    server.answers[("GET", "/api")] = server.answers[("GET", "/apis")] = {
        "kind": "APIGroupDiscoveryList",
        "items": [],
    }
    assert main(["get", "gizmos"]) == 1
    assert capsys.readouterr().err == 'error: the server doesn\'t have a resource type "gizmos"\n'
    server.answers[("GET", "/api/v1/namespaces/default/servicesTable")] = {**TABLE, "rows": []}
    assert main(["get", "svc"]) == 0
    assert capsys.readouterr().err == "No resources found in default namespace.\n"
    assert main(["fly"]) == 1
    assert capsys.readouterr().err == 'error: unknown command "fly" for "bamictl"\n'


def test_a_refused_connection_is_said_plainly(tmp_path: Path, capsys: Captured) -> None:
    empty = tmp_path / "none"
    empty.write_text("{}")
    assert main(["--kubeconfig", str(empty), "-s", "127.0.0.1:1", "get", "pods"]) == 1
    assert "The connection to the server 127.0.0.1:1 was refused" in capsys.readouterr().err


def test_apply_creates_then_patches_then_rests(server: Server, capsys: Captured, tmp_path: Path) -> None:
    manifest = tmp_path / "m.yaml"
    manifest.write_text(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: cm}\ndata: {a: '1', b: '2'}\n---\n"
    )
    place = "/api/v1/namespaces/default/configmaps"
    server.answers[("POST", place)] = {"metadata": {"name": "cm"}}
    assert main(["apply", "-f", str(manifest)]) == 0
    assert capsys.readouterr().out == "configmap/cm created\n"
    live = server.asked[-1][2]
    live["metadata"]["resourceVersion"] = "1"
    server.answers[("GET", f"{place}/cm")] = live
    assert main(["apply", "-f", str(manifest)]) == 0
    assert capsys.readouterr().out == "configmap/cm unchanged\n"
    manifest.write_text("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: cm}\ndata: {a: '3'}\n")
    server.answers[("PATCH", f"{place}/cm")] = {"metadata": {"name": "cm", "resourceVersion": "2"}}
    assert main(["apply", "-f", str(manifest)]) == 0
    assert capsys.readouterr().out == "configmap/cm configured\n"
    assert server.asked[-1][2]["data"] == {"a": "3", "b": None}


def test_apply_by_the_server(server: Server, capsys: Captured, tmp_path: Path) -> None:
    manifest = tmp_path / "m.yaml"
    manifest.write_text("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: cm}\ndata: {a: '1'}\n")
    place = "/api/v1/namespaces/default/configmaps/cm"
    server.answers[("PATCH", place)] = {"metadata": {"name": "cm"}}
    assert main(["apply", "--server-side", "--force-conflicts", "-f", str(manifest)]) == 0
    assert capsys.readouterr().out == "configmap/cm serverside-applied\n"
    _, path, body = server.asked[-1]
    assert "fieldManager=kubectl" in path and "force=true" in path
    assert body["data"] == {"a": "1"} and "annotations" not in body["metadata"]
    message = 'Apply failed with 1 conflict: conflict with "ci": .data.a'
    server.refusals[("PATCH", place)] = {
        "kind": "Status",
        "reason": "Conflict",
        "message": message,
        "code": 409,
    }
    assert main(["apply", "--server-side", "-f", str(manifest)]) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"error: {message}\n") and "--force-conflicts" in said
    assert main(["apply", "--force-conflicts", "-f", str(manifest)]) == 1
    assert "only works with --server-side" in capsys.readouterr().err


def test_delete_waits_until_the_object_is_gone(server: Server, capsys: Captured) -> None:
    server.answers[("DELETE", "/api/v1/namespaces/default/pods/web")] = {
        "kind": "Status",
        "details": {"uid": "u0"},
    }
    assert main(["delete", "pod", "web", "--cascade=orphan", "--grace-period=5"]) == 0
    assert capsys.readouterr().out == 'pod "web" deleted from default namespace\n'
    asked = next(body for method, _, body in server.asked if method == "DELETE")
    assert asked["propagationPolicy"] == "Orphan" and asked["gracePeriodSeconds"] == 5


def test_logs_and_describe(server: Server, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    server.answers[("GET", "/api/v1/namespaces/default/pods/web/log")] = b"hello\n"
    server.answers[("GET", "/api/v1/namespaces/default/events")] = {"items": []}
    assert main(["logs", "web", "--tail", "3"]) == 0
    assert "container=c&tailLines=3" in server.asked[-1][1]
    assert main(["describe", "pod", "web"]) == 0
    out = capfdbinary.readouterr().out
    assert b"hello\n" in out and b"Node:             worker-1" in out and b"Events:           <none>" in out


def test_config_changes_the_file(server: Server, capsys: Captured) -> None:
    assert main(["config", "set-context", "other", "--cluster", "lab", "--user=admin", "-n", "dev"]) == 0
    assert main(["config", "use-context", "other"]) == 0
    assert main(["config", "current-context"]) == 0
    assert capsys.readouterr().out == 'Context "other" created.\nSwitched to context "other".\nother\n'
    assert main(["config", "get-contexts"]) == 0
    assert capsys.readouterr().out == (
        "CURRENT   NAME    CLUSTER   AUTHINFO   NAMESPACE\n"
        "          lab     lab       admin\n"
        "*         other   lab       admin      dev\n"
    )
    assert main(["config", "view"]) == 0
    assert yaml.safe_load(capsys.readouterr().out)["users"][0]["user"] == {"token": "REDACTED"}
    assert main(["config", "use-context", "gone"]) == 1
    assert capsys.readouterr().err == 'error: no context exists with the name: "gone"\n'
