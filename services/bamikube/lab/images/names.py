"""Image names as people write them, and as they are meant.

``nginx`` means ``docker.io/library/nginx:latest``; ``kubetm/app:v1`` means ``docker.io/kubetm/app:v1``. The first
part is a registry's host only if it holds a dot or a colon or is ``localhost`` (the rule of the distribution
project's reference grammar), otherwise the name lives on Docker Hub.
"""

from __future__ import annotations

import re

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def is_digest(text: str) -> bool:
    """Whether ``text`` is a complete sha256 digest, ``sha256:`` and 64 hexadecimal digits."""
    return _DIGEST.fullmatch(text) is not None


def full_name(name: str) -> str:
    """The complete name ``host/repository:tag``. Raises ValueError saying what is wrong with ``name``."""
    if "@" in name:
        raise ValueError(f"image name {name!r}: a name to store under must not carry a digest")
    first, slash, rest = name.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        host = first
    else:
        host, rest = "docker.io", name
    repository, _, tag = rest.partition(":")
    tag = tag or "latest"
    if host in ("docker.io", "index.docker.io"):
        host = "docker.io"
        repository = repository if "/" in repository else f"library/{repository}"
    if not _REPOSITORY.fullmatch(repository):
        raise ValueError(
            f"image name {name!r}: repository {repository!r} is not lower-case words joined by '/'"
        )
    if not _TAG.fullmatch(tag):
        raise ValueError(f"image name {name!r}: {tag!r} is not a tag")
    return f"{host}/{repository}:{tag}"


def short_name(name: str) -> str:
    """The shortest way to write a complete name, as ``docker images`` would show it."""
    return name.removeprefix("docker.io/").removeprefix("library/")
