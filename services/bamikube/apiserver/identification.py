"""Which ways of authentication a server has, from its options."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bamikube.apiserver.authn import Authenticator, Method
from bamikube.apiserver.authn.token_uses import TokenUses
from bamikube.apiserver.bootstrap.loop import authentication_data
from bamikube.apiserver.options import ApiServerOptions
from bamikube.apiserver.registry.reader import Reader
from bamikube.kit.world import World


def _read(flag: str, path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ValueError(f"{flag} {path}: {error.strerror}") from None


def make_authenticator(
    options: ApiServerOptions,
    reader: Reader,
    world: World,
    uses: TokenUses,
    methods: Sequence[Method] = (),
) -> tuple[Authenticator, Any, Any]:
    """The authenticator, the signer of service-account tokens and their verifier (None without keys).

    Imports of the cryptographic parts wait until a file is named, so that a simulation needs none of them.
    Raises ValueError that names the flag and the file at fault.
    """
    chain: list[Method] = list(methods)
    tokens: list[Any] = []
    signer: Any = None
    verifier: Any = None
    if options.requestheader_client_ca_file:
        from bamikube.apiserver.authn.front_proxy import FrontProxyMethod
        from bamikube.apiserver.authn.x509 import Certificates

        flag = "--requestheader-client-ca-file"
        chain.append(
            FrontProxyMethod(
                Certificates.from_pem(_read(flag, options.requestheader_client_ca_file)),
                world.clock,
                allowed_names=options.requestheader_allowed_names,
                username_headers=options.requestheader_username_headers,
                group_headers=options.requestheader_group_headers,
                extra_prefixes=options.requestheader_extra_headers_prefix,
            )
        )
    if options.client_ca_file:
        from bamikube.apiserver.authn.x509 import Certificates, X509Method

        authorities = Certificates.from_pem(_read("--client-ca-file", options.client_ca_file))
        chain.append(X509Method(authorities, world.clock))
    if options.token_auth_file:
        from bamikube.apiserver.authn.token_file import TokenFileMethod

        tokens.append(TokenFileMethod.read(Path(options.token_auth_file)))
    if options.enable_bootstrap_token_auth:
        from bamikube.apiserver.authn.bootstrap_tokens import BootstrapTokenMethod

        tokens.append(BootstrapTokenMethod(reader, world.clock))
    signing, files = options.service_account_signing_key_file, list(options.service_account_key_file)
    if signing or files:
        from bamikube.apiserver.authn.service_accounts import ServiceAccountMethod
        from bamikube.pki.tokens import TokenSigner, TokenVerifier

        if signing:
            pem = _read("--service-account-signing-key-file", signing)
            signer = TokenSigner(pem, options.service_account_issuer[0], world)
        pems = [_read("--service-account-key-file", file) for file in files or [signing]]
        verifier = TokenVerifier(
            pems, tuple(options.service_account_issuer), world, audiences=options.audiences
        )
        method = ServiceAccountMethod(verifier, reader, world.clock, uses)
        tokens.append(method)
    authenticator = Authenticator(
        chain,
        tokens=tokens,
        anonymous=options.anonymous_auth,
        anonymous_paths=options.anonymous_auth_paths,
        audiences=options.audiences,
    )
    return authenticator, signer, verifier


def published_trust(options: ApiServerOptions) -> dict[str, str]:
    """What extension API servers may know of how users are recognised: the data of the ConfigMap
    ``kube-system/extension-apiserver-authentication``. Raises ValueError that names the flag and the file."""
    client = front_proxy = ""
    if options.client_ca_file:
        client = _read("--client-ca-file", options.client_ca_file).decode()
    if options.requestheader_client_ca_file:
        front_proxy = _read("--requestheader-client-ca-file", options.requestheader_client_ca_file).decode()
    return authentication_data(
        client,
        front_proxy,
        tuple(options.requestheader_allowed_names),
        username_headers=tuple(options.requestheader_username_headers),
        group_headers=tuple(options.requestheader_group_headers),
        extra_prefixes=tuple(options.requestheader_extra_headers_prefix),
    )
