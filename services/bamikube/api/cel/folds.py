"""Comprehensions: ``all`` and ``exists`` as quantifiers, every other macro as a fold over its accumulator.

Both take the names of their variables from the frame for as long as they run and give outer variables of the same name back.
An error inside ``all`` or ``exists`` counts only when no other element decides. In a fold it is the accumulator's value
(:class:`Failed`) until something looks at it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bamikube.api.cel.frames import MISSING, Eval, Frame
from bamikube.api.cel.priced import Growing
from bamikube.api.cel.tree import Call, Comprehension, Const, Ident
from bamikube.api.cel.types import BudgetExceeded, CelError, NoOverload


class Failed:
    """An error held by an accumulator."""

    __slots__ = ("error",)

    def __init__(self, error: CelError) -> None:
        self.error = error


@dataclass(frozen=True)
class Parts:
    """What a fold is made of, compiled. ``grows``: it starts from an empty list and gathers in it."""

    source: Eval
    init: Eval
    condition: Eval
    step: Eval
    result: Eval
    grows: bool


def quantifier(node: Comprehension) -> bool | None:
    """The value that decides ``all`` (False) or ``exists`` (True); None for any other fold."""
    step, init, result = node.step, node.init, node.result
    if not (isinstance(step, Call) and isinstance(init, Const) and isinstance(result, Ident)):
        return None
    first = step.args[0] if step.args else None
    if not (isinstance(first, Ident) and first.name == result.name == node.accu):
        return None
    if (step.function, init.value) == ("_&&_", True):
        return False
    return True if (step.function, init.value) == ("_||_", False) else None


def quantify(node: Comprehension, source: Eval, predicate: Eval, decides: bool) -> Eval:
    """``all`` and ``exists`` without the accumulator: the same outcome and cost in half the time."""
    var, var2, other = node.var, node.var2, not decides

    def run(frame: Frame) -> bool:
        items = source(frame)
        names = frame.vars
        saved = [(name, names.get(name, MISSING)) for name in (var, var2) if name]
        failed: CelError | None = None
        try:
            for key, value in _pairs(items, bool(var2)):
                names[var] = key
                if var2:
                    names[var2] = value
                try:
                    found = predicate(frame)
                except CelError as error:
                    failed = failed or error
                else:
                    if found is decides:
                        return decides
                    if found is not other:
                        failed = failed or NoOverload()
                if frame.cost > frame.limit:
                    raise BudgetExceeded
        finally:
            _restore(names, saved)
        if failed is not None:
            raise failed
        return other

    return run


def fold(node: Comprehension, parts: Parts) -> Eval:
    """Any other comprehension."""
    source, init, result = parts.source, parts.init, parts.result
    condition, step = parts.condition, parts.step  # called for every element
    var, var2, accu, grows = node.var, node.var2, node.accu, parts.grows

    def run(frame: Frame) -> Any:
        items = source(frame)
        names = frame.vars
        saved = [(name, names.get(name, MISSING)) for name in (accu, var, var2) if name]
        start = init(frame)
        names[accu] = Growing() if grows else start
        try:
            for key, value in _pairs(items, bool(var2)):
                names[var] = key
                if var2:
                    names[var2] = value
                if condition(frame) is not True:
                    break
                try:
                    names[accu] = step(frame)
                except CelError as error:
                    names[accu] = Failed(error)
                if frame.cost > frame.limit:
                    raise BudgetExceeded
            done = result(frame)
            return list(done) if type(done) is Growing else done
        finally:
            _restore(names, saved)

    return run


def _restore(names: dict[str, Any], saved: list[tuple[str, Any]]) -> None:
    """Give outer variables back the names that a fold took."""
    for name, before in saved:
        if before is MISSING:
            names.pop(name, None)
        else:
            names[name] = before


def _pairs(items: Any, two: bool) -> Any:
    """What a fold walks over: elements or keys, in the first place of a pair."""
    if isinstance(items, list):
        return enumerate(items) if two else ((item, None) for item in items)
    if isinstance(items, dict):
        return list(items.items()) if two else [(key, None) for key in items]
    raise NoOverload()
