"""Two trees side by side: does any path of the API cost more than it did? Run: ``python bench/compare.py [COMMIT]``.

COMMIT (by default the one that wrote down the first figures) is checked out into a directory of its own. Of each tree an
API server is started with an etcd of its own, as ``bench/api.py`` does, on this environment's packages; then
``bench/load.py`` drives one, the other, the other, the one, and so on. What is compared is the CPU time of the API server's
process for one request, the median over the rounds: on a machine that has other work to do rates say little, and what is
taken in turn suffers alike. GET needs ``wrk`` and is left out without it.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "services")]

import api  # noqa: E402
import report  # noqa: E402

FIRST = "51e4a27"  # the first figures, without managedFields and with half of admission
TESTS = ("create-cm", "list", "watch", "get")
LISTS = 15  # that load.py makes, of each kind
CHECKOUT_SECONDS = 60.0


@contextlib.contextmanager
def checked_out(commit: str) -> Iterator[Path]:
    """The tree of a commit, in a directory of its own."""
    git = ["git", "-C", str(report.PROJECT), "worktree"]
    with tempfile.TemporaryDirectory(prefix="bamikube-compare-") as folder:
        tree = Path(folder) / "tree"
        added = subprocess.run(
            [*git, "add", "--detach", "--force", str(tree), commit],
            capture_output=True,
            text=True,
            timeout=CHECKOUT_SECONDS,
        )
        if added.returncode:
            raise SystemExit(f"{commit} cannot be checked out: {added.stderr.strip()}")
        try:
            yield tree
        finally:
            remove = [*git, "remove", "--force", str(tree)]
            subprocess.run(remove, capture_output=True, timeout=CHECKOUT_SECONDS)


def cost(line: dict[str, Any]) -> tuple[str, float] | None:
    """What a result line of load.py is about, and the API server's CPU seconds for one of it; None: nothing of the kind."""
    cpu = line.get("cpu_s", {}).get("apiserver")
    if cpu is None:
        return None
    test = line["test"]
    if test == "get":
        return f"GET, {line['conns']} connections", cpu / (line["req_s"] * line["wall_s"])
    if test == "list-pods":
        kind = "from the cache" if line["query"] else "consistent"
        return f"LIST of {line['n']} pods, {kind}", cpu / LISTS
    if test == "watch-fanout":
        return f"WATCH, {line['updates']} updates to {line['watchers']} watchers, all", cpu
    names = {"create-cm": "CREATE of a configmap", "create-pod": "CREATE of a pod"}
    if test in names:
        return names[test], cpu / line["n"]
    return ("deletecollection, one of it", cpu / line["n"]) if test.startswith("deletecollection") else None


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("commit", nargs="?", default=FIRST, help=f"what to compare with (default {FIRST})")
    parser.add_argument("--tests", nargs="*", default=TESTS, help=f"which of {', '.join(TESTS)}")
    parser.add_argument("--rounds", type=int, default=6, help="times each tree is driven (default 6)")
    args = parser.parse_args()
    tests = [test for test in args.tests if test != "get" or shutil.which("wrk")]
    print(report.machine())
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: {"then": [], "now": []})
    with checked_out(args.commit) as tree, contextlib.ExitStack() as running:
        clusters = {
            name: running.enter_context(api.private_cluster(services=services))
            for name, services in (("then", tree / "services"), ("now", report.SERVICES))
        }
        for number in range(args.rounds + 1):
            for name in list(clusters) if number % 2 else reversed(clusters):
                for line in api.drive(clusters[name], tests, "--secs=2"):
                    about = cost(line)
                    if about is not None and number:  # the first round warms both up
                        found[about[0]][name].append(about[1])
    rows = []
    for name, each in found.items():
        then, now = report.median(each["then"]), report.median(each["now"])
        rows.append((name, f"{then * 1e6:.0f}", f"{now * 1e6:.0f}", f"{now / then:.2f}" if then else "-"))
    report.show(
        f"CPU of the API server, microseconds each, medians of {args.rounds} rounds in turn",
        ("", args.commit, "this tree", "ratio"),
        rows,
    )


if __name__ == "__main__":
    main()
