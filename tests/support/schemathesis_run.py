"""Schemathesis, which knows nothing of Kubernetes, let loose on a live API with the API's own documents.

It makes two kinds of requests to every operation: *positive* ones that the documents allow and *negative* ones that
they do not. What it may not find: an answer of 5xx, an error that is no ``Status``, a media type or a body that the
documents do not promise, a status code that Kubernetes does not have for the method. Its documents name 200, 201, 202 and
401 only; what else it answers stands in :data:`ANSWERS`.

Requests come in rounds: one for every operation, then one for every operation of the other kind, and so on. The first
round is always finished, so that no operation is ever left out; the time given cuts off the later ones. The seed decides
the order of operations and every request, so that what failed can be sent again::

    judge(api, seed=20341, seconds=40)      # a Counter of status codes, or Harm that names the seed
"""

from __future__ import annotations

import itertools
import random
import time
from collections import Counter
from typing import Any

import hypothesis
import orjson
import requests
import schemathesis
import yaml
from hypothesis import HealthCheck, Phase
from schemathesis import Case, CheckFunction, GenerationMode, Response
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance

from bamikube.api import table
from tests.support.objects import NAMES, example, where
from tests.support.private_api import PrivateApi

# What would make the server call out to nobody, and rightly fail: tried, but never kept.
NOT_KEPT = ("admissionregistration.k8s.io", "apiextensions.k8s.io", "apiregistration.k8s.io")
# The status codes of each method: what an administrator may hear, whatever he sends. No 401, and no 5xx but the excused.
_ALWAYS = {200, 400, 404, 405, 406}
_WRITES = _ALWAYS | {201, 403, 409, 413, 415, 422}
ANSWERS: dict[str, set[int]] = {
    "get": _ALWAYS
    | {204, 410, 422},  # 204: the log of a pod on no node; 422: options of a list that go ill together
    "head": _ALWAYS,
    "options": _ALWAYS,
    "post": _WRITES | {202, 429},  # 429: an eviction that a budget forbids
    "put": _WRITES,
    "patch": _WRITES,
    "delete": _ALWAYS | {202, 403, 409, 415, 422},
}


class Harm(AssertionError):
    """The server did what it must not. Says the seed and the requests."""


class Wire(requests.Session):
    """An administrator's connection."""

    def __init__(self, api: PrivateApi) -> None:
        super().__init__()
        pair = api.home / "pki/apiserver-kubelet-client"
        self.api = api
        self.how: dict[str, Any] = {
            "verify": str(api.ca),
            "cert": (f"{pair}.crt", f"{pair}.key"),
            "timeout": 30,
        }

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        answer = self.request(method, self.api.url + path, json=body, **self.how)
        assert answer.status_code < 300, answer.text
        return answer.json()


def whole_document(wire: Wire) -> dict[str, Any]:
    """All documents of ``/openapi/v3`` as one."""
    whole: dict[str, Any] = {}
    for entry in wire.ask("GET", "/openapi/v3")["paths"].values():
        document = wire.ask("GET", entry["serverRelativeURL"])
        if not whole:
            whole = document
            continue
        whole["paths"] |= document["paths"]
        for name, parts in document["components"].items():
            whole["components"].setdefault(name, {}).update(parts)
    for operation in (one for item in whole["paths"].values() for one in item.values()):
        # Kubernetes' documents say "anything", which makes an outsider send pictures.
        if body := operation.get("requestBody", {}).get("content", {}).pop("*/*", None):
            operation["requestBody"]["content"] = {"application/json": body, "application/yaml": body}
    return whole


def furnish(wire: Wire) -> None:
    """An object of every kind, so that there is something to get, to patch and to replace."""
    wire.ask("POST", "/api/v1/namespaces/default/serviceaccounts", {"metadata": {"name": "default"}})
    for row in table.TABLE:
        if not row.virtual and row.group not in NOT_KEPT and table.storage_row(row) is row:
            wire.ask("POST", where(row), example(row, "fuzz"))


def _aim(case: Case, dice: random.Random) -> None:
    """Point most requests at objects that exist, and keep the test itself out of harm's way."""
    path = case.operation.path
    if "namespace" in case.path_parameters and dice.random() < 0.8:
        case.path_parameters["namespace"] = "default"
    if "name" in case.path_parameters and dice.random() < 0.8:
        kinds = (NAMES[row.kind] for row in table.TABLE if row.kind in NAMES and f"/{row.plural}/" in path)
        case.path_parameters["name"] = next(kinds, "fuzz")
    if case.operation.method == "post" and isinstance(case.body, dict) and dice.random() < 0.8:
        case.body["metadata"] = {"name": f"made-{dice.randrange(10**9)}"}
        for name in ("apiVersion", "kind"):
            case.body.pop(name, None)
    case.query.pop("watch", None)  # watches last; the project's own fuzzer opens and closes them
    if any(group in path for group in NOT_KEPT) and case.operation.method != "get":
        case.query["dryRun"] = "All"


def _is_excused(case: Case, answer: Response) -> bool:
    """Whether a 5xx is Kubernetes' own: a version to come, a proxied pod or service behind which nobody is, and a service when
    the range of cluster IPs has been deleted."""
    if answer.status_code == 500:
        return b"range is full" in answer.content
    if answer.status_code not in (503, 504):
        return False
    message = orjson.loads(answer.content)["message"]
    if answer.status_code == 504:
        return "Too large resource version" in message
    return "/proxy" in case.operation.path


def _checks(case: Case, answer: Response) -> list[CheckFunction]:
    """What to look at. Where Kubernetes does not do what its documents say, we do what it does: DELETE answers an object
    that finalizers keep, not a Status, and what is required and empty is written ``null`` (an event's time, a token's bound
    object)."""
    checks: list[CheckFunction] = [not_a_server_error, content_type_conformance]
    kept = case.operation.method == "delete" and not _is_status(answer, 200)
    if not kept and b":null" not in answer.content.replace(b" ", b""):
        checks.append(response_schema_conformance)
    return checks


def _is_status(answer: Response, code: int) -> bool:
    kind = answer.headers.get("content-type", [""])[0]
    if answer.content == b"404 page not found\n":
        return code == 404
    if "protobuf" in kind:
        return answer.content[:4] == b"k8s\0"
    try:
        status = yaml.safe_load(answer.content) if "yaml" in kind else orjson.loads(answer.content)
    except (orjson.JSONDecodeError, yaml.YAMLError):
        return False
    return status.get("kind") == "Status" and status.get("code", 200) == code


def _fault(case: Case, answer: Response) -> str:
    """What is wrong with an answer, or nothing."""
    method = case.operation.method
    if answer.status_code >= 400 and method != "head" and not _is_status(answer, answer.status_code):
        return f"an error that is no Status: {answer.status_code} {answer.content[:300]!r}"
    if _is_excused(case, answer):
        return ""
    if answer.status_code not in ANSWERS[method] and "/proxy" not in case.operation.path:
        return f"{answer.status_code} is no answer to {method.upper()}: {answer.content[:300]!r}"
    try:
        case.validate_response(answer, checks=_checks(case, answer))
    except FailureGroup as failures:
        return "; ".join(f"{each.title}: {each.message}"[:1500] for each in failures.exceptions)
    return ""


def judge(api: PrivateApi, seed: int, seconds: float) -> Counter[int]:
    """Every operation at least once, then on until the time is up. How often each status was answered. Raises Harm."""
    wire = Wire(api)
    dice = random.Random(seed)
    schema = schemathesis.openapi.from_dict(whole_document(wire))
    operations = [found.ok() for found in schema.get_all_operations()]
    dice.shuffle(operations)
    seen: Counter[int] = Counter()
    harms: dict[str, str] = {}  # the first of each operation

    def send(case: Case) -> None:
        _aim(case, dice)
        answer = case.call(base_url=api.url, session=wire, **wire.how)
        seen[answer.status_code] += 1
        if wrong := _fault(case, answer):
            harms.setdefault(case.operation.label, f"{wrong}\n  {case.as_curl_command()[:1500]}")

    end = time.monotonic() + seconds
    tried = 0
    for turn in itertools.count():
        if turn and time.monotonic() >= end:
            break
        mode = GenerationMode.NEGATIVE if turn % 2 else GenerationMode.POSITIVE
        for operation in operations:
            if turn and time.monotonic() >= end:
                break
            test = hypothesis.given(operation.as_strategy(generation_mode=mode))(send)
            hypothesis.settings(
                max_examples=1,
                database=None,
                deadline=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )(hypothesis.seed(seed + tried)(test))()
            tried += 1
    if harms:
        told = (f"{label}: {harm}" for label, harm in harms.items())
        raise Harm("\n".join([f"seed {seed}, {len(harms)} of {len(operations)} operations:", *told]))
    assert wire.request("GET", f"{api.url}/readyz", **wire.how).content == b"ok"
    print(f"schemathesis, seed {seed}: {len(operations)} operations, {tried} requests: {dict(seen)}")
    return seen
