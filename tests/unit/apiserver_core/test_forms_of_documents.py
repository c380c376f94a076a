"""What is no resource has forms, too: who takes none of them is refused as Kubernetes' router, or its aggregator, refuses him."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest
import yaml

from bamikube.api import protobuf
from bamikube.apiserver.identity import MASTERS, User
from bamikube.apiserver.options import ApiServerOptions
from bamikube.apiserver.server import ApiServer
from bamikube.kit.http import Request, Response
from bamikube.kit.world import World
from bamikube.store.model import ModelStore

ALL = "application/json, application/yaml, application/vnd.kubernetes.protobuf"


class Everybody:
    async def authenticate(self, request: Request) -> User | None:
        return User("admin", (MASTERS,))


@pytest.fixture
async def server() -> AsyncIterator[ApiServer]:
    world = World()
    made = ApiServer(ModelStore(world), ApiServerOptions(), world, methods=(Everybody(),))
    running = asyncio.ensure_future(made.run())
    await asyncio.wait_for(made.ready.wait(), 10)
    yield made
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def ask(server: ApiServer, path: str, accept: str, **more: str) -> Response:
    headers = {"accept": accept, **{name.replace("_", "-"): value for name, value in more.items()}}
    answer = await server.handle(Request.make("GET", path, headers=headers))
    assert isinstance(answer, Response)
    return answer


REFUSED = [
    ("/version", "text/html", "406: Not Acceptable\n\nAvailable representations: application/json"),
    ("/version", "application/cbor", "406: Not Acceptable\n\nAvailable representations: application/json"),
    ("/version", "application/*", "406: Not Acceptable\n\nAvailable representations: application/json"),
    ("/api", "text/html", f"406: Not Acceptable\n\nAvailable representations: {ALL}"),
    ("/api/v1", "image/png, text/html;q=0.5", f"406: Not Acceptable\n\nAvailable representations: {ALL}"),
    ("/apis/apps/v1", "text/html", f"406: Not Acceptable\n\nAvailable representations: {ALL}"),
    ("/apis", "text/html", f"only the following media types are accepted: {ALL}"),
    ("/apis/apps", "text/html", f"only the following media types are accepted: {ALL}"),
]
TAKEN = ("", "*/*", "application/json", "text/html, */*;q=0.1", "text/html,application/json;q=0.9")


async def test_forms_that_there_are_and_are_not(server: ApiServer) -> None:
    for path, accept, said in REFUSED:
        answer = await ask(server, path, accept)
        assert answer.status == 406 and orjson.loads(answer.joined())["message"] == said, (path, accept)
    for path in ("/version", "/api", "/apis", "/apis/apps", "/api/v1", "/apis/apps/v1"):
        for accept in TAKEN:
            answer = await ask(server, path, accept)
            assert answer.status == 200 and answer.content_type == "application/json", (path, accept)


def without_empty(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: without_empty(each) for name, each in value.items() if each != ""}
    return [without_empty(each) for each in value] if isinstance(value, list) else value


ALL_AT_ONCE = "g=apidiscovery.k8s.io;v=%s;as=APIGroupDiscoveryList"


async def test_everything_at_once_in_every_form(server: ApiServer) -> None:
    for version in ("v2", "v2beta1"):
        asked = ALL_AT_ONCE % version
        for path in ("/api", "/apis"):
            as_json = await ask(server, path, f"application/json;{asked}")
            document = orjson.loads(as_json.joined())
            assert as_json.content_type == f"application/json;{asked}"
            assert document["apiVersion"] == f"apidiscovery.k8s.io/{version}"
            as_protobuf = await ask(server, path, f"application/vnd.kubernetes.protobuf;{asked}")
            assert as_protobuf.content_type == f"application/vnd.kubernetes.protobuf;{asked}"
            # Of a message nobody can tell that a text is there, and empty: the core group.
            assert without_empty(protobuf.decode(as_protobuf.joined())) == without_empty(document)
            as_yaml = await ask(server, path, f"application/yaml;{asked}")
            assert yaml.safe_load(as_yaml.joined()) == document
            etags = {one.headers["ETag"] for one in (as_json, as_protobuf, as_yaml)}
            assert len(etags) == 3
            known = await ask(
                server,
                path,
                f"application/vnd.kubernetes.protobuf;{asked}",
                if_none_match=as_protobuf.headers["ETag"],
            )
            assert known.status == 304 and not known.joined()


async def test_what_is_liked_best_is_given(server: ApiServer) -> None:
    v2, beta = ALL_AT_ONCE % "v2", ALL_AT_ONCE % "v2beta1"
    for accept, kind in [
        (f"application/json;{v2},application/json;{beta},application/json", "APIGroupDiscoveryList"),
        (f"application/json,application/json;{v2}", "APIGroupList"),
        (f"application/json;q=0.5,application/json;{v2};q=0.9", "APIGroupDiscoveryList"),
        (f"application/json;{ALL_AT_ONCE % 'v3'},application/json", "APIGroupList"),
        (f"text/html;{v2},application/json", "APIGroupList"),
        (f"*/*;{v2}", "APIGroupDiscoveryList"),
    ]:
        answer = await ask(server, "/apis", accept)
        assert answer.status == 200 and orjson.loads(answer.joined())["kind"] == kind, accept


async def test_openapi_in_the_forms_that_there_are(server: ApiServer) -> None:
    for path, version in (("/openapi/v2", "v2"), ("/openapi/v3/apis/apps/v1", "v3")):
        binary = f"application/com.github.proto-openapi.spec.{version}@v1.0+protobuf"
        for accept, form in [
            ("", "application/json"),
            ("*/*", "application/json"),
            (binary, binary.replace("@", ".")),
            (binary.replace("@", "."), binary.replace("@", ".")),
            (f"application/json;q=0.5, {binary}", binary.replace("@", ".")),
            (f"application/json, {binary}", "application/json"),
        ]:
            answer = await ask(server, path, accept)
            assert answer.status == 200 and answer.content_type == form, (path, accept)
            assert answer.joined().startswith(b"{") == (form == "application/json")
        assert (await ask(server, path, "text/html")).status == 406
