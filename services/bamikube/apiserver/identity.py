"""Who is asking.

Authentication ends in a :class:`User`; authorization, admission and audit begin with one. The well-known names are
those of Kubernetes (``k8s.io/apiserver/pkg/authentication/user``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

ALL_AUTHENTICATED = "system:authenticated"
ALL_UNAUTHENTICATED = "system:unauthenticated"
MASTERS = "system:masters"


@dataclass(frozen=True)
class User:
    """A name and the groups it belongs to. ``extra`` holds what an authenticator wants authorizers to know,
    ``warnings`` what it wants the client to be told about the credentials."""

    name: str
    groups: tuple[str, ...] = ()
    uid: str = ""
    extra: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    warnings: tuple[str, ...] = field(default=(), compare=False)


ANONYMOUS = User("system:anonymous", (ALL_UNAUTHENTICATED,))

# The API server's own loops (bootstrap, the kubernetes service): they write through admission like everybody else.
SYSTEM = User("system:apiserver", (MASTERS, ALL_AUTHENTICATED))


def user_info(user: User) -> dict[str, Any]:
    """``authentication.k8s.io/v1 UserInfo``."""
    info: dict[str, Any] = {"username": user.name}
    if user.uid:
        info["uid"] = user.uid
    if user.groups:
        info["groups"] = list(user.groups)
    if user.extra:
        info["extra"] = {key: list(values) for key, values in user.extra.items()}
    return info
