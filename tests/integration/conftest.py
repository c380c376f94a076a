"""The order of these tests: those that move this process into network namespaces of their own come last.

gRPC starts threads when it needs them, in the namespace of the thread that asked, and keeps them. A store that connects
to etcd from such a thread, after its test's namespace is gone, finds nobody there.
"""

from __future__ import annotations

from pathlib import Path

import pytest

FOLDER = Path(__file__).parent
IN_NAMESPACES = frozenset({"dns", "netlink", "network", "nodeagent", "proxy", "streams"})


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # All items of the run come here, those of other folders too: they keep their place before the last.
    items.sort(key=lambda item: item.path.is_relative_to(FOLDER) and item.path.parent.name in IN_NAMESPACES)
