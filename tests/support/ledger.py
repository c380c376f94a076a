"""What an API has acknowledged, kept beside it, to be compared with what it holds after everything has failed.

A write that is answered is certain. One that is not (the connection broke, the server said it could not) may have been
done or not, and both must be accepted; its name is left alone from then on, so that every name has at most one doubt::

    create a=1: answered           a must be 1
    update a=2: connection reset   a may be 1 or 2
    create b=1: 503                b may be 1 or not there
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

import urllib3
from kubernetes.client.exceptions import ApiException

Value = str | None  # None: the object is not there


class Ledger:
    """Names and the values they may have. Safe to use from several threads, each with names of its own."""

    def __init__(self) -> None:
        self._possible: dict[str, set[Value]] = {}
        self._lock = threading.Lock()
        self.answered = self.unanswered = 0
        self.refused: list[str] = []  # answers that nothing excuses

    def write(self, name: str, value: Value, request: Callable[[], object]) -> bool:
        """Make ``request``, which gives ``name`` that value. Returns whether it was acknowledged."""
        with self._lock:
            possible = self._possible.setdefault(name, {None})
            assert len(possible) == 1, f"{name} is in doubt and must be left alone"
            possible.add(value)
        try:
            request()
        except (ApiException, urllib3.exceptions.HTTPError, OSError) as error:
            code = error.status if isinstance(error, ApiException) else 0
            with self._lock:
                self.unanswered += 1
                if code and 400 <= code < 500 and code != 429:
                    self.refused.append(f"{name}={value}: {code} {getattr(error, 'body', '')}")
            return False
        with self._lock:
            self.answered += 1
            self._possible[name] = {value}
        return True

    def certain(self, *, there: bool = True) -> list[str]:
        """Names that must be there, or must not be."""
        with self._lock:
            found = [
                (name, next(iter(values))) for name, values in self._possible.items() if len(values) == 1
            ]
        return sorted(name for name, value in found if (value is not None) == there)

    def complaints(self, held: Mapping[str, str]) -> list[str]:
        """What does not agree with ``held``, the names and values that the API has now."""
        with self._lock:
            wrong = [
                f"{name} is {held.get(name)!r} and not one of {sorted(map(str, values))}"
                for name, values in sorted(self._possible.items())
                if held.get(name) not in values
            ]
            unknown = [f"{name} was never written" for name in sorted(set(held) - set(self._possible))]
        return wrong + unknown + self.refused
