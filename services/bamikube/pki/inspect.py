"""Facts about a node's certificates, for ``bamikube certs list``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cryptography import x509

from bamikube.kit.clock import rfc3339
from bamikube.pki import issue, kubeconfig, profiles
from bamikube.pki.authority import DAY, issued_by
from bamikube.pki.profiles import CertificateProfile


@dataclass(frozen=True, slots=True)
class Fact:
    """One certificate. ``status`` is OK, expiring, expired, mismatch, missing or unreadable; ``detail`` says why."""

    name: str
    path: Path
    status: str
    detail: str = ""
    common_name: str = ""
    organizations: tuple[str, ...] = ()
    sans: tuple[str, ...] = ()
    expires: float = 0.0  # seconds since the epoch
    left: float = 0.0  # seconds
    authority: str = ""


def inspect(directory: Path, now: float) -> list[Fact]:
    """Facts of everything the profiles know under a node's ``/etc/kubernetes``, authorities first.

    What belongs to a control plane is passed over on a node that has none (no authority's key and not one of the
    files). ``now`` is in seconds since the epoch.
    """
    loaded = profiles.load()
    authorities: dict[str, x509.Certificate] = {}
    facts: list[Fact] = []
    for authority in loaded.authorities:
        path = directory / f"{authority.file}.crt"
        if path.exists():
            fact, certificate = _examine(authority.name, path, path.read_bytes(), None, now)
            facts.append(fact)
            if certificate is not None:
                authorities[authority.name] = certificate
    control_plane = (directory / "pki" / "ca.key").exists()
    for profile in loaded.leaves:
        path = directory / (
            f"{profile.file}.crt" if isinstance(profile, CertificateProfile) else profile.file
        )
        if not path.exists():
            if profile.place == "node" or control_plane:
                facts.append(Fact(profile.name, path, "missing", "issue it with `bamikube certs renew`"))
            continue
        if isinstance(profile, CertificateProfile):
            pem = path.read_bytes()
        else:
            try:
                pem = kubeconfig.load(path).cert_pem
            except kubeconfig.KubeconfigError as error:
                facts.append(Fact(profile.name, path, "unreadable", str(error)))
                continue
        facts.append(_examine(profile.name, path, pem, authorities.get(profile.ca), now)[0])
    return facts


def _examine(
    name: str, path: Path, pem: bytes, authority: x509.Certificate | None, now: float
) -> tuple[Fact, x509.Certificate | None]:
    try:
        certificate = x509.load_pem_x509_certificate(pem)
    except ValueError as error:
        return Fact(name, path, "unreadable", str(error)), None
    expires = certificate.not_valid_after_utc.timestamp()
    left = expires - now
    if authority is not None and not issued_by(certificate, authority):
        status, detail = "mismatch", f"not signed by this node's {issue.common_name(authority)}"
    elif left <= 0:
        status, detail = "expired", "renew it with `bamikube certs renew`"
    elif left <= issue.RENEW_BEFORE:
        status, detail = "expiring", "renew it with `bamikube certs renew`"
    else:
        status, detail = "OK", ""
    fact = Fact(
        name,
        path,
        status,
        detail,
        issue.common_name(certificate),
        issue.organizations(certificate),
        issue.sans(certificate),
        expires,
        left,
        certificate.issuer.rfc4514_string().removeprefix("CN="),
    )
    return fact, certificate


def table(facts: list[Fact], *, wide: bool = False) -> str:
    """The facts as text columns; ``wide`` adds the alternative names and the file."""
    header = ["NAME", "CN", "O", "CA", "EXPIRES", "RESIDUAL", "STATUS"] + (["SANS", "FILE"] if wide else [])
    rows = [header]
    for fact in facts:
        row = [
            fact.name,
            fact.common_name,
            ",".join(fact.organizations),
            fact.authority,
            rfc3339(fact.expires) if fact.expires else "",
            residual(fact.left) if fact.expires else "",
            f"{fact.status}: {fact.detail}" if fact.detail else fact.status,
        ]
        rows.append(row + ([",".join(fact.sans), str(fact.path)] if wide else []))
    widths = [max(len(row[column]) for row in rows) for column in range(len(header))]
    lines = [
        "   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    return "\n".join(lines) + "\n"


def residual(seconds: float) -> str:
    """``9y``, ``364d``, ``5h``, ``12m``, ``expired``: whole units, rounded down."""
    if seconds <= 0:
        return "expired"
    for unit, length in (("y", 365 * DAY), ("d", DAY), ("h", 3600), ("m", 60)):
        if seconds >= length:
            return f"{int(seconds // length)}{unit}"
    return f"{int(seconds)}s"
