"""Evaluating the expressions of one policy about one request.

``variables`` are worked out when an expression first looks at them, once for each set of parameters; what they cost is
charged to the expression that looked. All expressions of a binding share a budget.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bamikube.api.cel.environment import Program
from bamikube.api.cel.frames import Frame, Lazy
from bamikube.api.cel.policies import BUDGET, Compiled
from bamikube.api.cel.types import BudgetExceeded, CelError
from bamikube.apiserver.admission.expressions import PER_CALL

OUT_OF_BUDGET = "validation failed due to running out of cost budget, no further validation rules will be run"


class Variables(Lazy):
    """``variables``."""

    __slots__ = ("_known", "_programs", "_scene")

    def __init__(self, compiled: Compiled, scene: dict[str, Any]) -> None:
        self._programs = {each.name: each.program for each in compiled.variables}
        self._known: dict[str, Any] = {}
        self._scene = scene

    def has(self, name: str) -> bool:
        return name in self._programs

    def field(self, frame: Frame, name: str) -> Any:
        if name not in self._known:
            program = self._programs.get(name)
            if program is None:
                raise CelError(f"no such key: {name}")
            inner = Frame(dict(self._scene), frame.limit - frame.cost)
            try:
                self._known[name] = program.evaluate(inner)
            except CelError as error:
                self._known[name] = CelError(f'composited variable "{name}" fails to evaluate: {error}')
            finally:
                frame.cost += inner.cost
        value = self._known[name]
        if type(value) is CelError:
            raise value
        return value


class Evaluation:
    """The expressions of one binding with one set of parameters."""

    def __init__(
        self, compiled: Compiled, scene: Mapping[str, Any], params: Any, *, has_params: bool
    ) -> None:
        self.scene = dict(scene)
        if has_params:
            self.scene["params"] = params
        self.scene["variables"] = Variables(compiled, self.scene)
        self._budget = BUDGET

    def run(self, program: Program) -> Any:
        """Raises CelError, and BudgetExceeded when the binding's budget is used up or the call is too dear."""
        frame = Frame(dict(self.scene), min(PER_CALL, self._budget))
        try:
            value = program.evaluate(frame)
        finally:
            self._budget -= frame.cost
        if frame.cost > frame.limit:
            raise BudgetExceeded
        return value
