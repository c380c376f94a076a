"""What is wrong with a body although it can be parsed: keys given twice, and YAML that is larger than it looks.

JSON and YAML readers take the last of two equal keys without a word. Kubernetes tells the client (a warning, or 400
under ``fieldValidation=Strict``), because one of the two was surely meant to be something else.

A YAML document may name a part (``&a``) and put it in many places (``*a``); a few lines of names within names stand
for gigabytes once they are written out. :func:`survey_yaml` follows the parser's events, which costs no more than the
text is long, and refuses such a document before anything is built from it::

    a: &a [x, x]            2 values
    b: &b [*a, *a]          4
    c: [*b, *b]             8, and so on: counted, not built
"""

from __future__ import annotations

import json
from typing import Any

import orjson
import yaml

MAX_YAML_DEPTH = 500
MAX_YAML_VALUES = 1_000_000

_Parser = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class HostileYaml(ValueError):
    """The document is nested too deeply or stands for too much."""


def duplicate_keys(body: bytes, parsed: Any) -> list[str]:
    """Paths of keys that are given more than once in a JSON ``body`` whose value is ``parsed``.

    A body without them has as many quotes as its value written out again, unless some are escaped as numbers: that
    is checked first and usually enough.
    """
    try:
        written = orjson.dumps(parsed)
    except TypeError:  # nested deeper than is ever written: types and schema have the say
        return []
    if b"\\u" not in body and written.count(b'"') == body.count(b'"'):
        return []
    found: list[str] = []

    class Pairs(list[tuple[str, Any]]):
        """An object's members in the order they came, told apart from an array."""

    def walk(value: Any, path: str) -> None:
        if isinstance(value, Pairs):
            seen = set()
            for key, inner in value:
                here = f"{path}.{key}" if path else key
                if key in seen:
                    found.append(here)
                seen.add(key)
                walk(inner, here)
        elif isinstance(value, list):
            for position, inner in enumerate(value):
                walk(inner, f"{path}[{position}]")

    try:
        walk(json.loads(body, object_pairs_hook=Pairs), "")
    except (RecursionError, ValueError):
        return []  # deeper than anything that has a schema: nobody could act on the warning
    return list(dict.fromkeys(found))


def survey_yaml(body: bytes) -> list[str]:
    """Paths of keys given twice in YAML. Raises :class:`HostileYaml`, and yaml.YAMLError for what is no YAML."""
    sizes: dict[str, int] = {}  # of finished named parts, everything inside counted as often as it appears
    open_parts: list[_Part] = [_Part("", mapping=False, anchor=None)]
    twice: list[str] = []
    for event in yaml.parse(body, Loader=_Parser):
        top = open_parts[-1]
        if isinstance(event, yaml.AliasEvent):
            size = sizes.get(event.anchor or "")
            if size is None:
                raise HostileYaml(f"the alias *{event.anchor} stands inside what it names, or before it")
            top.put(None, size, twice)
        elif isinstance(event, yaml.ScalarEvent):
            top.put(event.value, 1, twice)
            if event.anchor:
                sizes[event.anchor] = 1
        elif isinstance(event, yaml.CollectionStartEvent):
            if len(open_parts) > MAX_YAML_DEPTH:
                raise HostileYaml(f"the document is nested deeper than {MAX_YAML_DEPTH} levels")
            sizes.pop(event.anchor or "", None)
            path = top.enter()
            open_parts.append(_Part(path, isinstance(event, yaml.MappingStartEvent), event.anchor))
        elif isinstance(event, yaml.CollectionEndEvent):
            ended = open_parts.pop()
            if ended.anchor:
                sizes[ended.anchor] = ended.size
            open_parts[-1].put(None, ended.size, twice)
        if open_parts[-1].size > MAX_YAML_VALUES:
            raise HostileYaml(
                f"its aliases stand for more than {MAX_YAML_VALUES} values (excessive aliasing)"
            )
    return list(dict.fromkeys(twice))


class _Part:
    """A mapping or sequence that is being read. In a mapping keys and values take turns."""

    __slots__ = ("anchor", "key", "keys", "mapping", "path", "position", "size")

    def __init__(self, path: str, mapping: bool, anchor: str | None) -> None:
        self.path, self.mapping, self.anchor = path, mapping, anchor
        self.size = 1
        self.position = 0
        self.key: str | None = None
        self.keys: set[str] = set()

    def enter(self) -> str:
        """The path of the collection that begins here."""
        if self.mapping:
            name = self.key or ""
            return f"{self.path}.{name}" if self.path else name
        return f"{self.path}[{self.position}]" if self.path else ""

    def put(self, text: str | None, size: int, twice: list[str]) -> None:
        """Something of ``size`` ended here; ``text`` if it was a scalar."""
        self.size += size
        if self.mapping and self.position % 2 == 0:
            self.key = text
            if text is not None and text != "<<":
                if text in self.keys:
                    twice.append(self.enter())
                self.keys.add(text)
        self.position += 1
