"""The certificate profiles: ``profiles.yaml`` as typed values, and what they come to for one node of one cluster."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict

from bamikube.pki.authority import DAY, Request

Place = Literal["control-plane", "node"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class AuthorityProfile(_Strict):
    name: str
    file: str
    common_name: str
    lifetime: int  # days


class KeyPairProfile(_Strict):
    name: str
    file: str


class CertificateProfile(_Strict):
    name: str
    place: Place
    ca: str
    file: str
    common_name: str
    organizations: tuple[str, ...] = ()
    usages: tuple[Literal["server", "client"], ...]
    sans: tuple[str, ...] = ()
    lifetime: int = 365  # days


class KubeconfigProfile(_Strict):
    name: str
    place: Place
    file: str
    user: str
    organizations: tuple[str, ...] = ()
    ca: str = "ca"
    lifetime: int = 365  # days


class Profiles(_Strict):
    authorities: tuple[AuthorityProfile, ...]
    keypairs: tuple[KeyPairProfile, ...]
    certificates: tuple[CertificateProfile, ...]
    kubeconfigs: tuple[KubeconfigProfile, ...]

    @property
    def leaves(self) -> tuple[CertificateProfile | KubeconfigProfile, ...]:
        """Everything an authority signs."""
        return (*self.certificates, *self.kubeconfigs)


class ClusterNames(_Strict):
    """How a cluster is called and reached. The defaults are those of the lab."""

    name: str = "bamikube"
    server: str = "https://10.99.0.10:6443"  # what kubeconfigs point at
    service_ip: str = "10.96.0.1"  # the kubernetes service
    domain: str = "cluster.local"
    api_sans: tuple[str, ...] = ()  # further DNS names and addresses of the API


class NodeNames(_Strict):
    """One node: its name and its address."""

    name: str
    address: str


@cache
def load() -> Profiles:
    """The profiles that ship with the package."""
    text = files("bamikube.pki").joinpath("profiles.yaml").read_text(encoding="utf-8")
    return Profiles.model_validate(yaml.safe_load(text))


def request_of(
    profile: CertificateProfile | KubeconfigProfile, cluster: ClusterNames, node: NodeNames
) -> Request:
    """What a profile asks for, its placeholders filled in. SANs keep their order and lose their duplicates."""
    words = {
        "node": node.name,
        "address": node.address,
        "service_ip": cluster.service_ip,
        "domain": cluster.domain,
    }
    if isinstance(profile, KubeconfigProfile):
        return Request(
            profile.user.format(**words), profile.organizations, client=True, lifetime=profile.lifetime * DAY
        )
    sans: list[str] = []
    for san in profile.sans:
        sans.extend(cluster.api_sans if san == "{api_sans}" else (san.format(**words),))
    return Request(
        profile.common_name.format(**words),
        profile.organizations,
        tuple(dict.fromkeys(sans)),
        server="server" in profile.usages,
        client="client" in profile.usages,
        lifetime=profile.lifetime * DAY,
    )
