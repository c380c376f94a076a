"""The chain of authentication methods.

Each method looks at the request and says one of three things: *this is the user*, *no credentials of my kind here*
(None), or *credentials of my kind, and they are bad* (:class:`BadCredentials`). The first user wins. Bad credentials
do not end the search - a bearer token may be a service account's or one from the token file - but when nobody
knows the user, they make the answer 401, while a request without any credentials is anonymous.

Source: Kubernetes' "Authenticating".
"""

from __future__ import annotations

import base64
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from bamikube.api import errors
from bamikube.apiserver.identity import ALL_AUTHENTICATED, ALL_UNAUTHENTICATED, ANONYMOUS, User
from bamikube.kit.http import Request

log = logging.getLogger(__name__)

# A bearer token that is offered as if it were a protocol of a websocket begins like this.
TOKEN_PROTOCOL = "base64url.bearer.authorization.k8s.io."


class BadCredentials(Exception):
    """Credentials were shown and are not good. The text goes to the log, never to the client."""


@dataclass(frozen=True, slots=True)
class Identified:
    """Who a token stands for, and for which of the audiences asked about. No audiences: the API server's own."""

    user: User
    audiences: tuple[str, ...] = ()


class Method(Protocol):
    """One way of authentication."""

    async def authenticate(self, request: Request) -> User | None: ...


class TokenMethod(Protocol):
    """A way of authentication by bearer token, for TokenReview."""

    async def authenticate_token(self, token: str, audiences: Sequence[str]) -> Identified | None: ...


class Authenticator:
    """All methods in order. ``anonymous``: whether requests without credentials are let in as system:anonymous;
    ``anonymous_paths``: only at exactly these paths (empty: everywhere), as ``anonymous.conditions`` of Kubernetes'
    AuthenticationConfiguration (KEP-4633).

    ``audiences`` are the API server's own (``--api-audiences``), which tokens without any are taken to be for.
    """

    def __init__(
        self,
        methods: Sequence[Method],
        *,
        tokens: Sequence[TokenMethod] = (),
        anonymous: bool = True,
        anonymous_paths: Sequence[str] = (),
        audiences: Sequence[str] = (),
    ) -> None:
        self._methods = tuple(methods)
        self._tokens = tuple(tokens)
        self._anonymous = anonymous
        self._anonymous_paths = frozenset(anonymous_paths)
        self.audiences = tuple(audiences)

    async def authenticate(self, request: Request) -> User | None:
        """The user, the anonymous one if there are no credentials, None if those are not let in.

        Raises ApiError 401 for credentials that nobody accepts.
        """
        problems: list[str] = []
        for method in self._methods:
            try:
                user = await method.authenticate(request)
            except BadCredentials as problem:
                problems.append(str(problem))
                continue
            if user is not None:
                return authenticated(user)
        if token := bearer_token(request):
            try:
                return authenticated((await self._by_token(token, ())).user)
            except BadCredentials as problem:
                problems.append(str(problem) or "nobody knows the bearer token")
        if problems:
            log.info("refused %s from %s: %s", request.path, request.peer.address, "; ".join(problems))
            raise errors.unauthorized()
        if not self._anonymous or (self._anonymous_paths and request.path not in self._anonymous_paths):
            return None
        return ANONYMOUS

    async def review(self, token: str, audiences: Sequence[str]) -> Identified:
        """Who ``token`` stands for (TokenReview), with the audiences it is good for out of those asked about (none
        asked: the server's own). Raises BadCredentials when it is no good; without words when nobody knows it."""
        found = await self._by_token(token, audiences)
        held = found.audiences
        if not held:
            held = tuple(one for one in self.audiences if not audiences or one in audiences)
            if audiences and not held:
                raise BadCredentials  # for somebody else: here it is not known
        return Identified(authenticated(found.user), held)

    async def _by_token(self, token: str, audiences: Sequence[str]) -> Identified:
        problems: list[str] = []
        for method in self._tokens:
            try:
                found = await method.authenticate_token(token, audiences)
            except BadCredentials as problem:
                problems.append(str(problem))
                continue
            if found is not None:
                return found
        raise BadCredentials(", ".join(problems))


def bearer_token(request: Request) -> str:
    """The token of ``Authorization: Bearer``, or of a websocket's protocols, or "" when there is none."""
    given = request.headers.get("authorization", "")
    if not given and "sec-websocket-protocol" in request.headers:
        return _token_among_protocols(request.headers["sec-websocket-protocol"])
    scheme, _, token = given.strip().partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def _token_among_protocols(offered: str) -> str:
    """Browsers cannot send headers with a websocket: their token is offered like a protocol, in base64url.

    It must come once, with a protocol beside it that can be chosen. Raises ApiError 401.
    """
    protocols = [one.strip() for one in offered.split(",")]
    tokens = [one for one in protocols if one.startswith(TOKEN_PROTOCOL)]
    if not tokens:
        return ""
    try:
        text = tokens[0].removeprefix(TOKEN_PROTOCOL)
        token = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True).decode()
    except ValueError:
        token = ""
    if not token or len(tokens) > 1 or len(tokens) == len(protocols):
        raise errors.unauthorized()
    return token


def authenticated(user: User) -> User:
    """``user`` as a member of system:authenticated, unless it is the anonymous one."""
    if ALL_AUTHENTICATED in user.groups or ALL_UNAUTHENTICATED in user.groups or user.name == ANONYMOUS.name:
        return user
    # Written out: every request does this, and dataclasses.replace takes five times as long.
    groups = (*user.groups, ALL_AUTHENTICATED)
    return User(user.name, groups, user.uid, user.extra, user.warnings)
