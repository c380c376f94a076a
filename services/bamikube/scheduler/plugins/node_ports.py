"""NodePorts: two pods cannot have the same port of one node."""

from __future__ import annotations

from bamikube.api.predicates.ports import clash
from bamikube.scheduler.arrays import Array, np
from bamikube.scheduler.columns import Columns
from bamikube.scheduler.model import PodInfo
from bamikube.scheduler.verdict import UNSCHEDULABLE, Rejections, Verdict

NAME = "NodePorts"
_NO = Verdict(UNSCHEDULABLE, NAME, "node(s) didn't have free ports for the requested pod ports")


def filter(pod: PodInfo, columns: Columns, open_rows: Array) -> Rejections | None:
    """Only rows where some pod has the same port number are looked at."""
    rows = {row for port in pod.ports for row in columns.ports.get(port[2], ())}
    if not rows:
        return None
    codes = np.zeros(columns.size, np.int64)
    for row in rows:
        codes[row] = clash(pod.ports, (port for other in columns.pods[row].values() for port in other.ports))
    return Rejections(codes, ((_NO,),))
