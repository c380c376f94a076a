"""What can go wrong with a volume, and how the pod's events say it: in the kubelet's words, with the step that failed."""

from __future__ import annotations

from bamikube.nodeagent.host.port import HostFailure

SET_UP = "MountVolume.SetUp failed"
AFFINITY = "MountVolume.NodeAffinity check failed"
MOUNTER = "MountVolume.NewMounter initialization failed"
OPTIONS = "MountVolume.MountOptionSupport check failed"
MAP = "MapVolume.MapBlockVolume failed"
DEVICE = "MountVolume.MountDevice failed"


class StepFailed(HostFailure):
    """One step of making a volume failed."""

    def __init__(self, step: str, message: str) -> None:
        super().__init__(message)
        self.step = step


class NotProcessed(HostFailure):
    """It could not even be found out which volume is meant."""


class TimedOut(HostFailure):
    """The volume is still being made."""

    def __init__(self) -> None:
        super().__init__("context deadline exceeded")


def told(error: Exception, outer: str, inner: str) -> str:
    """The event's text. ``outer`` is the name in the pod, ``inner`` that of the volume behind it (mostly the same)."""
    if isinstance(error, (NotProcessed, TimedOut)):
        lost = outer if isinstance(error, NotProcessed) else ""
        return (
            f"Unable to attach or mount volumes: unmounted volumes=[{outer}], unattached volumes=[], "
            f"failed to process volumes=[{lost}]: {error}"
        )
    step = error.step if isinstance(error, StepFailed) else SET_UP
    return f'{step} for volume "{inner}" : {plain(error)}'


def plain(error: Exception) -> str:
    """What an error says; what the kernel refused is in lower case, as Go (and so Kubernetes) writes it."""
    if isinstance(error, OSError) and error.strerror:
        text = error.strerror[:1].lower() + error.strerror[1:]
        return f"{error.filename}: {text}" if error.filename else text
    return str(error)
