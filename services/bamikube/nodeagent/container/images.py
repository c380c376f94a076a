"""Making a container's image present: pull policies, secrets, and what went wrong in Kubernetes' words.

The runtime is asked first whether it has the image; ``PullImage`` would always ask the registry. Reasons:
InvalidImageName, ErrImageNeverPull, ErrImagePull and (after it, while waiting) ImagePullBackOff.
"""

from __future__ import annotations

import base64
import binascii
import json
import re

from bamikube.nodeagent.pod.facts import JSON
from bamikube.nodeagent.pod.state import BACKOFF_BASE, BACKOFF_CAP, Trouble
from bamikube.nodeagent.runtime.port import Credentials

_REFERENCE = re.compile(
    r"^(?:(?:[a-zA-Z0-9](?:[a-zA-Z0-9.-]*[a-zA-Z0-9])?|\[[0-9a-fA-F:]+\])(?::[0-9]+)?/)?"
    r"[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*)*"
    r"(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(?:@sha256:[0-9a-f]{64})?$"
)
SETTLE = 5.0  # seconds an ErrImagePull is shown before it becomes ImagePullBackOff


def valid(image: str) -> bool:
    """Whether this is an image reference at all."""
    return bool(_REFERENCE.match(image))


def policy(spec: JSON) -> str:
    """imagePullPolicy, or its default: Always for ``latest`` and no tag, else IfNotPresent."""
    chosen = spec.get("imagePullPolicy")
    if chosen:
        return str(chosen)
    name = str(spec.get("image", ""))
    if "@" in name:
        return "IfNotPresent"
    tag = name.rsplit("/", 1)[-1].partition(":")[2]
    return "Always" if tag in ("", "latest") else "IfNotPresent"


def pull_trouble(image: str, message: str, before: Trouble | None, now: float) -> Trouble:
    """The wait after a failed pull: 10 s, doubling to 5 min."""
    period = min(before.period * 2, BACKOFF_CAP) if before is not None and before.period else BACKOFF_BASE
    return Trouble(
        reason="ErrImagePull",
        message=message,
        until=now + period,
        settles=now + min(SETTLE, period / 2),
        later_reason="ImagePullBackOff",
        later_message=f'Back-off pulling image "{image}": ErrImagePull: {message}',
        period=period,
    )


def registry(image: str) -> str:
    """The registry host of an image name, docker.io where it names none."""
    first, _, rest = image.partition("/")
    return first if rest and ("." in first or ":" in first or first == "localhost") else "docker.io"


def credentials(image: str, secrets: list[JSON]) -> list[Credentials]:
    """What the pull secrets hold for the image's registry, in order."""
    host = registry(image)
    names = {host, f"index.{host}"} if host == "docker.io" else {host}
    found = []
    for secret in secrets:
        data = secret.get("data") or {}
        for key in (".dockerconfigjson", ".dockercfg"):
            if key not in data:
                continue
            try:
                parsed = json.loads(base64.b64decode(data[key]))
            except (ValueError, binascii.Error):
                continue
            entries = parsed.get("auths", {}) if key == ".dockerconfigjson" else parsed
            for server, entry in entries.items():
                plain = server.removeprefix("https://").removeprefix("http://").split("/")[0]
                if plain in names and isinstance(entry, dict):
                    found.append(
                        Credentials(
                            username=entry.get("username", ""),
                            password=entry.get("password", ""),
                            auth=entry.get("auth", ""),
                            identity_token=entry.get("identitytoken", ""),
                        )
                    )
    return found
