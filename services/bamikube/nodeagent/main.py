"""``bamikube-nodeagent``: the kubelet's job as a daemon."""

from __future__ import annotations

import sys

from bamikube.kit.service import run_main
from bamikube.nodeagent.options import NodeAgentOptions
from bamikube.nodeagent.service import NodeAgent


def main(argv: list[str] | None = None) -> int:
    """Parse flags and run until SIGTERM."""
    return run_main("nodeagent", NodeAgent, NodeAgentOptions, argv)


if __name__ == "__main__":
    sys.exit(main())
