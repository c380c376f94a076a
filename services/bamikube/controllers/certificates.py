"""Requests for certificates: approved when a kubelet asks for its own, signed when approved, removed in the end.

::

    create ──► (csrapproving) Approved ──► (csrsigning) status.certificate ──► an hour later (csrcleaner) gone
                kubelets only; people        or Failed, with the reason
                use kubectl certificate approve

The three decide by themselves, each on what stands in the object: :func:`kubelet_permissions`, :func:`signing` and
:func:`remaining`.

Source: "Certificates and Certificate Signing Requests", "TLS bootstrapping".
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cryptography import x509

from bamikube.api.errors import ApiError
from bamikube.controllers.shared import Controller, Shared, enqueue
from bamikube.kit.clock import parse_rfc3339, rfc3339
from bamikube.pki import signers
from bamikube.pki.authority import AuthorityFiles

Object = dict[str, Any]

REQUESTS = "certificatesigningrequests.certificates.k8s.io"
HOUR = 3600.0
DAY = 24 * HOUR


@dataclass(frozen=True, slots=True)
class Permission:
    """A right (to create this subresource) that makes a request approve itself, and the words to approve it with."""

    subresource: str
    message: str


SELF = Permission(
    "selfnodeclient", "Auto approving self kubelet client certificate after SubjectAccessReview."
)
OTHER = Permission("nodeclient", "Auto approving kubelet client certificate after SubjectAccessReview.")


def conditions(request: Object) -> dict[str, Object]:
    """The conditions that hold, by type."""
    held = (request.get("status") or {}).get("conditions") or []
    return {one["type"]: one for one in held if one.get("status") == "True"}


def issued(request: Object) -> str:
    """The certificate, in base64; "" before it is there."""
    return str((request.get("status") or {}).get("certificate") or "")


def kubelet_permissions(request: Object) -> list[Permission]:
    """The rights of which one is enough to approve ``request`` without a person, dearest first; none when it is not a
    kubelet's, or decided already."""
    spec = request["spec"]
    if issued(request) or {"Approved", "Denied"} & conditions(request).keys():
        return []
    if spec.get("signerName") != signers.KUBELET_CLIENT:
        return []
    try:
        asked = signers.read(spec.get("request") or "")
    except ValueError:
        return []
    if signers.refusal(signers.KUBELET_CLIENT, asked, spec.get("usages") or []):
        return []
    own = spec.get("username") == signers.common_name(asked)
    return [SELF, OTHER] if own else [OTHER]


@dataclass(frozen=True, slots=True)
class Signing:
    """What to do about an approved request: sign ``request`` for ``seconds``, or say why it has failed. Neither:
    nothing."""

    request: x509.CertificateSigningRequest | None = None
    seconds: int = 0
    failure: str = ""


def signing(request: Object, longest: float) -> Signing:
    """``longest`` is ``--cluster-signing-duration``, in seconds."""
    spec, held = request["spec"], conditions(request)
    signer = spec.get("signerName") or ""
    if issued(request) or "Approved" not in held or {"Denied", "Failed"} & held.keys():
        return Signing()
    if signer not in signers.SIGNERS:
        return Signing()
    try:
        asked = signers.read(spec.get("request") or "")
    except ValueError as problem:
        return Signing(failure=str(problem))
    if refused := signers.refusal(signer, asked, spec.get("usages") or []):
        return Signing(failure=refused)
    return Signing(asked, signers.lifetime(spec.get("expirationSeconds"), longest))


def remaining(request: Object, now: float) -> float:
    """Seconds until ``request`` has served its time: an hour after it was issued, denied or failed, a day after it
    was asked and nobody decided or signed, and at once when its certificate has run out."""
    held = conditions(request)
    ends = [parse_rfc3339(request["metadata"]["creationTimestamp"]) + DAY]
    if issued(request):
        ends = [_decided(held.get("Approved"), request) + HOUR, _runs_out(issued(request))]
    for kind in ("Denied", "Failed"):
        if kind in held:
            ends.append(_decided(held[kind], request) + HOUR)
    return min(ends) - now


def _decided(condition: Object | None, request: Object) -> float:
    stamp = (condition or {}).get("lastUpdateTime") or request["metadata"]["creationTimestamp"]
    return parse_rfc3339(stamp)


def _runs_out(certificate: str) -> float:
    try:
        return x509.load_pem_x509_certificate(base64.b64decode(certificate)).not_valid_after_utc.timestamp()
    except ValueError:
        return float("inf")  # another signer's, in a form of its own


class CertificateApprover(Controller):
    name = "certificatesigningrequest-approving-controller"
    workers = 2

    def __init__(self, shared: Shared) -> None:
        super().__init__(shared)
        self.requests = shared.informers.of(REQUESTS)
        self.requests.on_change(enqueue(self))

    async def sync(self, key: str) -> float | None:
        request = self.requests.get(key)
        if request is None:
            return None
        for permission in kubelet_permissions(request):
            if await self._permitted(request, permission):
                now = rfc3339(self.world.clock.now())
                approval = _condition("Approved", "AutoApproved", permission.message, now)
                await _write(self, request, "approval", approval)
                return None
        return None

    async def _permitted(self, request: Object, permission: Permission) -> bool:
        spec = request["spec"]
        asked = {
            "group": "certificates.k8s.io",
            "version": "*",
            "resource": "certificatesigningrequests",
            "subresource": permission.subresource,
            "verb": "create",
        }
        who = {key: spec[key] for key in ("uid", "groups", "extra") if spec.get(key)}
        body = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": {"user": spec.get("username") or "", "resourceAttributes": asked} | who,
        }
        answer = await self.client.create("subjectaccessreviews.authorization.k8s.io", body)
        return bool(answer["status"].get("allowed"))


class CertificateSigner(Controller):
    """Signs for those signers of ``kubernetes.io`` that have a CA, by name."""

    name = "certificatesigningrequest-signing-controller"
    workers = 2

    def __init__(self, shared: Shared, authorities: Mapping[str, AuthorityFiles], longest: float) -> None:
        super().__init__(shared)
        self.authorities = authorities
        self.longest = longest
        self.requests = shared.informers.of(REQUESTS)
        self.requests.on_change(enqueue(self))

    async def sync(self, key: str) -> float | None:
        request = self.requests.get(key)
        if request is None:
            return None
        authority = self.authorities.get(request["spec"].get("signerName") or "")
        if authority is None:
            return None
        plan = signing(request, self.longest)
        failure, pem = plan.failure, b""
        if plan.request is not None:
            usages, now = request["spec"].get("usages") or [], self.world.clock.now()
            try:
                pem = signers.certificate(authority.current(), plan.request, usages, plan.seconds, now)
            except ValueError as problem:
                failure = str(problem)
        if pem:
            await _write(self, request, "status", certificate=base64.b64encode(pem).decode())
        elif failure:
            stamp = rfc3339(self.world.clock.now())
            failed = _condition("Failed", "SignerValidationFailure", failure, stamp)
            await _write(self, request, "status", failed)
        return None


class CertificateCleaner(Controller):
    name = "certificatesigningrequest-cleaner-controller"
    workers = 1

    def __init__(self, shared: Shared) -> None:
        super().__init__(shared)
        self.requests = shared.informers.of(REQUESTS)
        self.requests.on_change(enqueue(self))

    async def sync(self, key: str) -> float | None:
        request = self.requests.get(key)
        if request is None:
            return None
        left = remaining(request, self.world.clock.now())
        if left > 0:
            return min(left, DAY)
        try:
            await self.client.delete(REQUESTS, key, uid=request["metadata"]["uid"])
        except ApiError as error:
            if error.code not in (404, 409):
                raise
        return None


def _condition(kind: str, reason: str, message: str, now: str) -> Object:
    return {"type": kind, "status": "True", "reason": reason, "message": message, "lastUpdateTime": now}


async def _write(
    controller: Controller, request: Object, subresource: str, *added: Object, certificate: str = ""
) -> None:
    """Add conditions or the certificate. Whoever was faster is seen in the next event."""
    status = dict(request.get("status") or {})
    if added:
        status["conditions"] = [*(status.get("conditions") or []), *added]
    if certificate:
        status["certificate"] = certificate
    try:
        await controller.client.update(REQUESTS, {**request, "status": status}, subresource)
    except ApiError as error:
        if error.code not in (404, 409):
            raise
