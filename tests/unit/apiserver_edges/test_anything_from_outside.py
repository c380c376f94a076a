"""Every parser that reads what a client or an administrator wrote: any text is understood or refused, never stumbled over."""

from __future__ import annotations

import base64
import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bamikube.api import errors, quantity, schema, table, times
from bamikube.api.cel.environment import Environment
from bamikube.api.cel.moments import parse_duration, parse_timestamp
from bamikube.api.cel.types import DYN, BudgetExceeded, CelError, CompileError
from bamikube.api.columns import age
from bamikube.api.memory import remembered
from bamikube.api.ownership import managers
from bamikube.api.patches.errors import PatchError
from bamikube.api.patches.json_patch import json_patch
from bamikube.apiserver import negotiation
from bamikube.apiserver.audit.policy import policy_of
from bamikube.apiserver.endpoints import list_options
from bamikube.apiserver.registry.reading import make_token, parse_version, read_token
from bamikube.apiserver.requestinfo import parse
from bamikube.apiserver.subresources.proxy import parse_target
from bamikube.apiserver.subresources.streams import log_query, stream_query
from bamikube.kit import spdy, websocket
from bamikube.kit.http import Request
from bamikube.pki import kubeconfig

SETTINGS = settings(deadline=None, max_examples=30, suppress_health_check=list(HealthCheck))
ANY = st.text(max_size=60)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def near(alphabet: str, *words: str) -> st.SearchStrategy[str]:
    """Any text, and texts of what the parser knows, in any order."""
    return ANY | st.lists(st.sampled_from([*alphabet, *words]), max_size=14).map("".join)


@SETTINGS
@given(near("0123456789-:.+TZtz ² ", "2026-01-02", "T03:04:05", "Z", "+23:59", "0001-01-01", "9999-12-31"))
def test_times(text: str) -> None:
    assert isinstance(times.seconds(text), float)
    assert isinstance(age.since(text, 0.0), str)
    row = table.by_name("events")
    event = {"metadata": {"creationTimestamp": text}, "eventTime": text, "involvedObject": {}}
    if not schema.check(row, event).errors:
        assert not schema.check(row, dict(event)).errors
    for read in (parse_timestamp, parse_duration):
        with contextlib.suppress(CelError):
            read(text)


def test_times_outside_of_the_calendar() -> None:
    for text, wanted in (
        ("0001-01-01T00:00:00+23:00", None),
        ("0500-01-01T00:30:00+01:00", "0499-12-31T23:30:00Z"),
    ):
        obj = {"metadata": {"creationTimestamp": text}}
        found = schema.check(table.by_name("configmaps"), obj).errors
        assert (obj["metadata"]["creationTimestamp"] == wanted) if wanted else found


@SETTINGS
@given(near("/~01-", "/a", "/-", "/metadata", "~2"), near("/~01-", "/a"), JSON)
def test_json_pointers(path: str, source: str, value: Any) -> None:
    for op in ("add", "remove", "replace", "test", "move", "copy"):
        doc = {"a": {"b": [1, {"c": None}]}, "": 0, "~": [[]], "metadata": {}}
        with contextlib.suppress(PatchError):
            json_patch(doc, [{"op": op, "path": path, "from": source, "value": value}])


@SETTINGS
@given(
    near("/%? ", "/api", "/apis", "/v1", "/namespaces", "/watch", "/pods", "/%00", "/%2e%2e", "/²", "/\udc80")
)
def test_paths(path: str) -> None:
    info = parse(Request.make("GET", path.encode("utf-8", "replace").decode()))
    assert not info.is_resource or info.resource


@SETTINGS
@given(
    near("*/;,=q. ", "application/json", ";as=Table", ";g=meta.k8s.io", ";v=v1", ";q=", "nan", "inf", "1e999")
)
def test_accept_headers(header: str) -> None:
    try:
        negotiation.accepted(Request.make("GET", "/", headers={"accept": header}))
    except errors.ApiError as error:
        assert error.code == 406


ADMIN = {"x-test-user": "admin", "x-test-groups": "system:masters"}
QUERIES = ("limit", "continue", "resourceVersion", "resourceVersionMatch", "timeoutSeconds", "labelSelector",
           "fieldSelector", "watch", "sendInitialEvents", "allowWatchBookmarks", "tailLines", "sinceSeconds", "sinceTime",
           "limitBytes", "container", "command", "stdin", "follow")  # fmt: skip


@SETTINGS
@given(
    st.dictionaries(
        st.sampled_from(QUERIES), near("0123456789-=!,() ²", "9" * 5000, "%00", "%ff", "a"), max_size=4
    )
)
def test_parameters(query: dict[str, str]) -> None:
    request = Request.make("GET", "/?" + "&".join(f"{name}={value}" for name, value in query.items()))
    for read in (list_options, log_query, stream_query):
        try:
            read(request)
        except errors.ApiError as error:
            assert error.code in (400, 422)
    for text in query.values():
        for reader in (parse_version, lambda given: parse_target(given, "pod")):
            try:
                reader(text)
            except errors.ApiError as error:
                assert error.code == 400


@SETTINGS
@given(
    ANY | st.binary(max_size=40).map(lambda raw: raw.decode("latin-1")) | JSON.map(lambda v: _token(v)),
    st.text(min_size=1),
)
def test_continue_tokens(token: str, start: str) -> None:
    try:
        revision, _ = read_token(token)
        assert isinstance(revision, int)
    except errors.ApiError as error:
        assert error.code == 400
    assert read_token(make_token(7, start)) == (7, start)


def _token(value: Any) -> str:
    text = json.dumps({"v": "meta.k8s.io/v1", "rv": value, "start": value})
    return base64.urlsafe_b64encode(text.encode()).decode()


@SETTINGS
@given(
    JSON | st.dictionaries(st.sampled_from(["apiVersion", "kind", "rules", "omitStages"]), JSON),
    st.lists(JSON, max_size=2),
)
def test_audit_policies(document: Any, rules: list[Any]) -> None:
    whole = {"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "rules": rules}
    named = [{"level": "Metadata", "users": rule, "resources": [rule], "verbs": rule} for rule in rules]
    for each in (document, whole, {**whole, "rules": named}):
        try:
            policy_of(each)
        except ValueError as error:
            assert type(error) is ValueError


PARTS = ("clusters", "contexts", "users", "current-context")


@SETTINGS
@given(
    st.binary(max_size=60) | JSON.map(lambda v: json.dumps(v).encode()), st.sampled_from(PARTS), JSON, JSON
)
def test_kubeconfigs(
    tmp_path_factory: pytest.TempPathFactory, raw: bytes, part: str, one: Any, two: Any
) -> None:
    file = Path(tmp_path_factory.getbasetemp()) / "config"
    whole = kubeconfig.build(cluster="c", server="https://x", user="u")
    damaged = {**whole, part: one}
    deeper = {**whole, part: [{"name": whole["current-context"], part.removesuffix("s"): two}, one]}
    for data in (raw, yaml.safe_dump(damaged).encode(), yaml.safe_dump(deeper).encode()):
        file.write_bytes(data)
        with contextlib.suppress(kubeconfig.KubeconfigError):
            kubeconfig.load(file)


@SETTINGS
@given(
    st.lists(
        st.binary(max_size=40) | st.sampled_from([b"\x81\x80", b"\x82\xfe\xff\xff", b"\x80\x03\x00\x01"]),
        max_size=6,
    )
)
def test_frames(reads: list[bytes]) -> None:
    for parser, wrong in (
        (websocket.Parser(masks=True), websocket.ProtocolError),
        (websocket.Parser(masks=False), websocket.ProtocolError),
        (spdy.Session(), spdy.ProtocolError),
    ):
        try:
            for data in reads:
                parser.feed(data)
        except wrong:
            pass


KEYS = near('.:"{}[],', "f:a", "k:{}", 'k:{"a":1}', "v:1", "i:0", "f:", ".")


@SETTINGS
@given(st.recursive(st.just({}) | JSON, lambda inner: st.dictionaries(KEYS, inner, max_size=3), max_leaves=6))
def test_fields_v1(fields: Any) -> None:
    entry = {
        "manager": "m",
        "operation": "Apply",
        "apiVersion": "v1",
        "fieldsType": "FieldsV1",
        "fieldsV1": fields,
    }
    try:
        managers.written(managers.read([entry]))
    except errors.ApiError as error:
        assert error.code in (400, 422)


WORDS = ("x", "self", ".a", "[0]", "size(", ")", "(", "all(i, ", "has(", "'a'", '"b"', "1", "1u", "1e999", "9" * 30, " + ",
         " && ", " ? ", " : ", "==", "matches('(a+)+$')", "duration('1h')", "timestamp('²')", "quantity('1e999')", "r'\\", "b'\\xff'",
         "in", "{", "}", "[", "]", ",", "optional.of(", "?.a", "//", "\0", "ip('::1')", "semver('1.0.0')", "'%s%.9d'.format([x])",
         "cidr('10.0.0.0/8')", "x.map(i, i)", "url('http://[::1')", "string(", "int(", "-", "!")  # fmt: skip
_SCOPE = Environment({"x": DYN, "self": DYN})


@SETTINGS
@given(near("", *WORDS), JSON)
def test_cel_sources(source: str, value: Any) -> None:
    try:
        program = _SCOPE.compile(source)
    except CompileError:
        return
    with contextlib.suppress(CelError, BudgetExceeded):
        program.run({"x": value, "self": {"a": [value]}}, 10_000)


@pytest.mark.parametrize("source", ["\ud800", "'\ud800'", "\0", "(" * 5000, "-" * 20000 + "1", "x" + ".a" * 20000, "[" * 400 + "]" * 400,
                                    " || ".join(["x"] * 3000), "x ? " * 3000 + "x", "'" + "a" * 99000 + "'"])  # fmt: skip
def test_cel_sources_that_are_large_or_no_text(source: str) -> None:
    with contextlib.suppress(CompileError, CelError, BudgetExceeded):
        _SCOPE.compile(source).run({"x": False, "self": None}, 1 << 40)


async def test_what_strangers_make_up_is_kept_nowhere(call: Any) -> None:
    before = quantity._parse("1")
    assert quantity._parse("0" * 1000 + "1") == before
    made_up = (
        "/apis/made-up.io/v1/things",
        "/api/v1/made-ups/x",
        "/api/v1/namespaces/default/pods/x/made-up",
    )
    for number in range(3):
        for path in made_up:
            for user, groups in (("admin", "system:masters"), ("nobody", "")):
                status, _ = await call("GET", f"{path}{number}", user=user, groups=groups)
                assert status in (403, 404)
    status, _ = await call("MADE-UP", "/api/v1/pods")
    assert status in (404, 405)
    figures = (await call.server.handle(Request.make("GET", "/metrics", headers=ADMIN))).joined().decode()
    assert "apiserver_request_total{" in figures and "made-up" not in figures.lower()


def test_only_short_texts_are_remembered() -> None:
    asked: list[str] = []

    @remembered(8, longest=4)
    def length(text: str) -> int:
        asked.append(text)
        return len(text)

    assert [length(text) for text in ("ab", "ab", "abcdef", "abcdef")] == [2, 2, 6, 6]
    assert asked == ["ab", "abcdef", "abcdef"]
