"""A small API server as others write them: one group, one kind, TLS, trust in the front proxy's certificate.

It keeps its flunders in a dictionary and serves discovery, OpenAPI, list, get, create, update, patch, delete and watch.
Who has no certificate of the front proxy's is nobody, whatever the headers say.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from aiohttp import web

from tests.support.tls_server import TlsServer

GROUP, VERSION = "wardle.example.com", "v1alpha1"
ROOT = f"/apis/{GROUP}/{VERSION}"
NAME = "com.example.wardle.v1alpha1.Flunder"
VERBS = ["create", "delete", "get", "list", "patch", "update", "watch"]
_SCHEMA: dict[str, Any] = {
    "type": "object",
    "description": "A fish of example.com.",
    "properties": {
        "apiVersion": {"type": "string"},
        "kind": {"type": "string"},
        "metadata": {"type": "object"},
        "spec": {
            "type": "object",
            "description": "What the fish should be.",
            "properties": {"reference": {"type": "string", "description": "Another fish."}},
        },
    },
    "x-kubernetes-group-version-kind": [{"group": GROUP, "version": VERSION, "kind": "Flunder"}],
}


class SampleApi:
    """``front_proxy`` is the CA file of those it believes."""

    def __init__(self, folder: Path, front_proxy: Path) -> None:
        self.objects: dict[tuple[str, str], dict[str, Any]] = {}
        self.seen: list[dict[str, Any]] = []
        self.revision = 1
        self.healthy = True
        self.listening = asyncio.Event()  # somebody watches
        self._watchers: list[asyncio.Queue[tuple[str, dict[str, Any]]]] = []
        sans = ("sample-api.wardle.svc",)
        self.server = TlsServer(folder, self.answer, sans=sans, client_ca=front_proxy)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        certificate = request.get_extra_info("peercert") or {}
        names = [
            value for part in certificate.get("subject", ()) for key, value in part if key == "commonName"
        ]
        if names != ["front-proxy-client"]:
            return _status(401, "Unauthorized", "only the front proxy is believed")
        self.seen.append(
            {
                "method": request.method,
                "path": request.path_qs,
                "user": request.headers.get("X-Remote-User"),
                "groups": request.headers.getall("X-Remote-Group", []),
                "credentials": request.headers.get("Authorization"),
            }
        )
        if not self.healthy:
            return _status(503, "ServiceUnavailable", "on strike")
        if request.path in (ROOT, "/openapi/v3", "/openapi/v2") or request.path.startswith("/openapi/v3/"):
            return web.json_response(_document(request.path))
        parts = request.path.removeprefix(f"{ROOT}/").split("/")
        if parts[0] == "echo":
            return await self._echo(request)
        namespace = parts[1] if parts[0] == "namespaces" else ""
        name = parts[3] if len(parts) > 3 else ""
        return await self._flunders(request, namespace, name)

    async def _flunders(self, request: web.Request, namespace: str, name: str) -> web.StreamResponse:
        key = (namespace, name)
        if request.method == "GET" and not name:
            if request.query.get("watch"):
                return await self._watch(request)
            items = [
                obj for (where, _), obj in sorted(self.objects.items()) if where == namespace or not namespace
            ]
            return web.json_response(
                {
                    "kind": "FlunderList",
                    "apiVersion": f"{GROUP}/{VERSION}",
                    "metadata": {"resourceVersion": str(self.revision)},
                    "items": items,
                }
            )
        if request.method == "POST":
            body = await request.json()
            body.setdefault("metadata", {}).setdefault("namespace", namespace)
            self._put("ADDED", (namespace, body["metadata"]["name"]), body)
            return web.json_response(body, status=201)
        if key not in self.objects:
            return _status(404, "NotFound", f'flunders.{GROUP} "{name}" not found')
        if request.method == "DELETE":
            gone = self.objects.pop(key)
            self._tell("DELETED", gone)
            return web.json_response({"kind": "Status", "apiVersion": "v1", "status": "Success"})
        if request.method == "PATCH":
            body = json.loads(json.dumps(self.objects[key]))
            body["spec"] = {**body.get("spec", {}), **(await request.json()).get("spec", {})}
            self._put("MODIFIED", key, body)
        elif request.method == "PUT":
            self._put("MODIFIED", key, await request.json())
        return web.json_response(self.objects[key])

    def _put(self, event: str, key: tuple[str, str], body: dict[str, Any]) -> None:
        self.revision += 1
        body |= {"kind": "Flunder", "apiVersion": f"{GROUP}/{VERSION}"}
        body["metadata"]["resourceVersion"] = str(self.revision)
        body["metadata"].setdefault("creationTimestamp", "2026-01-01T00:00:00Z")
        self.objects[key] = body
        self._tell(event, body)

    def _tell(self, event: str, body: dict[str, Any]) -> None:
        for queue in self._watchers:
            queue.put_nowait((event, body))

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        queue: asyncio.Queue[tuple[str, dict[str, Any]]] = asyncio.Queue()
        self._watchers.append(queue)
        self.listening.set()
        answer = web.StreamResponse(headers={"Content-Type": "application/json"})
        await answer.prepare(request)
        try:
            while True:
                event, body = await queue.get()
                await answer.write(json.dumps({"type": event, "object": body}).encode() + b"\n")
        finally:
            self._watchers.remove(queue)

    async def _echo(self, request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            await socket.send_str(f"{request.headers['X-Remote-User']} said {message.data}")
        return socket


def _status(code: int, reason: str, message: str) -> web.Response:
    body = {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "code": code,
        "reason": reason,
        "message": message,
    }
    return web.json_response(body, status=code)


def _document(path: str) -> dict[str, Any]:
    operation = {
        "responses": {"200": {"description": "OK"}},
        "x-kubernetes-action": "list",
        "x-kubernetes-group-version-kind": {"group": GROUP, "version": VERSION, "kind": "Flunder"},
    }
    paths = {f"{ROOT}/namespaces/{{namespace}}/flunders": {"get": operation}}
    match path:
        case "/openapi/v3":
            return {"paths": {f"apis/{GROUP}/{VERSION}": {"serverRelativeURL": f"/openapi/v3{ROOT}?hash=1"}}}
        case "/openapi/v2":
            return {
                "swagger": "2.0",
                "info": {"title": "", "version": ""},
                "paths": paths,
                "definitions": {NAME: _SCHEMA},
            }
        case "/openapi/v3" | _ if path.startswith("/openapi/v3/"):
            return {
                "openapi": "3.0.0",
                "info": {"title": "wardle", "version": "1"},
                "paths": paths,
                "components": {"schemas": {NAME: _SCHEMA}},
            }
    flunders = {
        "name": "flunders",
        "singularName": "flunder",
        "namespaced": True,
        "kind": "Flunder",
        "verbs": VERBS,
        "shortNames": ["fl"],
    }
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": f"{GROUP}/{VERSION}",
        "resources": [flunders],
    }
