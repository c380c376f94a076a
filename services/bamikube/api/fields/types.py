"""Objects as server-side apply sees them: nested types that compare, merge, take away, and list fields.

A type is compiled once from a schema (:mod:`bamikube.api.fields.compile`) and then asked five things about values:

``whole(value)``      the set of a value that appeared (or vanished) as a whole, every container included;
``stated(value)``     the set of what an applied document says: leaves and list elements, no plain containers;
``compare(old, new)`` what was added or changed, and what was removed, as two sets (None for an empty one);
``merge(live, doc)``  ``live`` with everything ``doc`` says: ``live`` itself when it says so already;
``without(value, s)`` ``value`` without the paths in ``s`` and all that lies below them.

Worked example, the labels ``{"app": "web"}`` where there were none: ``whole`` gives ``{".": {}, "f:app": {}}`` (the map is
new, too), ``stated`` gives ``{"f:app": {}}``.

A field that Go's types always write (a struct that is no pointer, a field without ``omitempty``) counts as present with
its zero value, in a new object too: whoever creates a Deployment owns ``.spec.replicas``, but not ``.spec``.

Values are never changed; results share parts with them, and sets with other sets. Source: structured-merge-diff (the ideas), KEP-555.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson

from bamikube.api.fields.sets import LEAF, SELF, FieldSet, is_member
from bamikube.api.memory import FEW, mark_of

Changes = tuple["FieldSet | None", "FieldSet | None"]
# A field's name, its step, and who says what its value states.
Asked = list[tuple[str, str, Callable[[Any], FieldSet]]]
Faults = list[tuple[str, str]]  # the path of what is wrong, as messages show it, and what

NOTHING: Changes = (None, None)
CHANGED: Changes = (LEAF, None)
SHAPES = 128  # of one struct that are remembered


class Unfit(ValueError):
    """A list's elements cannot be told apart; ``Type.check`` says which and why."""


class Type:
    """A scalar, or a list or map that changes as a whole (atomic). The base of all others.

    ``expects`` is what a document's value must be: string, numeric, boolean, scalar, list, map, or "" for anything.
    """

    leaf = True

    def __init__(self, expects: str = "") -> None:
        self.expects = expects

    def whole(self, value: Any) -> FieldSet:
        return LEAF

    def stated(self, value: Any) -> FieldSet:
        return LEAF

    def element(self, value: Any) -> FieldSet:
        """What is stated by a list that has ``value`` as an element: the element itself, too."""
        stated = self.stated(value)
        return {SELF: LEAF, **stated} if stated else LEAF

    def compare(self, old: Any, new: Any) -> Changes:
        return NOTHING if old == new else CHANGED

    def merge(self, live: Any, doc: Any) -> Any:
        return doc

    def without(self, value: Any, fields: FieldSet) -> Any:
        return value

    def named(self, fields: FieldSet) -> FieldSet:
        """``fields`` and every struct field on the way to one of them."""
        return fields

    def settled(self, fields: FieldSet) -> FieldSet:
        """A set that was made along an older schema, as this type says it: what has become one thing is owned as one."""
        return LEAF

    def check(self, value: Any) -> Faults | None:
        """What of an applied document does not fit; None when all does, which has to be fast."""
        if value is None or _FITS[self.expects](value):
            return None
        return [
            ("", f"expected {_EXPECTED.get(self.expects, self.expects)}, got {go_value(self.expects, value)}")
        ]


def _as_said(kind: Type | None, there: Any, value: Any) -> bool:
    """Whether equal values are written alike: to Python ``1``, ``1.0`` and ``True`` are the same, in JSON they are not."""
    if type(there) is not type(value):
        return False
    if type(value) not in (dict, list) or (kind is not None and not kind.leaf):
        return True
    return orjson.dumps(there, option=orjson.OPT_SORT_KEYS) == orjson.dumps(
        value, option=orjson.OPT_SORT_KEYS
    )


def _scalar(value: Any) -> bool:
    return not isinstance(value, dict | list)


_FITS: dict[str, Callable[[Any], bool]] = {
    "": lambda value: True,
    "string": lambda value: isinstance(value, str),
    "numeric": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "boolean": lambda value: isinstance(value, bool),
    "scalar": _scalar,
    "list": lambda value: isinstance(value, list),
    "map": lambda value: isinstance(value, dict),
}
_EXPECTED = {"numeric": "numeric (int or float)"}
_GO_TYPES = {str: "string", bool: "bool", int: "int64", float: "float64"}


def go_value(expects: str, value: Any) -> str:
    """The value in the words of the Go original, which people look for."""
    if isinstance(value, dict | list):
        return "map[string]interface {}" if isinstance(value, dict) else "[]interface {}"
    if expects == "numeric":
        return _GO_TYPES[type(value)]
    shown = str(value).lower() if isinstance(value, bool) else value
    shown = f'"{shown}"' if isinstance(value, str) else shown
    return f"&value.valueUnstructured{{Value:{shown}}}"


@dataclass(slots=True)
class Field:
    """A struct's field. ``always``: Go's type writes it even when it is not given; ``tracked``: anybody can own it;
    ``silent``: its zero is never written (:mod:`bamikube.api.omitted`), so to say it of what is not there changes nothing."""

    step: str
    type: Type
    always: bool = False
    tracked: bool = True
    silent: bool = False


_ZEROS = ("", 0, False, None)


class Map(Type):
    """A map whose entries are all of one type; with ``fields``, a struct. ``rest`` is the type of other entries.

    With ``nulls`` an entry that is null is there (custom resources may have such); else it is the same as none.
    """

    leaf = False

    def __init__(
        self, rest: Type | None = None, fields: dict[str, Field] | None = None, *, nulls: bool = True
    ) -> None:
        super().__init__("map")
        self.rest = rest
        self.fields = fields or {}
        self.nulls = nulls
        self._said: dict[bytes, FieldSet] = {}  # by digest: what elements with many lists and structs state
        self._shapes: dict[tuple[str, ...], tuple[FieldSet, FieldSet, Asked]] = {}

    def field(self, name: str) -> Field | None:
        known = self.fields.get(name)
        if known is None and self.rest is not None:
            return Field(f"f:{name}", self.rest)
        return known

    def whole(self, value: Any) -> FieldSet:
        if not value or type(value) is not dict:
            return LEAF
        result: FieldSet = {SELF: LEAF}
        fields, rest = self.fields, self.rest
        for name, each in value.items():
            known = fields.get(name)
            if known is not None:
                if known.tracked:
                    kind = known.type
                    result[known.step] = LEAF if kind.leaf else kind.whole(each)
            elif rest is not None:
                result["f:" + name] = LEAF if rest.leaf else rest.whole(each)
        return result if len(result) > 1 else LEAF

    def stated(self, value: Any) -> FieldSet:
        if not value or type(value) is not dict:
            return LEAF
        if self.rest is None:
            said, _, asked = self._shape(value)
        else:
            said, asked = self._open(value)
        return _filled(said, asked, value) if asked else said

    def element(self, value: Any) -> FieldSet:
        if not value or type(value) is not dict or self.rest is not None:
            return super().element(value)
        _, element, asked = self._shape(value)
        if len(asked) < FEW:
            return _filled(element, asked, value) if asked else element
        # A container: what it states is settled by which fields it has, and by those that are lists and structs.
        mark = mark_of([tuple(value), *[value[name] for name, _, _ in asked]])
        known = self._said.get(mark)
        if known is None:
            known = _filled(element, asked, value)
            if mark:
                if len(self._said) >= SHAPES:
                    del self._said[next(iter(self._said))]
                self._said[mark] = known
        return known

    def _shape(self, value: dict[str, Any]) -> tuple[FieldSet, FieldSet, Asked]:
        """What a struct with these fields says, without what is below them, and who has to be asked about that.

        Most structs of a document have one of a few shapes (a variable: ``name, value``), so those are remembered.
        """
        shape = tuple(value)
        known = self._shapes.get(shape)
        if known is None:
            said, asked = self._open(value)
            known = (said, {SELF: LEAF, **said} if said else LEAF, asked)
            if len(self._shapes) >= SHAPES:
                self._shapes.clear()
            self._shapes[shape] = known
        return known

    def _open(self, value: dict[str, Any]) -> tuple[FieldSet, Asked]:
        """The same, made anew."""
        said: FieldSet = {}
        asked: Asked = []
        for name in value:
            known = self.fields.get(name)
            if known is None:
                if self.rest is None:
                    continue
                step, kind = "f:" + name, self.rest
            elif known.tracked:
                step, kind = known.step, known.type
            else:
                continue
            said[step] = LEAF
            if not kind.leaf:
                kind = kind.made if isinstance(kind, Deferred) else kind
                asked.append((name, step, kind.stated))
        return said, asked

    def compare(self, old: Any, new: Any) -> Changes:
        old, new = old or {}, new or {}
        if type(old) is not dict or type(new) is not dict:
            return NOTHING if old == new else CHANGED
        taken: FieldSet = {}
        removed: FieldSet = {}
        fields, rest = self.fields, self.rest
        for name, value in new.items():
            known = fields.get(name)
            if name in old:
                before = old[name]
                if before is value or before == value:
                    continue
            elif (value is None and not self.nulls) or (
                known is not None and known.silent and value in _ZEROS
            ):
                continue
            elif known is None or not known.always:
                if known is None:
                    if rest is not None:
                        taken["f:" + name] = LEAF if rest.leaf else rest.whole(value)
                elif known.tracked:
                    taken[known.step] = LEAF if known.type.leaf else known.type.whole(value)
                continue
            else:
                before = None
                if known.type.leaf and value in _ZEROS:
                    continue
            kind = known.type if known is not None else rest
            if kind is None or (known is not None and not known.tracked):
                continue
            more, less = kind.compare(before, value)
            step = "f:" + name
            if more is not None:
                taken[step] = more
            if less is not None:
                removed[step] = less
        for name, value in old.items():
            if name not in new:
                self._gone(name, value, taken, removed)
        return taken or None, removed or None

    def _gone(self, name: str, value: Any, taken: FieldSet, removed: FieldSet) -> None:
        known = self.field(name)
        if known is None or not known.tracked:
            return
        if not known.always:
            removed[known.step] = known.type.whole(value)
            return
        if known.type.leaf:
            if value not in _ZEROS:
                taken[known.step] = LEAF  # the field is still there: it is zero now
            return
        more, less = known.type.compare(value, None)
        if more is not None:
            taken[known.step] = more
        if less is not None:
            removed[known.step] = less

    def merge(self, live: Any, doc: Any) -> Any:
        if type(doc) is not dict or type(live) is not dict:
            return doc
        result: dict[str, Any] | None = None
        fields, rest = self.fields, self.rest
        for name, value in doc.items():
            there = live.get(name)
            known = fields.get(name)
            kind = known.type if known is not None else rest
            if there == value and (there is not None or name in live) and _as_said(kind, there, value):
                continue
            if there is None and known is not None and known.silent and value in _ZEROS:
                continue
            if value is not None and there is not None and kind is not None and not kind.leaf:
                value = kind.merge(there, value)
                if value is there:
                    continue
            if result is None:
                result = dict(live)
            result[name] = value
        return live if result is None else result

    def without(self, value: Any, fields: FieldSet) -> Any:
        if type(value) is not dict:
            return value
        result: dict[str, Any] = {}
        for name, each in value.items():
            node = fields.get("f:" + name)
            if node is None:
                result[name] = each
            elif not is_member(node):
                known = self.field(name)
                result[name] = known.type.without(each, node) if known is not None else each
        return result

    def named(self, fields: FieldSet) -> FieldSet:
        result: FieldSet = {}
        for step, node in fields.items():
            name = step[2:]
            known = self.field(name) if step != SELF else None
            if known is None:
                result[step] = node
                continue
            below = known.type.named(node)
            if below and SELF not in below and name in self.fields:
                below = {SELF: LEAF, **below}
            result[step] = below
        return result

    def settled(self, fields: FieldSet) -> FieldSet:
        result: FieldSet = {}
        for step, node in fields.items():
            known = self.field(step[2:]) if node else None
            result[step] = known.type.settled(node) if known is not None else node
        return result

    def check(self, value: Any) -> Faults | None:
        if value is None:
            return None
        if type(value) is not dict:
            return [("", f"expected map, got {go_value('map', value)}")]
        faults: Faults = []
        for name, each in value.items():
            known = self.fields.get(name)
            kind = known.type if known is not None else self.rest
            if kind is None:
                faults.append((f".{name}", "field not declared in schema"))
            elif found := kind.check(each):
                faults += [(f".{name}{path}", what) for path, what in found]
        return faults or None


class Deduced(Map):
    """Where there is no schema: a map is a map of more of the same, everything else is one thing."""

    def __init__(self) -> None:
        super().__init__()
        self.rest = self
        self.expects = ""

    def compare(self, old: Any, new: Any) -> Changes:
        if type(old) is dict and type(new) is dict and (old or new):
            return super().compare(old, new)
        if old == new:
            return NOTHING
        removed = self.whole(old) if type(old) is dict and old else None
        if removed is not None:
            removed = {step: node for step, node in removed.items() if step != SELF}
        return self.whole(new), removed

    def check(self, value: Any) -> Faults | None:
        return None


def _filled(said: FieldSet, asked: Asked, value: dict[str, Any]) -> FieldSet:
    result = said.copy()
    for name, step, ask in asked:
        result[step] = ask(value[name])
    return result


class Object(Map):
    """A whole object. Its metadata is no field of anybody's: what lies below is."""

    def whole(self, value: Any) -> FieldSet:
        return _without_metadata({step: node for step, node in super().whole(value).items() if step != SELF})

    def stated(self, value: Any) -> FieldSet:
        return _without_metadata(super().stated(value))


def _without_metadata(fields: FieldSet) -> FieldSet:
    node = fields.get("f:metadata")
    if node is None or not is_member(node):
        return fields
    below = {step: each for step, each in node.items() if step != SELF}
    rest = {step: each for step, each in fields.items() if step != "f:metadata"}
    return {**rest, "f:metadata": below} if below else rest


class Deferred(Type):
    """A type made when it is first needed: schemas refer to themselves, and most of them are never used."""

    leaf = False

    def __init__(self, make: Callable[[], Type]) -> None:
        super().__init__()
        self._make: Callable[[], Type] | None = make
        self._made: Type | None = None

    @property
    def made(self) -> Type:
        if self._made is None:
            assert self._make is not None
            made = self._made = self._make()
            self._make = None
            for name in _QUESTIONS:  # from now on they are asked without a detour
                setattr(self, name, getattr(made, name))
        return self._made

    def whole(self, value: Any) -> FieldSet:
        return self.made.whole(value)

    def stated(self, value: Any) -> FieldSet:
        return self.made.stated(value)

    def element(self, value: Any) -> FieldSet:
        return self.made.element(value)

    def compare(self, old: Any, new: Any) -> Changes:
        return self.made.compare(old, new)

    def merge(self, live: Any, doc: Any) -> Any:
        return self.made.merge(live, doc)

    def without(self, value: Any, fields: FieldSet) -> Any:
        return self.made.without(value, fields)

    def named(self, fields: FieldSet) -> FieldSet:
        return self.made.named(fields)

    def settled(self, fields: FieldSet) -> FieldSet:
        return self.made.settled(fields)

    def check(self, value: Any) -> Faults | None:
        return self.made.check(value)


_QUESTIONS = ("whole", "stated", "element", "compare", "merge", "without", "named", "settled", "check")
