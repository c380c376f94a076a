"""Acting as somebody else (``kubectl --as``), as far as the caller is authorized to.

Every part of the identity asked for is authorized on its own, by the verb ``impersonate``: the user on ``users`` (or,
for a service account's user name, on ``serviceaccounts`` in its namespace), each group on ``groups``, the uid on
``uids`` and each extra value on ``userextras/<key>``. All must hold.

Source: Kubernetes' "User impersonation".
"""

from __future__ import annotations

from typing import Protocol
from urllib.parse import unquote

from bamikube.api import errors
from bamikube.apiserver.attributes import Attributes
from bamikube.apiserver.authn.front_proxy import header_values
from bamikube.apiserver.authz.denial import denied
from bamikube.apiserver.authz.verdict import Verdict
from bamikube.apiserver.identity import ALL_AUTHENTICATED, ALL_UNAUTHENTICATED, ANONYMOUS, User
from bamikube.kit.http import Request

USER = "impersonate-user"
GROUP = "impersonate-group"
UID = "impersonate-uid"
EXTRA = "impersonate-extra-"
_SERVICE_ACCOUNT = "system:serviceaccount:"


class Authorizes(Protocol):
    def authorize(self, attributes: Attributes) -> Verdict: ...


def impersonate(request: Request, user: User, authorizer: Authorizes) -> User:
    """The user to go on as: ``user`` itself when no impersonation is asked for.

    Raises ApiError 403 when a part is not allowed, 400 when parts are asked for without a user.
    """
    headers = request.headers
    if not any(header.startswith("impersonate-") for header in headers):
        return user
    name = headers.get(USER, "").split("\n")[0].strip()
    groups = header_values(GROUP, headers.get(GROUP, ""))
    uid = headers.get(UID, "").strip()
    extra = {
        unquote(header[len(EXTRA) :]): header_values(header, value)
        for header, value in headers.items()
        if header.startswith(EXTRA)
    }
    if not name:
        if groups or uid or extra:
            raise errors.bad_request(
                "groups, a uid or extra fields were asked to be impersonated without a user: send Impersonate-User too"
            )
        return user
    service_account = _account(name)
    if service_account:
        namespace, account = service_account
        _require(authorizer, user, "", "serviceaccounts", account, namespace=namespace)
    else:
        _require(authorizer, user, "", "users", name)
    for group in groups:
        _require(authorizer, user, "", "groups", group)
    if uid:
        _require(authorizer, user, "authentication.k8s.io", "uids", uid)
    for key, values in extra.items():
        for value in values:
            _require(authorizer, user, "authentication.k8s.io", "userextras", value, subresource=key)
    return User(name, _groups(name, groups, service_account), uid, extra)


def _groups(name: str, groups: tuple[str, ...], service_account: tuple[str, str] | None) -> tuple[str, ...]:
    if service_account and not groups:
        groups = ("system:serviceaccounts", f"system:serviceaccounts:{service_account[0]}")
    if name == ANONYMOUS.name:
        return groups if ALL_UNAUTHENTICATED in groups else (*groups, ALL_UNAUTHENTICATED)
    if ALL_AUTHENTICATED in groups or ALL_UNAUTHENTICATED in groups:
        return groups
    return (*groups, ALL_AUTHENTICATED)


def _account(name: str) -> tuple[str, str] | None:
    if not name.startswith(_SERVICE_ACCOUNT):
        return None
    namespace, _, account = name[len(_SERVICE_ACCOUNT) :].partition(":")
    return (namespace, account) if namespace and account and ":" not in account else None


def _require(
    authorizer: Authorizes,
    user: User,
    group: str,
    resource: str,
    name: str,
    *,
    namespace: str = "",
    subresource: str = "",
) -> None:
    attributes = Attributes(
        user,
        "impersonate",
        group=group,
        version="v1",
        resource=resource,
        subresource=subresource,
        namespace=namespace,
        name=name,
    )
    verdict = authorizer.authorize(attributes)
    if not verdict.allowed:
        raise denied(attributes, verdict.reason)
