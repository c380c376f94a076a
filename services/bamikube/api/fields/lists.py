"""Lists whose elements somebody may own one by one, because something tells them apart: a key, or what they are.

Worked example: the ports of a container are known by ``containerPort`` and ``protocol``; a document that states port 80
owns ``k:{"containerPort":80,"protocol":"TCP"}`` and no other element, whatever the order in which they stand.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterable
from typing import Any

from bamikube.api.fields import elements
from bamikube.api.fields.sets import LEAF, SELF, FieldSet, is_member, union
from bamikube.api.fields.types import CHANGED, NOTHING, Changes, Faults, Type, Unfit, go_value
from bamikube.api.memory import FEW, LONGEST, mark_of

REMEMBERED = 128  # lists of one type


class Elements(Type):
    """A list whose elements are known by something of their own. ``step_of`` is what subclasses say."""

    leaf = False

    def __init__(self, items: Type) -> None:
        super().__init__("list")
        self.items = items
        self._said: dict[bytes, FieldSet] = {}  # by the digest of a list: what it states

    def step_of(self, item: Any) -> str | None:
        """The step to an element; None when it has nothing to be known by."""
        raise TypeError("a list's elements need an identity")

    def steps(self, value: list[Any]) -> list[str | None]:
        """The step to each element."""
        return [self.step_of(item) for item in value]

    def _by_step(self, value: Any) -> dict[str, Any] | None:
        """Elements by step; None when some have no identity or share one (then the list is one thing)."""
        found = dict(zip(self.steps(value), value, strict=True))
        return None if None in found or len(found) < len(value) else found  # type: ignore[return-value]

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
        """Raises :class:`Unfit` when elements cannot be told apart.

        A new version of a document differs from the last one in a place or two; its long lists (variables, mounts) state
        what they stated before. Sets are never changed, so the same one is handed out again.
        """
        if not value or type(value) is not list:
            return LEAF
        mark = mark_of(value) if len(value) >= FEW else b""
        known = self._said.get(mark)
        if known is None:
            known = self._stated(value)
            if mark:
                if len(self._said) >= REMEMBERED:
                    del self._said[next(iter(self._said))]
                self._said[mark] = known
        return known

    def _stated(self, value: list[Any]) -> FieldSet:
        found = dict(zip(self.steps(value), map(self.items.element, value), strict=True))
        if None in found or len(found) < len(value):
            raise Unfit
        return found  # type: ignore[return-value]

    def merge(self, live: Any, doc: Any) -> Any:
        if type(doc) is not list or type(live) is not list or not live:
            return doc
        said, there = self.steps(doc), self.steps(live)
        if said == there and None not in said and len(set(said)) == len(said):
            return self._merge_pairs(live, doc)
        return self._merge_mixed(live, [step or "" for step in there], doc, [step or "" for step in said])

    def _merge_pairs(self, live: list[Any], doc: list[Any]) -> list[Any]:
        """Two lists of the same elements in the same order."""
        result: list[Any] | None = None
        merge = self.items.merge
        for index, (one, other) in enumerate(zip(live, doc, strict=True)):
            if one != other:
                merged = merge(one, other)
                if merged is not one:
                    result = list(live) if result is None else result
                    result[index] = merged
        return live if result is None else result

    def _merge_mixed(
        self, live: list[Any], live_steps: list[str], doc: list[Any], doc_steps: list[str]
    ) -> list[Any]:
        ours = list(zip(doc_steps, doc, strict=True))
        theirs = list(zip(live_steps, live, strict=True))
        there = dict(theirs)
        if len(there) < len(theirs):  # elements that cannot be told apart are replaced together
            once = {step for step in there if live_steps.count(step) == 1}
            there = {step: item for step, item in theirs if step in once}
        said = dict(ours)
        result = [
            _merged(self.items, there[step], said[step]) if step in said and step in there else item
            for step, item in interleave(theirs, ours)
        ]
        if len(result) == len(live) and all(map(operator.is_, result, live)):
            return live
        return result

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
            return [("", f"expected list, got {go_value('list', value)}")]
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
        self._known = functools.lru_cache(maxsize=1024)(self._named)

    def step_of(self, item: Any) -> str | None:
        if type(item) is not dict:
            return None
        values = tuple([item.get(key) for key in self.keys])
        for value in values:
            kind = type(value)
            if kind is not int and value is not None and (kind is not str or len(value) > LONGEST):
                return self._named(values)  # another value may be equal to it: it is not to be remembered
        return self._known(values)

    def _named(self, values: tuple[Any, ...]) -> str | None:
        """The step to an element that has these values of the keys, None for what it leaves out."""
        pairs: dict[str, Any] = {}
        for key, value in zip(self.keys, values, strict=True):
            value = self.defaults.get(key) if value is None else value
            if value is not None:
                pairs[key] = value
        return elements.by_keys(pairs) if pairs else None

    def steps(self, value: list[Any]) -> list[str | None]:
        if len(self.keys) > 1:
            return [self.step_of(item) for item in value]
        key, by_text = self.keys[0], elements.by_text_key
        return [
            by_text(key, name)
            if type(item) is dict and type(name := item.get(key)) is str and len(name) <= LONGEST
            else self.step_of(item)
            for item in value
        ]

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


def _merged(kind: Type, live: Any, doc: Any) -> Any:
    return live if live == doc else kind.merge(live, doc)


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
