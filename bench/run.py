"""All benchmarks, one after the other: ``make bench``. Each is a script of its own and can be run alone.

Those that need a lab (pods, probes, footprint) use the one that runs; if none does, ``up.py`` starts and measures one, which is
stopped at the end. Without root, or where a script fails, the others still run, and the exit status says so.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE)]

import lab  # noqa: E402
import report  # noqa: E402

# Seconds a script may take; several times what each takes on two cores.
ALONE = {
    "lines": 60,
    "apply": 120,
    "proxy": 300,
    "dns": 60,
    "node": 600,
    "node_on_api": 600,
    "scheduler": 600,
    "api": 1200,
}
ON_THE_LAB = {"footprint": 120, "pods": 900, "probes": 900}
UP = 900


def run(name: str, seconds: float, *flags: str) -> bool:
    """Run one script; says what happened when it did not end well."""
    script = HERE / f"{name}.py"
    if not script.is_file():
        return True
    print(f"\n== bench/{name}.py {' '.join(flags)}".rstrip(), flush=True)
    try:
        done = subprocess.run([sys.executable, str(script), *flags], timeout=seconds, env=lab.environment())
    except subprocess.TimeoutExpired:
        print(f"bench/{name}.py took longer than {seconds:.0f} s and was stopped")
        return False
    return done.returncode == 0


def main() -> int:
    fine = [run(name, seconds) for name, seconds in ALONE.items()]
    started = not lab.running(lab.status())
    if started:
        fine.append(run("up", UP, "--keep"))
    else:
        print("\n== bench/up.py is left out: a lab runs")
    try:
        fine += [run(name, seconds) for name, seconds in ON_THE_LAB.items()]
    finally:
        if started:
            lab.bamikube("down", folder=report.PROJECT / ".lab")
    return 0 if all(fine) else 1


if __name__ == "__main__":
    sys.exit(main())
