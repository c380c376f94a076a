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

from bamikube.api.schema import NO_REPEATS, Repeats

MAX_YAML_DEPTH = 500
MAX_YAML_VALUES = 1_000_000

_Parser = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class HostileYaml(ValueError):
    """The document is nested too deeply or stands for too much."""


def duplicate_keys(body: bytes, parsed: Any) -> Repeats:
    """Keys that are given more than once in a JSON ``body`` whose value is ``parsed``.

    A body without them has as many quotes as its value written out again, unless some are escaped as numbers: that
    is checked first and usually enough.
    """
    try:
        written = orjson.dumps(parsed)
    except TypeError:  # nested deeper than is ever written: types and schema have the say
        return NO_REPEATS
    if written == body or (b"\\u" not in body and written.count(b'"') == body.count(b'"')):
        return NO_REPEATS
    found: dict[str, int] = {}  # path: which of the text's keys repeats it
    places: dict[str, int] = {}  # path: which of the text's keys it is, when it first appears
    keys = 0

    class Pairs(list[tuple[str, Any]]):
        """An object's members in the order they came, told apart from an array."""

    def walk(value: Any, path: str) -> None:
        nonlocal keys
        if isinstance(value, Pairs):
            seen = set()
            for key, inner in value:
                here = f"{path}.{key}" if path else key
                if key in seen:
                    found.setdefault(here, keys)
                seen.add(key)
                places.setdefault(here, keys)
                keys += 1
                walk(inner, here)
        elif isinstance(value, list):
            for position, inner in enumerate(value):
                walk(inner, f"{path}[{position}]")

    try:
        walk(json.loads(body, object_pairs_hook=Pairs), "")
    except (RecursionError, ValueError):
        return NO_REPEATS  # deeper than anything that has a schema: nobody could act on the warning
    if not found:
        return NO_REPEATS
    return Repeats(tuple(f'duplicate field "{path}"' for path in found), tuple(found.values()), places)


_OPERATION = ("op", "path", "from", "value")


def odd_operations(body: bytes, patch: list[Any]) -> Repeats:
    """What a strict reader says of the operations of a JSON patch: members given twice, members that mean nothing."""
    texts = [f"json patch {text}" for text in duplicate_keys(body, patch).texts]
    for index, each in enumerate(patch):
        if isinstance(each, dict):
            texts += [
                f'json patch unknown field "[{index}].{name}"' for name in each if name not in _OPERATION
            ]
    return Repeats(tuple(texts)) if texts else NO_REPEATS


def survey_yaml(body: bytes) -> Repeats:
    """Keys given twice in YAML. Raises :class:`HostileYaml`, and yaml.YAMLError for what is no YAML."""
    sizes: dict[str, int] = {}  # of finished named parts, everything inside counted as often as it appears
    open_parts: list[_Part] = [_Part(mapping=False, anchor=None)]
    twice: list[str] = []
    for event in yaml.parse(body, Loader=_Parser):
        top = open_parts[-1]
        if isinstance(event, yaml.AliasEvent):
            size = sizes.get(event.anchor or "")
            if size is None:
                raise HostileYaml(f"the alias *{event.anchor} stands inside what it names, or before it")
            top.put(None, size)
        elif isinstance(event, yaml.ScalarEvent):
            if top.repeats(event.value):
                key = event.value if event.implicit[0] and event.value.isdigit() else f'"{event.value}"'
                line = event.start_mark.line + 1 if event.start_mark else 0
                twice.append(f"line {line}: key {key} already set in map")
            top.put(event.value, 1)
            if event.anchor:
                sizes[event.anchor] = 1
        elif isinstance(event, yaml.CollectionStartEvent):
            if len(open_parts) > MAX_YAML_DEPTH:
                raise HostileYaml(f"the document is nested deeper than {MAX_YAML_DEPTH} levels")
            sizes.pop(event.anchor or "", None)
            open_parts.append(_Part(isinstance(event, yaml.MappingStartEvent), event.anchor))
        elif isinstance(event, yaml.CollectionEndEvent):
            ended = open_parts.pop()
            if ended.anchor:
                sizes[ended.anchor] = ended.size
            open_parts[-1].put(None, ended.size)
        if open_parts[-1].size > MAX_YAML_VALUES:
            raise HostileYaml(
                f"its aliases stand for more than {MAX_YAML_VALUES} values (excessive aliasing)"
            )
    return Repeats(tuple(twice), yaml=True) if twice else NO_REPEATS


class _Part:
    """A mapping or sequence that is being read. In a mapping keys and values take turns."""

    __slots__ = ("anchor", "keys", "mapping", "position", "size")

    def __init__(self, mapping: bool, anchor: str | None) -> None:
        self.mapping, self.anchor = mapping, anchor
        self.size = 1
        self.position = 0
        self.keys: set[str] = set()

    def repeats(self, text: str) -> bool:
        """Whether the scalar that comes now is a key that this mapping has already. A merge key may come again."""
        return self.mapping and self.position % 2 == 0 and text != "<<" and text in self.keys

    def put(self, text: str | None, size: int) -> None:
        """Something of ``size`` ended here; ``text`` if it was a scalar."""
        self.size += size
        if self.mapping and self.position % 2 == 0 and text is not None:
            self.keys.add(text)
        self.position += 1
