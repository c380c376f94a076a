"""NodeName: a pod that names its node goes there or nowhere."""

from __future__ import annotations

from collections.abc import Callable

from bamikube.scheduler.model import NodeInfo, PodInfo
from bamikube.scheduler.verdict import UNRESOLVABLE, Verdict

NAME = "NodeName"
_NO = Verdict(UNRESOLVABLE, NAME, "node(s) didn't match the requested node name")


def judge(pod: PodInfo) -> Callable[[NodeInfo], Verdict | None]:
    wanted = pod.spec["nodeName"]
    return lambda node: _NO if wanted and node.name != wanted else None
