"""emptyDir in huge pages: a hugetlbfs of one page size, for pods that request such pages.

``HugePages-2Mi`` names the size, ``HugePages`` means the only one that the pod requests. Source: "Manage HugePages".
"""

from __future__ import annotations

from bamikube.nodeagent.host.port import HostFailure
from bamikube.nodeagent.pod import facts
from bamikube.nodeagent.pod.facts import JSON
from bamikube.nodeagent.quantity import number

PREFIX = "hugepages-"  # of a resource's name


def is_medium(medium: str) -> bool:
    return medium == "HugePages" or medium.startswith("HugePages-")


def page_size(pod: JSON, medium: str) -> int:
    """Bytes of the pages that a volume of this medium is made of. Raises HostFailure in the kubelet's words."""
    sizes = {
        int(number(name.removeprefix(PREFIX)))
        for spec in (*facts.containers(pod), *facts.init_containers(pod))
        for name in (spec.get("resources") or {}).get("requests") or {}
        if name.startswith(PREFIX)
    }
    if medium != "HugePages":
        sizes &= {int(number(medium.removeprefix("HugePages-")))}
    if len(sizes) > 1:
        raise HostFailure(f"medium: {medium} can't be used if container requests multiple huge page sizes")
    if not sizes:
        raise HostFailure(
            f"medium {medium}: hugePages storage requested, but there is no resource request for huge pages"
        )
    return sizes.pop()
