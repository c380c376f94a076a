"""Issuing a node's material: what the profiles ask for, kept where it is valid, made anew where it is not.

``issue_control_plane`` writes kubeadm's layout under a node's ``/etc/kubernetes`` and creates the authorities;
``issue_node`` writes what every node needs, signed by those authorities, which may live in another directory (a
worker has the authority's certificate, never its key). Both may be run again at any time: each certificate is first
judged, and the verdict says why it was kept or replaced.

    kept       apiserver          valid for another 364 days
    renewed    etcd-server        is valid for another 12 days only
    renewed    apiserver          lacks 203.0.113.7
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from bamikube.kit.world import World
from bamikube.pki import files, keys, kubeconfig, profiles
from bamikube.pki.authority import DAY, Authority, Issued, Request, issued_by
from bamikube.pki.profiles import CertificateProfile, ClusterNames, KubeconfigProfile, NodeNames, Place

# Replace a certificate when no more than this is left of its life (a quarter of it, where that is shorter).
RENEW_BEFORE = 30 * DAY


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a certificate may stay, and why (not)."""

    valid: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was done about one file: action is ``created``, ``kept`` or ``renewed``."""

    name: str
    path: Path
    action: str
    reason: str


def judge(
    certificate: x509.Certificate, request: Request, authority: x509.Certificate, now: float
) -> Verdict:
    """Whether ``certificate`` still is what ``request`` asks of ``authority`` at ``now`` (seconds since the epoch)."""
    if not issued_by(certificate, authority):
        return Verdict(False, f"is not signed by {authority.subject.rfc4514_string()}")
    if common_name(certificate) != request.common_name:
        return Verdict(False, f"is for {common_name(certificate)!r}, not {request.common_name!r}")
    if set(organizations(certificate)) != set(request.organizations):
        have = ", ".join(organizations(certificate)) or "none"
        return Verdict(
            False, f"has the organizations {have}, not {', '.join(request.organizations) or 'none'}"
        )
    if missing := [san for san in request.sans if san not in sans(certificate)]:
        return Verdict(False, f"lacks {', '.join(missing)}")
    wanted = {word for word, asked in (("server", request.server), ("client", request.client)) if asked}
    if lacking := wanted - set(usages(certificate)):
        return Verdict(False, f"may not be used as {' and '.join(sorted(lacking))}")
    left = certificate.not_valid_after_utc.timestamp() - now
    if left <= 0:
        return Verdict(False, "has expired")
    if certificate.not_valid_before_utc.timestamp() > now:
        return Verdict(False, "is not valid yet; check this machine's clock")
    if left <= min(RENEW_BEFORE, request.lifetime / 4) and left < _left(authority, now):
        return Verdict(False, f"is valid for another {int(left // DAY)} days only")
    return Verdict(True, f"valid for another {int(left // DAY)} days")


def issue_control_plane(
    directory: Path, cluster: ClusterNames, node: NodeNames, world: World
) -> list[Outcome]:
    """Everything under a control-plane node's ``/etc/kubernetes`` (= ``directory``), node material included.

    Raises OSError, and ValueError when existing material of an authority cannot be used.
    """
    outcomes = [_authority(directory, profile, world) for profile in profiles.load().authorities]
    outcomes += [_keypair(directory, profile) for profile in profiles.load().keypairs]
    outcomes += _place(directory, directory, "control-plane", cluster, node, world)
    return outcomes + issue_node(directory, cluster, node, world)


def issue_node(
    directory: Path, cluster: ClusterNames, node: NodeNames, world: World, *, authorities: Path | None = None
) -> list[Outcome]:
    """What every node needs under its ``/etc/kubernetes`` (= ``directory``): the CA certificate, the node agent's
    serving certificate, and the kubeconfigs of the services on a node.

    ``authorities`` is the ``/etc/kubernetes`` that holds the authorities' keys, if that is another directory.
    """
    source = authorities or directory
    outcomes = []
    if source != directory:
        content = (source / "pki" / "ca.crt").read_bytes()
        target = directory / "pki" / "ca.crt"
        same = target.exists() and target.read_bytes() == content
        if not same:
            files.write_atomically(target, content, files.PUBLIC)
        outcomes.append(Outcome("ca", target, "kept" if same else "created", "copied from the control plane"))
    return outcomes + _place(directory, source, "node", cluster, node, world)


def issue_all(
    directories: dict[str, Path], cluster: ClusterNames, nodes: list[NodeNames], world: World
) -> dict[str, list[Outcome]]:
    """A whole cluster on one machine: the first node is the control plane. ``directories`` maps a node's name to its
    ``/etc/kubernetes``. Returns the outcomes per node."""
    first = directories[nodes[0].name]
    outcomes = {nodes[0].name: issue_control_plane(first, cluster, nodes[0], world)}
    for node in nodes[1:]:
        outcomes[node.name] = issue_node(directories[node.name], cluster, node, world, authorities=first)
    return outcomes


def _place(
    directory: Path, source: Path, place: Place, cluster: ClusterNames, node: NodeNames, world: World
) -> list[Outcome]:
    loaded = profiles.load()
    wanted = [profile for profile in loaded.leaves if profile.place == place]
    names = {profile.ca for profile in wanted}
    signers = {
        profile.name: Authority.load(source / f"{profile.file}.crt", source / f"{profile.file}.key", world)
        for profile in loaded.authorities
        if profile.name in names
    }
    outcomes = []
    for profile in wanted:
        request = profiles.request_of(profile, cluster, node)
        signer = signers[profile.ca]
        if isinstance(profile, CertificateProfile):
            outcomes.append(_certificate(directory, profile, request, signer, world))
        else:
            outcomes.append(_kubeconfig(directory, profile, request, signer, cluster, world))
    return outcomes


def _authority(directory: Path, profile: profiles.AuthorityProfile, world: World) -> Outcome:
    base = directory / profile.file
    certificate, key = base.with_name(base.name + ".crt"), base.with_name(base.name + ".key")
    if not certificate.exists() and not key.exists():
        Authority.create(profile.common_name, world, profile.lifetime * DAY).save(base)
        return Outcome(profile.name, certificate, "created", f"valid for {profile.lifetime} days")
    try:
        existing = Authority.load(certificate, key, world)
    except FileNotFoundError as error:
        raise ValueError(
            f"{error.filename} is missing while its other half exists; restore it from a backup, or remove both "
            "to start with a new authority (every certificate signed by the old one then has to be replaced)"
        ) from error
    left = _left(existing.certificate, world.clock.now())
    if left <= 0:
        raise ValueError(f"the authority {certificate} has expired; remove it and its key to start a new one")
    return Outcome(profile.name, certificate, "kept", f"valid for another {int(left // DAY)} days")


def _keypair(directory: Path, profile: profiles.KeyPairProfile) -> Outcome:
    private, public = directory / f"{profile.file}.key", directory / f"{profile.file}.pub"
    created = not private.exists()
    if created:
        files.write_atomically(private, keys.private_pem(keys.new_rsa_key()))
    wanted = keys.public_pem(keys.load_private(private.read_bytes()).public_key())
    if not public.exists() or public.read_bytes() != wanted:
        files.write_atomically(public, wanted, files.PUBLIC)
    return Outcome(profile.name, private, "created" if created else "kept", "signs service account tokens")


def _certificate(
    directory: Path, profile: CertificateProfile, request: Request, authority: Authority, world: World
) -> Outcome:
    certificate, key = directory / f"{profile.file}.crt", directory / f"{profile.file}.key"
    verdict = _judge_files(certificate, key, request, authority, world)
    if verdict is not None and verdict.valid:
        return Outcome(profile.name, certificate, "kept", verdict.reason)
    issued = authority.issue(request)
    files.write_atomically(key, issued.key_pem)
    files.write_atomically(certificate, issued.certificate_pem, files.PUBLIC)
    return _written(profile.name, certificate, verdict)


def _kubeconfig(
    directory: Path,
    profile: KubeconfigProfile,
    request: Request,
    authority: Authority,
    cluster: ClusterNames,
    world: World,
) -> Outcome:
    path = directory / profile.file
    verdict = _judge_kubeconfig(path, request, authority, cluster, world) if path.exists() else None
    if verdict is not None and verdict.valid:
        return Outcome(profile.name, path, "kept", verdict.reason)
    issued = authority.issue(request)
    kubeconfig.write(path, access(cluster, request.common_name, authority, issued))
    return _written(profile.name, path, verdict)


def access(cluster: ClusterNames, user: str, authority: Authority, issued: Issued) -> dict[str, object]:
    """The kubeconfig that lets ``user`` into ``cluster`` with the certificate just issued."""
    return kubeconfig.build(
        cluster=cluster.name,
        server=cluster.server,
        ca_pem=authority.certificate_pem,
        user=user,
        cert_pem=issued.certificate_pem,
        key_pem=issued.key_pem,
    )


def _judge_files(
    certificate: Path, key: Path, request: Request, authority: Authority, world: World
) -> Verdict | None:
    """None: there is nothing yet."""
    if not certificate.exists() or not key.exists():
        return None
    return _judge_pem(certificate.read_bytes(), key.read_bytes(), request, authority, world)


def _judge_kubeconfig(
    path: Path, request: Request, authority: Authority, cluster: ClusterNames, world: World
) -> Verdict:
    try:
        found = kubeconfig.load(path)
    except kubeconfig.KubeconfigError as error:
        return Verdict(False, f"cannot be used: {error}")
    if found.server != cluster.server:
        return Verdict(False, f"points at {found.server}, not {cluster.server}")
    if found.ca_pem != authority.certificate_pem:
        return Verdict(False, "trusts another authority")
    return _judge_pem(found.cert_pem, found.key_pem, request, authority, world)


def _judge_pem(
    certificate: bytes, key: bytes, request: Request, authority: Authority, world: World
) -> Verdict:
    try:
        loaded, private = x509.load_pem_x509_certificate(certificate), keys.load_private(key)
    except ValueError as error:
        return Verdict(False, f"cannot be read: {error}")
    if loaded.public_key() != private.public_key():
        return Verdict(False, "does not belong to its key")
    return judge(loaded, request, authority.certificate, world.clock.now())


def _written(name: str, path: Path, verdict: Verdict | None) -> Outcome:
    if verdict is None:
        return Outcome(name, path, "created", "was not there")
    return Outcome(name, path, "renewed", verdict.reason)


# ---- what a certificate says


def _left(certificate: x509.Certificate, now: float) -> float:
    return certificate.not_valid_after_utc.timestamp() - now


def common_name(certificate: x509.Certificate) -> str:
    found = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(found[0].value) if found else ""


def organizations(certificate: x509.Certificate) -> tuple[str, ...]:
    return tuple(str(a.value) for a in certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME))


def sans(certificate: x509.Certificate) -> tuple[str, ...]:
    """DNS names and IP addresses, in the certificate's order."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    return tuple(str(name.value) for name in names if isinstance(name, x509.DNSName | x509.IPAddress))


def usages(certificate: x509.Certificate) -> tuple[str, ...]:
    """``server`` and ``client``, as far as the certificate allows them."""
    try:
        allowed = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return ()
    words = {ExtendedKeyUsageOID.SERVER_AUTH: "server", ExtendedKeyUsageOID.CLIENT_AUTH: "client"}
    return tuple(words[usage] for usage in allowed if usage in words)
