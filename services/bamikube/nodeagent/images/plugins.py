"""Credential providers: programs that give the node's credentials for images of certain registries.

A provider is a program in ``--image-credential-provider-bin-dir``, named in ``--image-credential-provider-config``. For an
image that matches its ``matchImages`` it gets a CredentialProviderRequest on its standard input and answers with a
CredentialProviderResponse: credentials by registry, and for how long, and for what (the image, its registry, everything),
they may be remembered. One with ``tokenAttributes`` is also given a token and the annotations of the pod's service account, and
what it answers is remembered for that account (or token) only. One that fails gives no credentials; the pull goes on without.
Source: "Configure a kubelet image credential provider", KEP-4412.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import orjson
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bamikube.api.errors import ApiError
from bamikube.kit.clock import Clock
from bamikube.nodeagent import figures
from bamikube.nodeagent.durations import seconds
from bamikube.nodeagent.images.accounts import Account
from bamikube.nodeagent.images.keyring import Keyring, matches
from bamikube.nodeagent.images.names import Name
from bamikube.nodeagent.runtime.port import Credentials

log = logging.getLogger(__name__)

TIMEOUT = 60.0  # seconds a provider may take
_GROUP = "credentialprovider.kubelet.k8s.io"
_VERSIONS = (f"{_GROUP}/v1", f"{_GROUP}/v1beta1", f"{_GROUP}/v1alpha1")


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class EnvVar(_Model):
    name: str
    value: str = ""


class TokenAttributes(_Model):
    """What of a pod's service account a provider is told."""

    serviceAccountTokenAudience: str = Field(min_length=1)
    cacheType: Literal["ServiceAccount", "Token"]
    requireServiceAccount: bool
    requiredServiceAccountAnnotationKeys: list[str] = Field(default_factory=list)
    optionalServiceAccountAnnotationKeys: list[str] = Field(default_factory=list)


class Provider(_Model):
    """One entry of the configuration."""

    name: str = Field(min_length=1, pattern=r"^[^/\s]+$")
    matchImages: list[str] = Field(min_length=1)
    defaultCacheDuration: str
    apiVersion: str
    args: list[str] = Field(default_factory=list)
    env: list[EnvVar] = Field(default_factory=list)
    tokenAttributes: TokenAttributes | None = None

    def fault(self, folder: Path) -> str:
        """What is wrong with it beyond types; empty for nothing."""
        seconds(self.defaultCacheDuration)
        if self.name in (".", ".."):
            return "this is no name of a program"
        wanted = self.tokenAttributes
        if self.apiVersion not in _VERSIONS:
            return f"apiVersion {self.apiVersion} is none of {', '.join(_VERSIONS)}"
        if wanted is not None and self.apiVersion != _VERSIONS[0]:
            return f"tokenAttributes are only for {_VERSIONS[0]}"
        if (
            wanted is not None
            and wanted.requiredServiceAccountAnnotationKeys
            and not wanted.requireServiceAccount
        ):
            return "requireServiceAccount cannot be false when requiredServiceAccountAnnotationKeys is set"
        return "" if os.access(folder / self.name, os.X_OK) else f"there is no program {folder / self.name}"

    def fits(self, repository: str) -> bool:
        return any(matches(pattern, repository) for pattern in self.matchImages)


class _Configuration(_Model):
    apiVersion: str
    kind: Literal["CredentialProviderConfig"]
    providers: list[Provider] = Field(min_length=1)


def providers_in(config: Path, folder: Path) -> list[Provider]:
    """The providers of a configuration file, or of a folder of them in the order of their names.

    Raises ValueError naming what is wrong.
    """
    found: dict[str, Provider] = {}
    path = config
    try:
        for path in _files(config):
            for one in _Configuration.model_validate(yaml.safe_load(path.read_text())).providers:
                if fault := one.fault(folder):
                    raise ValueError(f"{one.name}: {fault}")
                if one.name in found:
                    raise ValueError(f"duplicate provider name {one.name}")
                found[one.name] = one
    except (OSError, yaml.YAMLError, ValidationError, ValueError) as error:
        raise ValueError(f"--image-credential-provider-config {path}: {error}") from error
    return list(found.values())


def _files(config: Path) -> list[Path]:
    """Raises ValueError for a folder without any."""
    if not config.is_dir():
        return [config]
    files = sorted(
        path for path in config.iterdir() if path.suffix in (".json", ".yaml", ".yml") and path.is_file()
    )
    if not files:
        raise ValueError("there is no .json, .yaml or .yml file in this folder")
    return files


@dataclass(frozen=True, slots=True)
class _Said:
    """What a request tells of a service account, and by what its answer is remembered."""

    fields: dict[str, Any]
    mark: str


class _Answer(BaseModel):
    """CredentialProviderResponse."""

    kind: Literal["CredentialProviderResponse"]
    apiVersion: str
    cacheKeyType: Literal["Image", "Registry", "Global"]
    cacheDuration: str | None = None
    auth: dict[str, dict[str, str]] | None = None


@dataclass(slots=True)
class Plugins:
    """The providers of a node, and what they have said."""

    providers: list[Provider]
    folder: Path
    clock: Clock
    timeout: float = TIMEOUT
    _known: dict[tuple[str, ...], tuple[float, Keyring]] = field(default_factory=dict)
    _asking: dict[tuple[str, ...], asyncio.Future[Keyring]] = field(default_factory=dict)

    async def credentials(self, name: Name, account: Account | None = None) -> list[Credentials]:
        """What the providers give for an image, in the order of the configuration. ``account``: the pod's."""
        found = []
        for provider in self.providers:
            if not provider.fits(name.repository):
                continue
            try:
                said = await self._for_account(provider, account)
                found += (await self._from(provider, name, said)).lookup(name.repository)
            except (ApiError, OSError, ValueError, TimeoutError) as error:
                why = str(error) or "it takes too long"
                log.warning(
                    "the credential provider %s gives nothing for %s: %s", provider.name, name.repository, why
                )
        return found

    async def _for_account(self, provider: Provider, account: Account | None) -> _Said:
        """What the provider is told of the account. Raises ValueError when there is too little."""
        wanted = provider.tokenAttributes
        if wanted is None:
            return _Said({}, "")
        known = await account.describe() if account is not None else None
        if account is None or known is None:
            if wanted.requireServiceAccount:
                raise ValueError("the pod has no service account")
            return _Said({}, "")
        annotations = known["metadata"].get("annotations") or {}
        needed = wanted.requiredServiceAccountAnnotationKeys
        if missing := [key for key in needed if key not in annotations]:
            raise ValueError(f"the service account lacks the annotations {', '.join(missing)}")
        keys = [*needed, *wanted.optionalServiceAccountAnnotationKeys]
        told = {key: annotations[key] for key in keys if key in annotations}
        token = await account.token(wanted.serviceAccountTokenAudience)
        meta = known["metadata"]
        whose = [meta["namespace"], meta["name"], meta["uid"], sorted(told.items())]
        if wanted.cacheType == "Token":
            whose.append(token)
        mark = hashlib.sha256(orjson.dumps(whose)).hexdigest()
        return _Said({"serviceAccountToken": token, "serviceAccountAnnotations": told}, mark)

    async def _from(self, provider: Provider, name: Name, said: _Said) -> Keyring:
        now = self.clock.monotonic()
        self._known = {key: known for key, known in self._known.items() if known[0] > now}
        for key in _keys(name).items():
            if (known := self._known.get((provider.name, said.mark, *key))) is not None:
                return known[1]
        place = (provider.name, said.mark, name.repository)
        if (asking := self._asking.get(place)) is not None:  # somebody asks the same now
            return await asyncio.shield(asking)
        future = self._asking[place] = asyncio.ensure_future(self._ask(provider, name, said))
        future.add_done_callback(lambda _: self._asking.pop(place, None))
        return await asyncio.shield(future)

    async def _ask(self, provider: Provider, name: Name, said: _Said) -> Keyring:
        try:
            with figures.PROVIDER_SECONDS.labels(provider.name).time():
                text = await self._run(provider, name.repository, said)
            answer = _Answer.model_validate_json(text)
            if answer.apiVersion != provider.apiVersion:
                raise ValueError(f"it answers in {answer.apiVersion}, not in {provider.apiVersion}")
        except (OSError, ValueError, TimeoutError):
            figures.PROVIDER_ERRORS.labels(provider.name).inc()
            raise
        lasts = seconds(answer.cacheDuration or provider.defaultCacheDuration)
        keyring = Keyring()
        keyring.add(answer.auth or {})
        if lasts > 0:
            key = (provider.name, said.mark, answer.cacheKeyType, _keys(name)[answer.cacheKeyType])
            self._known[key] = (self.clock.monotonic() + lasts, keyring)
        return keyring

    async def _run(self, provider: Provider, image: str, said: _Said) -> bytes:
        request = {"apiVersion": provider.apiVersion, "kind": "CredentialProviderRequest", "image": image}
        process = await asyncio.create_subprocess_exec(
            str(self.folder / provider.name),
            *provider.args,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=dict(os.environ) | {one.name: one.value for one in provider.env},
        )
        try:
            async with asyncio.timeout(self.timeout):
                out, err = await process.communicate(orjson.dumps(request | said.fields))
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode:
            words = err.decode(errors="replace").strip()[-500:]
            raise ValueError(f"it ended with {process.returncode}: {words}")
        return out


def _keys(name: Name) -> dict[str, str]:
    """What credentials are remembered by, for each kind of key."""
    return {"Image": name.repository, "Registry": name.domain, "Global": ""}
