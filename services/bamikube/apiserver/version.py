"""What ``/version`` says."""

from __future__ import annotations

import platform
import sys
from typing import Any

import bamikube

MINOR = 34
KUBERNETES = f"v1.{MINOR}.0"


def version_info() -> dict[str, Any]:
    """``version.Info`` of Kubernetes; clients read major and minor to decide what they may ask for."""
    own = getattr(bamikube, "__version__", "0.1.0")
    return {
        "major": "1",
        "minor": str(MINOR),
        "gitVersion": f"{KUBERNETES}+bamikube.{own}",
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": f"python{sys.version_info.major}.{sys.version_info.minor}",
        "compiler": platform.python_implementation().lower(),
        "platform": f"{sys.platform}/{ {'x86_64': 'amd64', 'aarch64': 'arm64'}.get(platform.machine(), platform.machine()) }",
    }
