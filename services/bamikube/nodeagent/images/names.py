"""Image names as people write them, and what they mean.

>>> parse("busybox")
Name(domain='docker.io', path='library/busybox', tag='latest', digest='')
>>> parse("localhost:5000/a/b:1").repository
'localhost:5000/a/b'
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from bamikube.nodeagent.pod.facts import JSON

DOCKER = "docker.io"
_IDENTIFIER = re.compile(r"[a-f0-9]{64}")
_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_DOMAIN = rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?"
_PART = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_REFERENCE = re.compile(
    rf"({_DOMAIN})/({_PART}(?:/{_PART})*)(?::(\w[\w.-]{{0,127}}))?"
    r"(?:@([A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}))?",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class Name:
    """A name in full; ``tag`` is latest where neither a tag nor a digest was given."""

    domain: str
    path: str
    tag: str
    digest: str

    @property
    def repository(self) -> str:
        return f"{self.domain}/{self.path}"


def parse(text: str) -> Name:
    """Raises ValueError in the words of Kubernetes."""
    wrong = f'couldn\'t parse image name "{text}": '
    if _IDENTIFIER.fullmatch(text):
        raise ValueError(
            f"{wrong}invalid repository name ({text}), cannot specify 64-byte hexadecimal strings"
        )
    first, slash, rest = text.partition("/")
    if not slash or not (set(first) & set(".:") or first == "localhost" or first.lower() != first):
        first, rest = DOCKER, text
    if first == f"index.{DOCKER}":
        first = DOCKER
    if first == DOCKER and "/" not in rest:
        rest = f"library/{rest}"
    remote = rest.partition(":")[0]
    if remote.lower() != remote:
        raise ValueError(f"{wrong}invalid reference format: repository name ({remote}) must be lowercase")
    found = _REFERENCE.fullmatch(f"{first}/{rest}")
    if found is None:
        raise ValueError(f"{wrong}invalid reference format")
    domain, path, tag, digest = (part or "" for part in found.groups())
    return Name(domain, path, tag or ("" if digest else "latest"), digest)


def policy(spec: JSON) -> str:
    """imagePullPolicy, or its default: Always for ``latest`` and no tag, else IfNotPresent."""
    chosen = spec.get("imagePullPolicy")
    if chosen:
        return str(chosen)
    try:
        return "Always" if parse(str(spec.get("image", ""))).tag == "latest" else "IfNotPresent"
    except ValueError:
        return "IfNotPresent"
