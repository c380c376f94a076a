"""What all benchmarks share: medians over runs, short tables, and a line about the machine they ran on."""

from __future__ import annotations

import math
import os
import platform
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
SERVICES = PROJECT / "services"


def percentile(values: Iterable[float], percent: float) -> float:
    """The smallest value that ``percent`` of all values do not pass (nearest rank). NaN of nothing."""
    ordered = sorted(values)
    if not ordered:
        return math.nan
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def median(values: Iterable[float]) -> float:
    """The median; NaN of nothing."""
    found = list(values)
    return statistics.median(found) if found else math.nan


def milliseconds(seconds: float) -> str:
    """A duration for a table, in milliseconds with three telling digits."""
    value = seconds * 1000
    return "-" if math.isnan(value) else f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def rate(value: float) -> str:
    """Things a second for a table."""
    return "-" if math.isnan(value) else f"{value:,.0f}".replace(",", " ")


def table(title: str, header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A title and columns: the first to the left, the others to the right."""
    cells = [list(header), *([str(cell) for cell in row] for row in rows)]
    widths = [max(len(row[index]) for row in cells) for index in range(len(header))]
    lines = [title]
    for row in cells:
        first, *others = (
            cell.ljust(width) if index == 0 else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        lines.append(("  " + "  ".join([first, *others])).rstrip())
    return "\n".join(lines)


def show(title: str, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table, at once."""
    print(table(title, header, rows), flush=True)


def machine() -> str:
    """Cores, processor, kernel, Python, and how busy the machine was in the last minute."""
    model = platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{os.cpu_count()} cores ({model}), {memory:.0f} GiB, Linux {platform.release()}, "
        f"Python {platform.python_version()}, load average {os.getloadavg()[0]:.2f}"
    )


def process(*words: str) -> int:
    """The machine's process with this command line. SystemExit when there is none."""
    line = "\0".join((*words, "")).encode()
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and (entry / "cmdline").read_bytes() == line:
                return int(entry.name)
        except OSError:
            continue
    raise SystemExit(f"no process runs {' '.join(words)}")
