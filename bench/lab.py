"""The lab as the benchmarks see it: is one running, where is its kubeconfig, which processes are its units."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import report

NONE = "no lab runs: start one with 'make up', or run bench/up.py, which starts and stops its own"


def bamikube(
    *words: str, folder: Path | None = None, timeout: float = 300
) -> subprocess.CompletedProcess[str]:
    """The ``bamikube`` command of this tree; its output is captured."""
    return subprocess.run(
        command(*words, folder=folder), capture_output=True, text=True, timeout=timeout, env=environment()
    )


def command(*words: str, folder: Path | None = None) -> list[str]:
    """The command line of ``bamikube WORDS``."""
    where = ["--lab-dir", str(folder)] if folder else []
    return [sys.executable, "-m", "bamikube.lab.main", *where, *words]


def environment() -> dict[str, str]:
    """The environment in which ``command`` finds this tree."""
    return {**os.environ, "PYTHONPATH": str(report.SERVICES)}


def status(folder: Path | None = None) -> dict[str, Any]:
    """``bamikube status -o json``: of ``folder``, or of the lab this machine runs."""
    done = bamikube("status", "-o", "json", folder=folder)
    if not done.stdout.lstrip().startswith("{"):
        raise SystemExit(f"bamikube status: {done.stdout}{done.stderr}")
    return dict(json.loads(done.stdout))


def running(found: dict[str, Any]) -> bool:
    """Whether any node of a ``status`` runs."""
    return any(node["pid"] for node in found["nodes"])
