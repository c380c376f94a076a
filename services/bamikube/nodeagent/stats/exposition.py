"""Prometheus' text format, for figures that are read when they are asked for and kept nowhere."""

from __future__ import annotations

import math
from collections.abc import Mapping

from bamikube.kit.tallies import Series

_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


class Labels:
    """Labels of a sample, in the order of their names. The text is made once for all samples that share them."""

    __slots__ = ("_values", "text")

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = values
        pairs = (f'{key}="{values[key].translate(_ESCAPES)}"' for key in sorted(values))
        self.text = f"{{{','.join(pairs)}}}" if values else ""

    def __getitem__(self, name: str) -> str:
        return self._values[name]

    def and_(self, **more: str) -> Labels:
        return Labels({**self._values, **more})


class Exposition:
    """Families in the order of their names, each with its help and type; families without samples are left out."""

    def __init__(self) -> None:
        self._families: dict[str, tuple[str, str, list[str]]] = {}

    def add(
        self,
        name: str,
        kind: str,
        text: str,
        labels: Labels | Mapping[str, str],
        value: float,
        at: float | None = None,
    ) -> None:
        """One sample; ``at`` (seconds since the epoch) becomes its time stamp."""
        family = self._families.get(name)
        if family is None:
            family = self._families[name] = (kind, text, [])
        inner = labels.text if isinstance(labels, Labels) else Labels(labels).text
        stamp = "" if at is None else f" {int(at * 1000)}"
        family[2].append(f"{name}{inner} {_number(value)}{stamp}")

    def histogram(self, name: str, text: str, labels: Mapping[str, str], series: Series) -> None:
        """All samples of one histogram."""
        samples = self._families.setdefault(name, ("histogram", text, []))[2]
        reached = 0
        for bound, count in zip((*series.bounds, math.inf), series.counts, strict=True):
            reached += count
            samples.append(f"{name}_bucket{Labels({**labels, 'le': _number(bound)}).text} {reached}")
        inner = Labels(labels).text
        samples += [f"{name}_sum{inner} {_number(series.total)}", f"{name}_count{inner} {reached}"]

    def text(self) -> bytes:
        lines: list[str] = []
        for name in sorted(self._families):
            kind, text, samples = self._families[name]
            lines += [f"# HELP {name} {text}", f"# TYPE {name} {kind}", *samples]
        return "".join(f"{line}\n" for line in lines).encode()


def _number(value: float) -> str:
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"
    return str(int(value)) if value == int(value) else repr(value)
