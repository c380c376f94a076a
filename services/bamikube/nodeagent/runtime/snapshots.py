"""The contents of an image as a tree to be mounted, from containerd's own snapshots.

An unpacked image is a chain of snapshots; the last one's name is its chain id, which CRI tells when asked for everything about
the image. A *view* upon it is a read-only snapshot: its mounts show the image's files. Nothing of containerd's refers to a
view, so a label keeps its garbage collection away, and another says whose it is, so that it goes with its pod.
"""

from __future__ import annotations

import json

import grpc

from bamikube.nodeagent.runtime.port import RuntimeFailure, TreeMount
from bamikube.rpc.containerd import snapshots_pb2 as pb
from bamikube.rpc.containerd import snapshots_pb2_grpc

_TIMEOUT = 60.0  # seconds
_KEEP = "containerd.io/gc.root"
_OWNER = "bamikube.io/pod-uid"


class Snapshots:
    """Views upon images, in one namespace of containerd."""

    def __init__(self, channel: grpc.aio.Channel, namespace: str) -> None:
        self._stub = snapshots_pb2_grpc.SnapshotsStub(channel)
        self._metadata = (("containerd-namespace", namespace),)

    async def view(self, snapshotter: str, chain: str, key: str, owner: str) -> tuple[TreeMount, ...]:
        """The mounts of a view called ``key``; the old one if there is one. Raises RuntimeFailure."""
        labels = {_KEEP: "true", _OWNER: owner}
        request = pb.ViewSnapshotRequest(snapshotter=snapshotter, key=key, parent=chain, labels=labels)
        try:
            answer = await self._stub.View(request, timeout=_TIMEOUT, metadata=self._metadata)
        except grpc.aio.AioRpcError as error:
            if error.code() != grpc.StatusCode.ALREADY_EXISTS:
                raise _failure(error) from error
            again = pb.MountsRequest(snapshotter=snapshotter, key=key)
            try:
                answer = await self._stub.Mounts(again, timeout=_TIMEOUT, metadata=self._metadata)
            except grpc.aio.AioRpcError as second:
                raise _failure(second) from second
        return tuple(TreeMount(m.type, m.source, tuple(m.options)) for m in answer.mounts)

    async def remove(self, snapshotter: str, owner: str) -> None:
        """Remove all views of a pod. Raises RuntimeFailure."""
        request = pb.ListSnapshotsRequest(snapshotter=snapshotter, filters=[f'labels."{_OWNER}"=="{owner}"'])
        try:
            names = [
                info.name
                async for page in self._stub.List(request, timeout=_TIMEOUT, metadata=self._metadata)
                for info in page.info
            ]
            for name in names:
                gone = pb.RemoveSnapshotRequest(snapshotter=snapshotter, key=name)
                await self._stub.Remove(gone, timeout=_TIMEOUT, metadata=self._metadata)
        except grpc.aio.AioRpcError as error:
            raise _failure(error) from error


def chain_of(info: str) -> str:
    """The chain id in what CRI tells of an image, '' where it tells none."""
    try:
        return str(json.loads(info).get("chainID") or "")
    except ValueError:
        return ""


def snapshotter_of(config: str) -> str:
    """The snapshotter that CRI is configured to use."""
    try:
        return str((json.loads(config).get("containerd") or {}).get("snapshotter") or "overlayfs")
    except ValueError:
        return "overlayfs"


def _failure(error: grpc.aio.AioRpcError) -> RuntimeFailure:
    return RuntimeFailure(error.code().name, error.details() or error.code().name)
