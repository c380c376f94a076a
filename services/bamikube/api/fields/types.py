"""Objects as server-side apply sees them: nested types that compare, merge, take away, and list fields.

A type is compiled once from a schema (:mod:`bamikube.api.fields.compile`) and then asked five things about values:

``whole(value)``      the set of a value that appeared (or vanished) as a whole, every container included;
``stated(value)``     the set of what an applied document says: leaves and list elements, no plain containers;
``compare(old, new)`` what was added or changed, and what was removed, as two sets (None for an empty one);
``merge(live, doc)``  ``live`` with everything ``doc`` says;
``without(value, s)`` ``value`` without the paths in ``s`` and all that lies below them.

Worked example, the labels ``{"app": "web"}`` where there were none: ``whole`` gives ``{".": {}, "f:app": {}}`` (the map is
new, too), ``stated`` gives ``{"f:app": {}}``.

A field that Go's types always write (a struct that is no pointer, a field without ``omitempty``) counts as present with
its zero value, in a new object too: whoever creates a Deployment owns ``.spec.replicas``, but not ``.spec``.

Values are never changed; results share parts with them. Source: structured-merge-diff (the ideas), KEP-555.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from bamikube.api.fields import elements
from bamikube.api.fields.sets import LEAF, SELF, FieldSet, is_member, union
from bamikube.api.memory import LONGEST

Changes = tuple["FieldSet | None", "FieldSet | None"]
Faults = list[tuple[str, str]]  # the path of what is wrong, as messages show it, and what

NOTHING: Changes = (None, None)
CHANGED: Changes = (LEAF, None)


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
        return [("", f"expected {_EXPECTED.get(self.expects, self.expects)}, got {_go(self.expects, value)}")]


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


def _go(expects: str, value: Any) -> str:
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
    """A struct's field. ``always``: Go's type writes it even when it is not given; ``tracked``: anybody can own it."""

    step: str
    type: Type
    always: bool = False
    tracked: bool = True


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
        result: FieldSet = {}
        fields, rest = self.fields, self.rest
        for name, each in value.items():
            known = fields.get(name)
            if known is not None:
                if known.tracked:
                    result[known.step] = LEAF if known.type.leaf else known.type.stated(each)
            elif rest is not None:
                result["f:" + name] = LEAF if rest.leaf else rest.stated(each)
        return result

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
            elif value is None and not self.nulls:
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
        result = dict(live)
        for name, value in doc.items():
            known = self.fields.get(name)
            kind = known.type if known is not None else self.rest
            there = live.get(name)
            if value is None or there is None or kind is None or kind.leaf:
                result[name] = value
            elif there != value:
                result[name] = kind.merge(there, value)
        return result

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
            return [("", f"expected map, got {_go('map', value)}")]
        faults: Faults = []
        for name, each in value.items():
            known = self.fields.get(name)
            kind = known.type if known is not None else self.rest
            if kind is None:
                faults.append((f".{name}", "field not declared in schema"))
            elif found := kind.check(each):
                faults += [(f".{name}{path}", what) for path, what in found]
        return faults or None


class Elements(Type):
    """A list whose elements are known by something of their own. ``step_of`` is what subclasses say."""

    leaf = False

    def __init__(self, items: Type) -> None:
        super().__init__("list")
        self.items = items

    def step_of(self, item: Any) -> str | None:
        """The step to an element; None when it has nothing to be known by."""
        raise TypeError("a list's elements need an identity")

    def _by_step(self, value: Any) -> dict[str, Any] | None:
        """Elements by step; None when some have no identity or share one (then the list is one thing)."""
        found: dict[str, Any] = {}
        for item in value:
            step = self.step_of(item)
            if step is None or step in found:
                return None
            found[step] = item
        return found

    def _element(self, item: Any) -> FieldSet:
        """What a document says that has this element."""
        stated = self.items.stated(item)
        if not stated:
            return LEAF
        stated[SELF] = LEAF  # the set is new, and ours
        return stated

    def whole(self, value: Any) -> FieldSet:
        if not value or type(value) is not list:
            return LEAF
        result: FieldSet = {SELF: LEAF}
        for item in value:
            step = self.step_of(item)
            if step is not None:
                more = self.items.whole(item)
                result[step] = union(result[step], more) if step in result else more
        return result if len(result) > 1 else LEAF

    def compare(self, old: Any, new: Any) -> Changes:
        old, new = old or [], new or []
        if type(old) is not list or type(new) is not list:
            return NOTHING if old == new else CHANGED  # not what the schema wants: others will say so
        before, after = self._by_step(old), self._by_step(new)
        if before is None or after is None:
            return self._compare_repeated(old, new)
        taken: FieldSet = {}
        removed: FieldSet = {}
        for step, item in after.items():
            if step not in before:
                taken[step] = self.items.whole(item)
                continue
            known = before[step]
            if known != item:
                more, less = self.items.compare(known, item)
                if more is not None:
                    taken[step] = more
                if less is not None:
                    removed[step] = less
        for step, item in before.items():
            if step not in after:
                removed[step] = self.items.whole(item)
        return taken or None, removed or None

    def _compare_repeated(self, old: list[Any], new: list[Any]) -> Changes:
        """Identities that are used twice: the elements that share one stand and fall together."""
        before, after = self._grouped(old), self._grouped(new)
        taken: FieldSet = {}
        removed: FieldSet = {}
        for step, group in after.items():
            known = before.get(step)
            if known is None:
                taken[step] = self.whole(group)[step]
            elif known != group:
                taken[step] = LEAF
        for step, group in before.items():
            if step not in after:
                removed[step] = self.whole(group)[step]
        return taken or None, removed or None

    def _grouped(self, value: list[Any]) -> dict[str, list[Any]]:
        groups: dict[str, list[Any]] = {}
        for item in value:
            step = self.step_of(item)
            if step is not None:
                groups.setdefault(step, []).append(item)
        return groups

    def stated(self, value: Any) -> FieldSet:
        """Raises :class:`Unfit` when elements cannot be told apart."""
        if not value or type(value) is not list:
            return LEAF
        found: FieldSet = {}
        for item in value:
            step = self.step_of(item)
            if step is None or step in found:
                raise Unfit
            found[step] = self._element(item)
        return found

    def merge(self, live: Any, doc: Any) -> Any:
        if type(doc) is not list or type(live) is not list or not live:
            return doc
        ours = [(self.step_of(item) or "", item) for item in doc]
        theirs = [(self.step_of(item) or "", item) for item in live]
        there = dict(theirs)
        if len(there) < len(theirs):  # elements that cannot be told apart are replaced together
            once = {step for step in there if sum(step == other for other, _ in theirs) == 1}
            there = {step: item for step, item in theirs if step in once}
        said = dict(ours)
        return [
            self.items.merge(there[step], said[step])
            if step in said and step in there and there[step] != said[step]
            else item
            for step, item in interleave(theirs, ours)
        ]

    def without(self, value: Any, fields: FieldSet) -> Any:
        if type(value) is not list:
            return value
        result: list[Any] = []
        for item in value:
            node = fields.get(self.step_of(item) or "")
            if node is None:
                result.append(item)
            elif not is_member(node):
                result.append(self.items.without(item, node))
        return result

    def named(self, fields: FieldSet) -> FieldSet:
        result: FieldSet = {}
        for step, node in fields.items():
            below = self.items.named(node) if node and step != SELF else node
            result[step] = below
        return result

    def settled(self, fields: FieldSet) -> FieldSet:
        return {step: self.items.settled(node) if node else node for step, node in fields.items()}

    def check(self, value: Any) -> Faults | None:
        if value is None:
            return None
        if type(value) is not list:
            return [("", f"expected list, got {_go('list', value)}")]
        faults: Faults = []
        seen: set[str] = set()
        for index, item in enumerate(value):
            step = self.step_of(item)
            if step is None:
                faults.append(("", f"element {index}: {self.faceless(item)}"))
                continue
            if step in seen:
                faults.append(("", f"duplicate entries for key {elements.text([step])}"))
            seen.add(step)
            if found := self.items.check(item):
                at = elements.text([step])
                faults += [(f"{at}{path}", what) for path, what in found]
        return faults or None

    def faceless(self, item: Any) -> str:
        """Why an element has no identity."""
        return "this element cannot be told from others"


class ListMap(Elements):
    """A list of objects known by one or several keys. A key that is left out has its default, if it has one."""

    def __init__(self, items: Type, keys: Iterable[str], defaults: dict[str, Any]) -> None:
        super().__init__(items)
        self.keys = tuple(sorted(keys))
        self.defaults = defaults

    def step_of(self, item: Any) -> str | None:
        if type(item) is not dict:
            return None
        keys = self.keys
        if len(keys) == 1:
            value = item.get(keys[0])
            if type(value) is str:
                return (
                    elements.by_text_key(keys[0], value)
                    if len(value) <= LONGEST
                    else elements.by_keys({keys[0]: value})
                )
        pairs: dict[str, Any] = {}
        for key in keys:
            value = item.get(key)
            if value is None:
                value = self.defaults.get(key)
            if value is not None:
                pairs[key] = value
        return elements.by_keys(pairs) if pairs else None

    def faceless(self, item: Any) -> str:
        if type(item) is not dict:
            return "associative list with keys may not have non-map elements"
        if len(self.keys) == 1:
            return f'associative list with keys has an element that omits key field "{self.keys[0]}" (and doesn\'t have default value)'
        names = " ".join(f'"{key}"' for key in self.keys)
        return (
            f"associative list with keys has an element that omits all key fields [{names}] "
            "(and doesn't have default values for any key fields)"
        )


class ListSet(Elements):
    """A list of plain values, each at most once."""

    def step_of(self, item: Any) -> str | None:
        return None if isinstance(item, dict | list) or item is None else elements.by_value(item)

    def faceless(self, item: Any) -> str:
        return "associative list without keys has an element that's an explicit null or no scalar"


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


_QUESTIONS = ("whole", "stated", "compare", "merge", "without", "named", "settled", "check")


def interleave(live: list[tuple[str, Any]], doc: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
    """The elements of two lists, each once: those of ``doc`` in its order, others where they stood before those.

    Worked example: live ``a x b``, document ``b a c``: ``x b a c``.
    """
    wanted = {step for step, _ in doc}
    there = {step for step, _ in live}
    shared = [step for step, _ in doc if step in there]
    done: set[str] = set()
    result: list[tuple[str, Any]] = []
    left = right = following = 0
    while left < len(live) or right < len(doc):
        awaited = shared[following] if following < len(shared) else None
        if left < len(live) and right < len(doc):
            step = live[left][0]
            if step == doc[right][0]:
                result.append(doc[right])
                done.add(step)
                following += step == awaited
                left, right = left + 1, right + 1
                continue
            if step in wanted and step != awaited:
                left += 1
                continue
        if left < len(live) and (live[left][0] not in wanted or live[left][0] in done):
            if live[left][0] not in wanted:
                result.append(live[left])
            left += 1
            continue
        if right < len(doc):
            step = doc[right][0]
            result.append(doc[right])
            done.add(step)
            following += step == awaited
            right += 1
        else:
            left += 1
    return result
