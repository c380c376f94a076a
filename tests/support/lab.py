"""The lab as tests see it: the ``bamikube`` command, and fixtures that start a lab once a session if it does not run.

The tests never stop a lab; ``make test``, ``make e2e`` and ``make soak`` do so at the end, and a lab that ran before is
used as it is. A ``conftest.py`` takes the fixtures it needs by importing them.

Environment: ``BAMIKUBE_KUBECTL`` names the kubectl to use; ``BAMIKUBE_LAB_DIR`` where the lab's state is.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.kubectl import Kubectl, until

PROJECT = Path(__file__).resolve().parents[2]


class Bamikube:
    """The ``bamikube`` command of this tree."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(
        self, *words: str, check: bool = True, timeout: float = 240
    ) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "bamikube.lab.main", "--lab-dir", str(self.folder), *words]
        environment = {**os.environ, "PYTHONPATH": str(PROJECT / "services")}
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            env=environment,
            cwd=PROJECT,
        )
        if check and done.returncode != 0:
            raise AssertionError(
                f"bamikube {' '.join(words)} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
            )
        return done

    def status(self) -> dict[str, Any]:
        """``bamikube status -o json``, whatever the lab's health."""
        return dict(json.loads(self("status", "-o", "json", check=False).stdout))

    def node(self, name: str) -> dict[str, Any]:
        return next(node for node in self.status()["nodes"] if node["name"] == name)

    def unit_pid(self, node: str, unit: str) -> int:
        """The machine's pid of a unit; 0 while it is not running."""
        return int(self.node(node)["units"][unit]["pid"])


@pytest.fixture(scope="session")
def bamikube() -> Bamikube:
    return Bamikube(Path(os.environ.get("BAMIKUBE_LAB_DIR", PROJECT / ".lab")).absolute())


@pytest.fixture(scope="session")
def lab(bamikube: Bamikube) -> Iterator[Bamikube]:
    """A running lab with all nodes Ready."""
    if os.geteuid() != 0:
        pytest.skip("a lab needs root")
    bamikube("up")
    yield bamikube


@pytest.fixture(scope="session")
def kubeconfig(lab: Bamikube) -> str:
    return str(lab.folder / "kubeconfig")


@pytest.fixture(scope="session")
def kubectl(kubeconfig: str) -> Kubectl:
    return Kubectl(Path(kubeconfig))


@pytest.fixture(scope="session")
def eventually() -> Callable[..., Any]:
    """:func:`until`, for tests that call it by place: ``eventually(look, seconds, what)``."""

    def wait(look: Callable[[], Any], seconds: float = 60.0, what: str = "the condition") -> Any:
        return until(look, timeout=seconds, what=what)

    return wait
