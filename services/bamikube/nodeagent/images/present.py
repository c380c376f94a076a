"""Making a container's image present, or saying in Kubernetes' words why it is not.

The runtime is asked first whether it has the image; a pull would always ask the registry. Reasons: InvalidImageName,
ImageInspectError, ErrImageNeverPull, ErrImagePull (RegistryUnavailable or SignatureValidationFailed where the runtime says
so) and, while a pod waits to try that image again, ImagePullBackOff. The
wait is 10 seconds after the first failure and doubles to 5 minutes; it belongs to the pod and the image, so a second
container of the pod with the same image waits at once.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from bamikube.api.errors import ApiError
from bamikube.nodeagent import durations, figures
from bamikube.nodeagent.images import names
from bamikube.nodeagent.images.accounts import PodAccount
from bamikube.nodeagent.images.keyring import Keyring, keyring_of
from bamikube.nodeagent.images.names import Name
from bamikube.nodeagent.images.puller import PullFailed, in_words
from bamikube.nodeagent.pod.context import Shared
from bamikube.nodeagent.pod.facts import JSON
from bamikube.nodeagent.pod.state import BACKOFF_BASE, BACKOFF_CAP, SETTLE, Memory, PullBackoff, Trouble
from bamikube.nodeagent.runtime.port import Image, RuntimeFailure

log = logging.getLogger(__name__)

RETRY = 10.0  # seconds until it is looked again whether somebody has brought the image
_FORGET = 2 * BACKOFF_CAP  # seconds after which a failed pull is forgiven
# Errors of pulls that runtimes tell apart: they begin with one of these.
_TOLD_APART = {
    "RegistryUnavailable": "the registry is unavailable",
    "SignatureValidationFailed": "the signature validation failed",
}


def judged(image: str, words: str) -> tuple[str, str]:
    """The reason and the message that follow from what the runtime said of a failed pull. Pure."""
    for reason, text in _TOLD_APART.items():
        if words.startswith(reason):
            return reason, f"image pull failed for {image} because {text}{words.removeprefix(reason)}"
    return "ErrImagePull", words


def after_failure(
    before: PullBackoff | None, why: str, now: float, reason: str = "ErrImagePull"
) -> PullBackoff:
    """The wait after another failed pull. Pure."""
    fresh = before is None or now - before.since > _FORGET
    period = BACKOFF_BASE if fresh or before is None else min(before.period * 2, BACKOFF_CAP)
    return PullBackoff(period, now, why, reason)


def waiting(image: str, wait: PullBackoff, *, shown_at: float = 0.0) -> Trouble:
    """What a container that needs the image is told; why comes first for the one whose pull has failed. Pure."""
    text = f'Back-off pulling image "{image}": {wait.reason}: {wait.why}'
    if not shown_at:
        return Trouble("ImagePullBackOff", text, wait.until, period=wait.period)
    return Trouble(
        reason=wait.reason,
        message=wait.why,
        until=wait.until,
        settles=shown_at + min(SETTLE, wait.period / 2),
        later_reason="ImagePullBackOff",
        later_message=text,
        period=wait.period,
    )


class Images:
    """The images of one pod's containers. ``pulled`` is told how many seconds a pull took."""

    def __init__(self, shared: Shared, memory: Memory, pulled: Callable[[float], None]) -> None:
        self._shared, self._memory, self._pulled = shared, memory, pulled

    async def ensure(self, pod: JSON, spec: JSON) -> Image | None:
        """The image of a container; None and ``memory.troubles`` when it cannot be had now."""
        image, rule = str(spec.get("image", "")), names.policy(spec)
        try:
            name = names.parse(image)
        except ValueError as error:
            text = f'Failed to apply default image tag "{image}": {error}'
            self._no(pod, spec, "InvalidImageName", text, "InspectFailed", 60.0)
            return None
        present = None
        if rule != "Always":
            try:
                present = await self._shared.runtime.image(image)
            except RuntimeFailure as failure:
                text = f'Failed to inspect image "": {failure.in_go()}'
                self._no(pod, spec, "ImageInspectError", text, "InspectFailed", RETRY)
                return None
        if present is None and rule == "Never":
            text = f'Container image "{image}" is not present with pull policy of Never'
            self._no(pod, spec, "ErrImageNeverPull", text, "ErrImageNeverPull", RETRY)
            return None
        if present is not None:
            text = f'Container image "{image}" already present on machine'
            self._event(pod, spec, "Normal", "Pulled", text)
            return present
        return await self._pull(pod, spec, image, name)

    def _event(self, pod: JSON, spec: JSON, kind: str, reason: str, text: str) -> None:
        self._shared.api.event(pod, kind, reason, text, spec["name"])

    def _no(self, pod: JSON, spec: JSON, reason: str, text: str, event: str, retry: float) -> None:
        now = self._shared.world.clock.now()
        self._memory.troubles[spec["name"]] = Trouble(reason, text, now + retry)
        self._event(pod, spec, "Warning", event, text)
        self._event(pod, spec, "Warning", "Failed", f"Error: {reason}")

    async def _pull(self, pod: JSON, spec: JSON, image: str, name: Name) -> Image | None:
        clock, memory = self._shared.world.clock, self._memory
        wait = memory.pulls.get(image)
        if wait is not None and clock.now() < wait.until:
            memory.troubles[spec["name"]] = waiting(image, wait)
            return None
        try:
            keyring = await self._keyring(pod)
            self._event(pod, spec, "Normal", "Pulling", f'Pulling image "{image}"')
            begun = clock.monotonic()
            account = PodAccount(self._shared.api, pod)
            took = await self._shared.puller.pull(self._shared.runtime, clock, image, name, keyring, account)
            found = await self._shared.runtime.image(image)
            if found is None:
                raise PullFailed(RuntimeFailure("NOT_FOUND", "the image was pulled but is not there").in_go())
        except (PullFailed, RuntimeFailure, ApiError, OSError, ValueError) as failure:
            words = in_words(failure) if isinstance(failure, RuntimeFailure) else str(failure)
            (reason, why), now = judged(image, words), clock.now()
            wait = memory.pulls[image] = after_failure(wait, why, now, reason)
            memory.troubles[spec["name"]] = waiting(image, wait, shown_at=now)
            self._event(pod, spec, "Warning", "Failed", f'Failed to pull image "{image}": {words}')
            self._event(pod, spec, "Warning", "Failed", f"Error: {reason}")
            return None
        whole = clock.monotonic() - begun
        self._pulled(whole)
        figures.PULL_SECONDS.labels(figures.image_size(found.size)).observe(whole)
        text = (
            f'Successfully pulled image "{image}" in {durations.go(took)} ({durations.go(whole)} including waiting). '
            f"Image size: {found.size} bytes."
        )
        self._event(pod, spec, "Normal", "Pulled", text)
        return found

    async def _keyring(self, pod: JSON) -> Keyring:
        """The credentials in the pod's pull secrets; those that cannot be had are named in an event."""
        secrets, missing = [], []
        for ref in pod["spec"].get("imagePullSecrets") or ():
            if not (secret_name := ref.get("name")):
                continue
            try:
                found = await self._shared.api.secret(pod["metadata"]["namespace"], secret_name)
            except (ApiError, OSError) as failure:
                log.warning("the pull secret %s cannot be read: %s", secret_name, failure)
                found = None
            if found is None:
                missing.append(secret_name)
            else:
                secrets.append(found)
        if missing:
            text = (
                f"Unable to retrieve some image pull secrets ({', '.join(missing)}); "
                "attempting to pull the image may not succeed."
            )
            self._shared.api.event(pod, "Warning", "FailedToRetrieveImagePullSecret", text)
        return keyring_of(secrets)
