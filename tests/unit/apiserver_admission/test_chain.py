"""The chain: who is called, in which order, what flags do, and where warnings go."""

from __future__ import annotations

from typing import Any

import pytest

from bamikube.api import errors, table
from bamikube.api.errors import ApiError
from bamikube.apiserver.admission import Admission, AdmissionContext, Plugin, plugins
from bamikube.apiserver.authz.authorizer import Authorizer
from bamikube.apiserver.options import ApiServerOptions
from bamikube.apiserver.outbound.caller import HttpCaller
from bamikube.apiserver.warnings import header, with_warnings
from bamikube.kit.world import World
from bamikube.store.model import ModelStore

from .conftest import DictReader, context, pod

ON = [
    "NamespaceLifecycle",
    "LimitRanger",
    "ServiceAccount",
    "NodeRestriction",
    "TaintNodesByCondition",
    "PodSecurity",
    "Priority",
    "DefaultTolerationSeconds",
    "DefaultStorageClass",
    "StorageObjectInUseProtection",
    "PersistentVolumeClaimResize",
    "RuntimeClass",
    "CertificateApproval",
    "CertificateSigning",
    "CertificateSubjectRestriction",
    "DefaultIngressClass",
    "ResourceQuota",
]


def made(reader: DictReader, **flags: Any) -> list[str]:
    store, rows = ModelStore(World()), lambda: table.TABLE
    parts = plugins.Parts(reader, World(), Authorizer(reader), HttpCaller(), rows, store)
    chain = plugins.standard(parts, **flags)
    return [plugin.name for plugin in chain.plugins]


def test_the_default_plugins_in_kubernetes_order(reader: DictReader) -> None:
    names = made(reader)
    assert [name for name in names if name in ON] == ON
    assert "AlwaysPullImages" not in names


def test_flags_switch_plugins(reader: DictReader) -> None:
    names = made(reader, enabled=["AlwaysPullImages"], disabled=["LimitRanger"])
    assert "AlwaysPullImages" in names and "LimitRanger" not in names
    assert names.index("NodeRestriction") < names.index("AlwaysPullImages") < names.index("Priority")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (
            {"disabled": ["LimitRangr"]},
            "--disable-admission-plugins: unknown admission plugins LimitRangr; known",
        ),
        (
            {"enabled": ["PodPreset"]},
            "--enable-admission-plugins: unknown admission plugins PodPreset; known",
        ),
        ({"enabled": ["Priority"], "disabled": ["Priority"]}, "Priority in --enable-admission-plugins and"),
    ],
)
def test_unknown_names_are_refused_at_the_start(reader: DictReader, flags: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        made(reader, **flags)
    assert ApiServerOptions().enable_admission_plugins == []


class Noted(Plugin):
    def __init__(self, name: str, kinds: frozenset[tuple[str, str]] | None, seen: list[str]) -> None:
        self.name, self.kinds, self._seen = name, kinds, seen  # type: ignore[misc]

    async def mutate(self, ctx: AdmissionContext) -> None:
        self._seen.append(f"{self.name} mutates")

    async def validate(self, ctx: AdmissionContext) -> None:
        self._seen.append(f"{self.name} judges")


async def test_only_those_concerned_are_called_changers_first() -> None:
    seen: list[str] = []
    chain = Admission(
        [Noted("pods", frozenset({("", "pods")}), seen), Noted("nodes", frozenset({("", "nodes")}), seen)]
    )
    ctx = context("pods", pod())
    await chain.mutate(ctx)
    await chain.validate(ctx)
    assert seen == ["pods mutates", "pods judges"]


class Refusing(Plugin):
    name = "Refusing"

    async def validate(self, ctx: AdmissionContext) -> None:
        ctx.warnings.append('it was "close"')
        raise errors.forbidden("pods", ctx.name, "no")


async def test_warnings_go_out_with_a_refusal_too() -> None:
    with pytest.raises(ApiError) as caught:
        await Admission([Refusing()]).validate(context("pods", pod()))
    assert caught.value.headers["Warning"] == '299 - "it was \\"close\\""'


def test_warning_headers() -> None:
    assert header(["a", "b", "a"]) == '299 - "a"\n299 - "b"'
    assert header(["two\nlines", ""]) == "" and with_warnings({"X": "y"}, ["two\nlines"]) == {"X": "y"}
    assert len(header([str(number) for number in range(50)]).split("\n")) == 50
    assert header(["a" * 4000, "b" * 96]) == f'299 - "{"a" * 4000}"\n299 - "{"b" * 96}"'
    assert header(["a" * 4000, "b" * 97]) == f'299 - "{"a" * 256}"\n299 - "{"b" * 97}"'
    assert with_warnings({"Warning": '299 - "old"', "X": "y"}, ["new"]) == {
        "Warning": '299 - "new"\n299 - "old"',
        "X": "y",
    }
