"""The steps of a field path: how ``fieldsV1`` writes them, and how people read them.

==============================  ==================================  =========================
what                            in ``fieldsV1``                     in messages
==============================  ==================================  =========================
a field, or a map's entry       ``f:replicas``                      ``.replicas``
an element, by its keys         ``k:{"port":80,"protocol":"TCP"}``  ``[port=80,protocol="TCP"]``
an element of a set             ``v:"kubernetes"``                  ``[="kubernetes"]``
an element, by its position     ``i:3``                             ``[3]``
==============================  ==================================  =========================

Keys are written in the order of their names.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable
from typing import Any

import orjson

from bamikube.api.fieldpath import escape
from bamikube.api.memory import remembered

_KINDS = {"f": 0, "k": 1, "v": 2, "i": 3}


@functools.lru_cache(maxsize=8192)
def by_text_key(name: str, value: str) -> str:
    """The step to the element whose only key is the text ``value``."""
    return f"k:{orjson.dumps({name: value}).decode()}"


def by_keys(pairs: dict[str, Any]) -> str:
    """The step to an element by several keys. Their values are texts and numbers in what is stored, but may be anything before."""
    return f"k:{_json(pairs)}"


def by_value(value: Any) -> str:
    """The step to an element of a set."""
    return f"v:{_json(value)}"


def _json(value: Any) -> str:
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()
    except TypeError:
        # An integer beyond 64 bits, which YAML can say: the number that readers of JSON make of it.
        return orjson.dumps(orjson.loads(json.dumps(value)), option=orjson.OPT_SORT_KEYS).decode()


def canonical(step: str) -> str:
    """A step that somebody else has written, in our form. Raises ValueError."""
    kind, colon, rest = step.partition(":")
    if not colon or kind not in _KINDS:
        raise ValueError(f"fieldsV1: {step!r} is no step of a path")
    if kind == "f":
        return step
    try:
        value = int(rest) if kind == "i" else orjson.loads(rest)
    except ValueError:
        raise ValueError(f"fieldsV1: {step!r} cannot be read") from None
    if kind == "i":
        return f"i:{value}"
    if kind == "k" and (not isinstance(value, dict) or not value):
        raise ValueError(f"fieldsV1: {step!r} names no keys")
    return f"{kind}:{orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()}"


@remembered(8192)
def rank(step: str) -> tuple[Any, ...]:
    """What steps are sorted by: kind first, then name, keys, value or position."""
    kind, _, rest = step.partition(":")
    if kind == "f":
        return (0, rest)
    if kind == "k":
        pairs = sorted(orjson.loads(rest).items())
        return (1, [(name, *_value_rank(value)) for name, value in pairs])
    if kind == "v":
        return (2, *_value_rank(orjson.loads(rest)))
    return (3, int(rest)) if kind == "i" else (-1,)


def _value_rank(value: Any) -> tuple[int, Any]:
    if isinstance(value, bool):
        return (2, value)
    if isinstance(value, int | float):
        return (0, value)
    if isinstance(value, str):
        return (1, value)
    return (3, orjson.dumps(value, option=orjson.OPT_SORT_KEYS))


def text(path: Iterable[str]) -> str:
    """A path as messages show it: ``.spec.ports[port=80,protocol="TCP"].name``."""
    return "".join(map(_shown, path))


def _shown(step: str) -> str:
    kind, _, rest = step.partition(":")
    if kind == "f":
        return f".{rest}"
    if kind == "k":
        pairs = orjson.loads(rest)
        return "[" + ",".join(f"{name}={_quoted(pairs[name])}" for name in sorted(pairs)) + "]"
    return f"[={_quoted(orjson.loads(rest))}]" if kind == "v" else f"[{rest}]"


def _quoted(value: Any) -> str:
    return escape(value) if isinstance(value, str) else orjson.dumps(value).decode()
