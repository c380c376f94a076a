"""What is watched over in signing requests for certificates, and in bundles of trust anchors.

CertificateApproval and CertificateSigning: approving or signing needs the verb ``approve`` or ``sign`` on the signer
(``signers`` named ``example.com/name`` or ``example.com/*``), beside the right to write the subresource.

ClusterTrustBundleAttest: who writes trust anchors under a signer's name needs the verb ``attest`` on it.

CertificateSubjectRestriction: no signing request for ``system:masters`` through the client signer.

Requester: who asks is written down by the server, whatever the client says, and what is asked must be readable. It
cannot be switched off.

Whoever may create signing requests must not become an administrator by asking for it.
"""

from __future__ import annotations

import base64
import binascii
from typing import Any, ClassVar

from cryptography import x509
from cryptography.x509.oid import NameOID

from bamikube.api import errors
from bamikube.api.validation.rules import invalid
from bamikube.apiserver.admission.chain import Plugin
from bamikube.apiserver.admission.context import AdmissionContext
from bamikube.apiserver.attributes import Attributes
from bamikube.apiserver.authz.authorizer import Authorizer
from bamikube.apiserver.identity import MASTERS
from bamikube.pki import trust_anchors

GROUP, PLURAL = "certificates.k8s.io", "certificatesigningrequests"
BUNDLES = "clustertrustbundles"
CLIENT_SIGNER = "kubernetes.io/kube-apiserver-client"


class Requester(Plugin):
    name = "CertificateRequester"
    kinds = frozenset({(GROUP, PLURAL)})
    operations = frozenset({"CREATE"})

    async def mutate(self, ctx: AdmissionContext) -> None:
        if not ctx.subresource and ctx.object is not None:
            spec = ctx.object.setdefault("spec", {})
            spec["username"] = ctx.user.name
            spec["groups"] = list(ctx.user.groups)
            for field in ("uid", "extra"):
                spec.pop(field, None)
            if ctx.user.uid:
                spec["uid"] = ctx.user.uid
            if ctx.user.extra:
                spec["extra"] = {key: list(values) for key, values in ctx.user.extra.items()}

    async def validate(self, ctx: AdmissionContext) -> None:
        """Reading a request takes a library that validation, being pure, does without: it looks at the outer form."""
        text = ((ctx.object or {}).get("spec") or {}).get("request") or ""
        if ctx.subresource or not text:
            return
        try:
            x509.load_pem_x509_csr(base64.b64decode(text))
        except ValueError as problem:
            causes = [invalid("spec.request", "<request>", f"malformed certificate request: {problem}")]
            raise errors.invalid("CertificateSigningRequest", ctx.name, causes, GROUP) from problem


class CertificateSubjectRestriction(Plugin):
    name = "CertificateSubjectRestriction"
    kinds = frozenset({(GROUP, PLURAL)})
    operations = frozenset({"CREATE"})

    async def validate(self, ctx: AdmissionContext) -> None:
        if ctx.subresource or ctx.object is None:
            return
        spec = ctx.object.get("spec") or {}
        if spec.get("signerName") != CLIENT_SIGNER:
            return
        try:
            request = x509.load_pem_x509_csr(base64.b64decode(spec.get("request") or ""))
        except (ValueError, binascii.Error):
            return  # validation says what is wrong with it
        groups = [
            attribute.value for attribute in request.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
        ]
        if MASTERS in groups:
            raise errors.forbidden(
                PLURAL,
                ctx.name,
                f"use of {CLIENT_SIGNER} signer with {MASTERS} group is not allowed",
                GROUP,
            )


def _may(authorizer: Authorizer, ctx: AdmissionContext, verb: str, signer: str) -> bool:
    """Whether who asks has ``verb`` on the signer, or on all of its domain."""
    return any(
        authorizer.authorize(
            Attributes(ctx.user, verb, group=GROUP, version="v1", resource="signers", name=name)
        ).allowed
        for name in (signer, signer.partition("/")[0] + "/*")
    )


class _SignerRight(Plugin):
    """Somebody decides about a request: he needs ``verb`` on its signer."""

    kinds = frozenset({(GROUP, PLURAL)})
    operations = frozenset({"UPDATE"})
    verb: ClassVar[str] = ""

    def __init__(self, authorizer: Authorizer) -> None:
        self._authorizer = authorizer

    def _demand(self, ctx: AdmissionContext) -> None:
        signer = ((ctx.old or ctx.object or {}).get("spec") or {}).get("signerName", "")
        if not _may(self._authorizer, ctx, self.verb, signer):
            words = f'user not permitted to {self.verb} requests with signerName "{signer}"'
            raise errors.forbidden(PLURAL, ctx.name, words, GROUP)


class CertificateApproval(_SignerRight):
    name = "CertificateApproval"
    verb = "approve"

    async def validate(self, ctx: AdmissionContext) -> None:
        if ctx.subresource == "approval":
            self._demand(ctx)


class CertificateSigning(_SignerRight):
    """A certificate is put in, or conditions are changed: a request is declared failed."""

    name = "CertificateSigning"
    verb = "sign"

    async def validate(self, ctx: AdmissionContext) -> None:
        if ctx.subresource != "status" or ctx.object is None:
            return
        if _decided(ctx.object) != _decided(ctx.old or {}):
            self._demand(ctx)


def _decided(obj: dict[str, Any]) -> tuple[Any, Any]:
    status = obj.get("status") or {}
    return status.get("certificate") or "", status.get("conditions") or []


class TrustAnchors(Plugin):
    """The text of a bundle, which takes a library to read. It cannot be switched off."""

    name = "ClusterTrustBundleAnchors"
    kinds = frozenset({(GROUP, BUNDLES)})
    operations = frozenset({"CREATE", "UPDATE"})

    async def validate(self, ctx: AdmissionContext) -> None:
        text = _spec(ctx.object).get("trustBundle") or ""
        if ctx.object is None or (ctx.old is not None and text == _spec(ctx.old).get("trustBundle")):
            return
        if found := trust_anchors.faults(text):
            causes = [invalid("spec.trustBundle", "<value omitted>", fault) for fault in found]
            raise errors.invalid("ClusterTrustBundle", ctx.name, causes, GROUP)


class ClusterTrustBundleAttest(Plugin):
    """A bundle for a signer is written by those who may attest for it."""

    name = "ClusterTrustBundleAttest"
    kinds = frozenset({(GROUP, BUNDLES)})
    operations = frozenset({"CREATE", "UPDATE"})

    def __init__(self, authorizer: Authorizer) -> None:
        self._authorizer = authorizer

    async def validate(self, ctx: AdmissionContext) -> None:
        signer = _spec(ctx.object).get("signerName") or ""
        if not signer or (ctx.old is not None and _spec(ctx.old) == _spec(ctx.object)):
            return
        if not _may(self._authorizer, ctx, "attest", signer):
            words = f'user not permitted to attest for signerName "{signer}"'
            raise errors.forbidden(BUNDLES, ctx.name, words, GROUP)


def _spec(obj: dict[str, Any] | None) -> dict[str, Any]:
    return (obj or {}).get("spec") or {}
