"""Tokens: asking for one (TokenRequest), asking about one (TokenReview), and where its keys are published.

Source: KEP-1205 (TokenRequest), KEP-1393 (service account issuer discovery).
"""

from __future__ import annotations

from typing import Any

import orjson

from bamikube.api import errors
from bamikube.api.errors import Cause
from bamikube.api.validation.rules import invalid
from bamikube.apiserver.admission.context import AdmissionContext
from bamikube.apiserver.admission.service_account import EXPIRATION_SECONDS
from bamikube.apiserver.audit.trail import annotate
from bamikube.apiserver.authn.authenticator import BadCredentials
from bamikube.apiserver.call import Call
from bamikube.apiserver.identity import user_info
from bamikube.apiserver.subresources.rewriting import Object, admitted, current, dry
from bamikube.kit.clock import rfc3339
from bamikube.kit.http import Answer, Request, Response
from bamikube.pki.tokens import Bound, TokenVerifier

MIN_SECONDS = 600
MAX_SECONDS = 1 << 32
DEFAULT_SECONDS = 3600
EXTENDED_SECONDS = 365 * 24 * 3600


async def request_token(call: Call) -> Answer:
    """``POST .../serviceaccounts/<name>/token``."""
    if call.verb != "create":
        raise errors.method_not_allowed()
    if call.services.signer is None:
        raise errors.internal("this API server has no key to sign service account tokens with")
    account = await current(call)
    body = await call.decode()
    _check_place(call, body.get("metadata") or {})
    spec = body.setdefault("spec", {})
    seconds = spec.get("expirationSeconds")
    seconds = DEFAULT_SECONDS if seconds is None else seconds
    _check_lifetime(seconds)
    audiences = list(spec.get("audiences") or []) or api_audiences(call)
    ctx = AdmissionContext(
        "CREATE", call.resource, call.namespace, call.name, call.user, body, None, "token", dry(call)
    )
    if call.services.admission is not None:
        await call.services.admission.mutate(ctx)
        await call.services.admission.validate(ctx)
        call.warnings[:] = ctx.warnings
    bound = await _bound(call, spec.get("boundObjectRef") or {})
    longest = int(call.services.options.service_account_max_token_expiration)
    if 0 < longest < seconds:
        call.warnings.append(
            f"requested expiration of {seconds} seconds shortened to {longest} seconds",
        )
        seconds = longest
    now, jti = call.world.clock.now(), call.world.chance.uuid()
    token, _ = call.services.signer.sign(
        call.namespace,
        call.name,
        account["metadata"]["uid"],
        audiences=audiences,
        jti=jti,
        **_lifetime(call, seconds, audiences, "pod" in bound),
        **bound,
    )
    annotate({"authentication.kubernetes.io/issued-credential-id": f"JTI={jti}"})
    answer: Object = {
        "kind": "TokenRequest",
        "apiVersion": "authentication.k8s.io/v1",
        "metadata": {
            "name": call.name,
            "namespace": call.namespace,
            "creationTimestamp": rfc3339(now),
        },
        "spec": {**spec, "audiences": audiences, "expirationSeconds": seconds},
        "status": {"token": token, "expirationTimestamp": rfc3339(now + seconds)},
    }
    answer["spec"].setdefault("boundObjectRef", None)
    return call.answer(answer, 201)


def api_audiences(call: Call) -> list[str]:
    """What tokens are for when nobody says otherwise: the API server itself."""
    authenticator = call.services.authenticator
    known = list(getattr(authenticator, "audiences", ()) or ())
    return known or [call.services.signer.issuer]


def _lifetime(call: Call, seconds: int, audiences: list[str], of_pod: bool) -> dict[str, int]:
    """How long a token is good. A pod's token that admission asked for outlives its hour, for programs that read it
    only once; the client is told of the hour all the same, and its later uses are counted."""
    options = call.services.options
    ours = set(api_audiences(call)).issuperset(audiences)
    if not (
        options.service_account_extend_token_expiration and of_pod and ours and seconds == EXPIRATION_SECONDS
    ):
        return {"lifetime": seconds}
    year = EXTENDED_SECONDS
    if options.service_account_max_token_expiration:
        year = min(year, int(options.service_account_max_token_expiration))
    return {"lifetime": year, "warn_after": seconds}


def _check_place(call: Call, metadata: Object) -> None:
    """Name and namespace may be left out of the body. Raises 422 when they are somebody else's."""
    for field, ours in (("name", call.name), ("namespace", call.namespace)):
        if (given := metadata.get(field)) and given != ours:
            cause = invalid(
                f"metadata.{field}", given, f"must match the service account {field} if specified"
            )
            raise errors.invalid("TokenRequest", call.name, [cause], "authentication.k8s.io")


def _check_lifetime(seconds: Any) -> None:
    why = ""
    if not isinstance(seconds, int) or isinstance(seconds, bool):
        raise errors.bad_request("spec.expirationSeconds must be an integer")
    if seconds < MIN_SECONDS:
        why = "may not specify a duration less than 10 minutes"
    elif seconds > MAX_SECONDS:
        why = "may not specify a duration larger than 2^32 seconds"
    if why:
        cause = Cause("FieldValueInvalid", f"Invalid value: {seconds}: {why}", "spec.expirationSeconds")
        raise errors.invalid("TokenRequest", "", [cause], "authentication.k8s.io")


async def _bound(call: Call, reference: Object) -> dict[str, Bound]:
    if not reference:
        return {}
    kind, version = str(reference.get("kind") or ""), str(reference.get("apiVersion") or "v1")
    plural = {"Pod": "pods", "Secret": "secrets", "Node": "nodes"}.get(kind)
    if plural is None or version != "v1":
        raise errors.bad_request(f"cannot bind token to object of type /{version}, Kind={kind}")
    name = str(reference.get("name") or "")
    namespace = "" if kind == "Node" else call.namespace
    found = call.services.reader.get(("", plural), namespace, name)
    if found is None and await call.services.reader.consistent():  # another server may have just written it
        found = call.services.reader.get(("", plural), namespace, name)
    if found is None:
        raise errors.not_found(plural, name)
    uid = str(found["metadata"]["uid"])
    if reference.get("uid") and reference["uid"] != uid:
        raise errors.conflict(
            kind,
            name,
            f"the UID in the bound object reference ({reference['uid']}) does not match the UID in record. "
            "The object might have been deleted and then recreated",
        )
    bound = {kind.lower(): Bound(name, uid)}
    if kind == "Pod":
        spec = found.get("spec") or {}
        if spec.get("serviceAccountName") != call.name:
            raise errors.bad_request(
                f'cannot bind token for serviceaccount "{call.name}" to pod running with different serviceaccount name.'
            )
        if on := spec.get("nodeName"):
            # A node that is not there is named all the same: who inspects the token learns where the pod is.
            node = call.services.reader.get(("", "nodes"), "", on) or {"metadata": {}}
            bound["node"] = Bound(on, str(node["metadata"].get("uid") or ""))
    return bound


async def review_token(call: Call) -> Answer:
    """``POST /apis/authentication.k8s.io/v1/tokenreviews``."""
    async with admitted(call, await call.decode()) as body:
        spec = body.get("spec") or {}
        token = str(spec.get("token") or "")
        if not token:
            raise errors.bad_request("token is required for TokenReview in authentication")
    audiences = [str(one) for one in spec.get("audiences") or []]
    status: Object
    try:
        found = await call.services.authenticator.review(token, audiences)
        status = {"authenticated": True, "user": user_info(found.user)}
        if found.audiences:
            status["audiences"] = list(found.audiences)
    except BadCredentials as problem:
        why = str(problem)
        status = {"user": {}, "error": f"[invalid bearer token, {why}]" if why else "invalid bearer token"}
    answer = {
        "kind": "TokenReview",
        "apiVersion": "authentication.k8s.io/v1",
        "metadata": body.get("metadata") or {},
        "spec": spec,
        "status": status,
    }
    return call.answer(answer, 201)


async def review_self(call: Call) -> Answer:
    """``POST /apis/authentication.k8s.io/v1/selfsubjectreviews`` (kubectl auth whoami)."""
    async with admitted(call, await call.decode()):
        pass  # there is nothing in it to be judged here
    answer = {
        "kind": "SelfSubjectReview",
        "apiVersion": "authentication.k8s.io/v1",
        "metadata": {"creationTimestamp": rfc3339(call.world.clock.now())},
        "status": {"userInfo": user_info(call.user)},
    }
    return call.answer(answer, 201)


class IssuerDiscovery:
    """``/.well-known/openid-configuration`` and ``/openid/v1/jwks``: how others verify our tokens."""

    def __init__(self, verifier: TokenVerifier, jwks_uri: str) -> None:
        self._configuration = orjson.dumps(verifier.openid_configuration(jwks_uri))
        self._keys = orjson.dumps(verifier.jwks())

    async def handle(self, request: Request) -> Response | None:
        """None when the path is another one."""
        headers = {"Cache-Control": "public, max-age=3600"}
        match request.path.rstrip("/"):
            case "/.well-known/openid-configuration":
                return Response(200, self._configuration, headers)
            case "/openid/v1/jwks":
                return Response(200, self._keys, headers, "application/jwk-set+json")
        return None
