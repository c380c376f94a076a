"""kubectl and bamictl, driven as a person would: words in, text out, and waiting for conditions instead of guessing."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

SERVICES = Path(__file__).resolve().parents[2] / "services"

# Of several kubectl that lie side by side, those nearest to what the project is tested with.
PREFERRED = ("1.33", "1.34", "1.32", "1.31", "1.30")


def find_kubectl(version: str = "") -> str:
    """The path of a real kubectl: ``version``, if it lies beside the one on PATH; without one the one that the
    environment's BAMIKUBE_KUBECTL names, else the first of PREFERRED; at last the one on PATH itself.

    Raises FileNotFoundError when there is none.
    """
    if not version and (named := os.environ.get("BAMIKUBE_KUBECTL")):
        return named
    found = shutil.which("kubectl")
    if found is None:
        raise FileNotFoundError("no kubectl on PATH; `make install` brings Debian's kubernetes-client")
    for folder in (Path(found).parent, Path(os.path.realpath(found)).parent):
        for name in [version] if version else PREFERRED:
            if os.access(folder / f"kubectl.{name}", os.X_OK):
                return str(folder / f"kubectl.{name}")
    return found


class KubectlError(AssertionError):
    """kubectl ended with another status than 0."""


class Kubectl:
    """``kubectl("get", "pods")`` returns standard output; a failure raises with everything kubectl said."""

    def __init__(self, kubeconfig: Path, namespace: str = "default", path: str | None = None) -> None:
        self.path = path or find_kubectl()
        self.kubeconfig = kubeconfig
        self.namespace = namespace

    def within(self, namespace: str) -> Kubectl:
        return Kubectl(self.kubeconfig, namespace, self.path)

    def command(self, *words: str) -> list[str]:
        # What another cluster at the same address served once is not to be remembered.
        cache = f"--cache-dir={self.kubeconfig.parent / 'kubectl-cache'}"
        return [self.path, f"--kubeconfig={self.kubeconfig}", cache, f"--namespace={self.namespace}", *words]

    def run(self, *words: str, stdin: str = "", timeout: float = 90) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*words), input=stdin, capture_output=True, text=True, timeout=timeout, check=False
        )

    def __call__(self, *words: str, stdin: str = "", timeout: float = 90) -> str:
        done = self.run(*words, stdin=stdin, timeout=timeout)
        if done.returncode != 0:
            raise KubectlError(
                f"{' '.join(self.command(*words))} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
            )
        return done.stdout

    def fails(self, *words: str, stdin: str = "", timeout: float = 90) -> str:
        """What kubectl said while failing, as it must."""
        done = self.run(*words, stdin=stdin, timeout=timeout)
        assert done.returncode != 0, f"{' '.join(self.command(*words))} should have failed:\n{done.stdout}"
        return done.stdout + done.stderr

    def json(self, *words: str, timeout: float = 90) -> Any:
        return json.loads(self(*words, "-o", "json", timeout=timeout))

    def start(self, *words: str, **options: Any) -> subprocess.Popen[str]:
        """kubectl in the background; whoever starts it ends it."""
        return subprocess.Popen(self.command(*words), text=True, **options)


class Bamictl(Kubectl):
    """``bamictl`` of this tree, driven in the same way."""

    def __init__(self, kubeconfig: Path, namespace: str = "default") -> None:
        super().__init__(kubeconfig, namespace, sys.executable)

    def within(self, namespace: str) -> Bamictl:
        return Bamictl(self.kubeconfig, namespace)

    def command(self, *words: str) -> list[str]:
        start = f"import sys; sys.path.insert(0, {str(SERVICES)!r}); from bamikube.cli.main import main; sys.exit(main())"
        flags = [f"--kubeconfig={self.kubeconfig}", f"--namespace={self.namespace}"]  # it remembers nothing
        return [self.path, "-c", start, *flags, *words]


def until(condition: Callable[[], Any], *, timeout: float = 60, what: str = "") -> Any:
    """Ask again until ``condition`` returns something true. An assertion inside it counts as not yet."""
    deadline = time.monotonic() + timeout
    last: Exception | None = None
    while True:
        try:
            got = condition()
            last = None
            if got:
                return got
        except (AssertionError, subprocess.TimeoutExpired, KeyError, IndexError, StopIteration) as error:
            last = error
        if time.monotonic() >= deadline:
            raise AssertionError(f"not within {timeout:.0f} s: {what or condition}") from last
        time.sleep(0.1)
