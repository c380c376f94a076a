"""Which ids of the machine are for pods: those that ``getsubids kubelet`` tells, or all but the machine's own.

Whoever runs other things with user namespaces beside the node agent gives the user ``kubelet`` a part in /etc/subuid and
/etc/subgid. If there is such a user and the tool to ask with, its answer counts, and none is a reason not to start: all ids
would be too many.
"""

from __future__ import annotations

import pwd
import shutil
import subprocess
from collections.abc import Callable, Sequence

from bamikube.nodeagent.users.ranges import IDS

USER = "kubelet"
PATIENCE = 30.0  # seconds: the tool may ask another machine


def ids(length: int, answer: Callable[[Sequence[str]], str] | None = None) -> tuple[int, int]:
    """The first id, and how many. ``answer``: what the tool says when it is called so. Raises ValueError."""
    if answer is None:
        tool = shutil.which("getsubids") if _known(USER) else None
        if tool is None:
            return length, IDS - length
        answer = _asking(tool)
    of_users = _told(answer, (USER,), "uids")
    if of_users != _told(answer, ("-g", USER), "gids"):
        raise ValueError(f'mismatched subuids and subgids for user "{USER}"')
    return parsed(of_users)


def _told(answer: Callable[[Sequence[str]], str], given: Sequence[str], what: str) -> str:
    try:
        return answer(given)
    except subprocess.CalledProcessError as error:
        said = f"exit status {error.returncode}"
        raise ValueError(f'error retrieving additional {what} for user "{USER}": {said}') from error
    except (OSError, subprocess.TimeoutExpired, UnicodeDecodeError) as error:
        raise ValueError(f'error retrieving additional {what} for user "{USER}": {error}') from error


def _known(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


def _asking(tool: str) -> Callable[[Sequence[str]], str]:
    def ask(given: Sequence[str]) -> str:
        done = subprocess.run([tool, *given], capture_output=True, text=True, check=True, timeout=PATIENCE)
        return done.stdout

    return ask


def parsed(text: str) -> tuple[int, int]:
    """``0: kubelet 65536 2147483648``: one line with the first id and how many. Raises ValueError."""
    lines = text.strip("\n").split("\n")
    if len(lines) != 1:
        raise ValueError(f'error parsing line "{text}": it must contain only one line')
    parts = lines[0].split()
    if len(parts) != 4:
        raise ValueError(f'invalid line "{text}"')
    try:
        first, size = (int(part) for part in parts[2:])
        if not (parts[2] + parts[3]).isdecimal() or first + size > IDS:
            raise ValueError("not a range of ids")
    except ValueError as error:
        raise ValueError(f'error parsing line "{text}": {error}') from error
    return first, size
