"""Credential providers: programs that give the node's credentials for images of certain registries.

A provider is a program in ``--image-credential-provider-bin-dir``, named in ``--image-credential-provider-config``. For an
image that matches its ``matchImages`` it gets a CredentialProviderRequest on its standard input and answers with a
CredentialProviderResponse: credentials by registry, and for how long, and for what (the image, its registry, everything),
they may be remembered. One that fails gives no credentials; the pull goes on without. Source: "Configure a kubelet image
credential provider".
"""

from __future__ import annotations

import asyncio
import logging
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import orjson
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bamikube.kit.clock import Clock
from bamikube.nodeagent.durations import seconds
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


class Provider(_Model):
    """One entry of the configuration."""

    name: str = Field(min_length=1, pattern=r"^[^/\s]+$")
    matchImages: list[str] = Field(min_length=1)
    defaultCacheDuration: str
    apiVersion: str
    args: list[str] = Field(default_factory=list)
    env: list[EnvVar] = Field(default_factory=list)

    def fits(self, repository: str) -> bool:
        return any(matches(pattern, repository) for pattern in self.matchImages)


class _Configuration(_Model):
    apiVersion: str
    kind: Literal["CredentialProviderConfig"]
    providers: list[Provider] = Field(min_length=1)


def providers_in(config: Path, folder: Path) -> list[Provider]:
    """The providers of a configuration file. Raises ValueError naming what is wrong."""
    try:
        document = yaml.safe_load(config.read_text())
        providers = _Configuration.model_validate(document).providers
        for one in providers:
            seconds(one.defaultCacheDuration)
            if one.apiVersion not in _VERSIONS:
                raise ValueError(f"{one.name}: apiVersion {one.apiVersion} is none of {', '.join(_VERSIONS)}")
            if not os.access(folder / one.name, os.X_OK):
                raise ValueError(f"{one.name}: there is no program {folder / one.name}")
    except (OSError, yaml.YAMLError, ValidationError, ValueError) as error:
        raise ValueError(f"--image-credential-provider-config {config}: {error}") from error
    return providers


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
    _known: dict[tuple[str, str, str], tuple[float, list[Credentials]]] = field(default_factory=dict)
    _asking: dict[tuple[str, str], asyncio.Future[list[Credentials]]] = field(default_factory=dict)

    async def credentials(self, name: Name) -> list[Credentials]:
        """What the providers give for an image, in the order of the configuration."""
        found = []
        for provider in self.providers:
            if provider.fits(name.repository):
                found += await self._from(provider, name)
        return found

    async def _from(self, provider: Provider, name: Name) -> list[Credentials]:
        now = self.clock.monotonic()
        for key in _keys(name).items():
            known = self._known.get((provider.name, *key))
            if known is not None and known[0] > now:
                return known[1]
        place = (provider.name, name.repository)
        if (asking := self._asking.get(place)) is not None:  # somebody asks the same now
            return await asyncio.shield(asking)
        future = self._asking[place] = asyncio.ensure_future(self._ask(provider, name))
        future.add_done_callback(lambda _: self._asking.pop(place, None))
        return await asyncio.shield(future)

    async def _ask(self, provider: Provider, name: Name) -> list[Credentials]:
        try:
            answer = _Answer.model_validate_json(await self._run(provider, name.repository))
            if answer.apiVersion != provider.apiVersion:
                raise ValueError(f"it answers in {answer.apiVersion}, not in {provider.apiVersion}")
            lasts = seconds(answer.cacheDuration or provider.defaultCacheDuration)
            keyring = Keyring()
            keyring.add(answer.auth or {})
        except (OSError, ValueError, TimeoutError) as error:
            log.warning("the credential provider %s gives nothing for %s: %s", provider.name, name.repository,
                        error or "it takes too long")  # fmt: skip
            return []
        found = keyring.lookup(name.repository)
        if lasts > 0:
            key = (provider.name, answer.cacheKeyType, _keys(name)[answer.cacheKeyType])
            self._known[key] = (self.clock.monotonic() + lasts, found)
        return found

    async def _run(self, provider: Provider, image: str) -> bytes:
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
                out, err = await process.communicate(orjson.dumps(request))
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode:
            said = err.decode(errors="replace").strip()[-500:]
            raise ValueError(f"it ended with {process.returncode}: {said}")
        return out


def _keys(name: Name) -> dict[Any, str]:
    """What credentials are remembered by, for each kind of key."""
    return {"Image": name.repository, "Registry": name.domain, "Global": ""}
