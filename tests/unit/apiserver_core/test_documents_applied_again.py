"""Documents that are kept between two applies."""

from __future__ import annotations

from typing import Any

import orjson

from bamikube.api import table
from bamikube.apiserver.registry.applying import Document, check_document
from bamikube.apiserver.registry.documents import LONGEST, TOTAL, Documents, Key

MAPS = table.by_name("configmaps")


def made(name: str = "a", size: int = 100) -> tuple[Key, Document]:
    doc: dict[str, Any] = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}}
    doc["data"] = {"k": "x" * (size - len(orjson.dumps({**doc, "data": {"k": ""}})))}
    body = orjson.dumps(doc)
    return (MAPS, "default", name, body), check_document(MAPS, doc, "default", name)


def test_a_document_is_the_takers_alone() -> None:
    documents = Documents()
    key, document = made()
    documents.keep(key, document)
    assert documents.take(key) is document
    assert documents.take(key) is None  # somebody else, at the same time, reads his own


def test_only_the_very_bytes_for_the_very_object_count() -> None:
    documents = Documents()
    (row, namespace, name, body), document = made()
    documents.keep((row, namespace, name, body), document)
    for other in (
        (table.by_name("secrets"), namespace, name, body),
        (row, "other", name, body),
        (row, namespace, "b", body),
        (row, namespace, name, body + b" "),
    ):
        assert documents.take(other) is None


def test_what_was_used_or_is_long_is_not_kept() -> None:
    documents = Documents()
    key, document = made()
    document.used = True
    documents.keep(key, document)
    assert documents.take(key) is None
    key, document = made(size=LONGEST + 1)
    documents.keep(key, document)
    assert documents.take(key) is None


def test_the_oldest_go_when_all_together_are_too_much() -> None:
    documents = Documents()
    many = [made(f"n{number}", LONGEST) for number in range(TOTAL // LONGEST + 1)]
    for key, document in many[:-1]:
        documents.keep(key, document)
    documents.keep(*many[0])  # kept again: now the youngest
    documents.keep(*many[-1])
    kept = [key[2] for key, _ in many if documents.take(key) is not None]
    assert kept == ["n0", *(f"n{number}" for number in range(2, len(many)))]
    documents.keep(*many[1])
    assert documents.take(many[1][0]) is not None
