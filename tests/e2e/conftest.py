"""What all e2e tests share: the lab and a real kubectl to talk to it, and a namespace for each test that wants one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.kubectl import Kubectl
from tests.support.lab import bamikube, eventually, kubeconfig, kubectl, lab

__all__ = ["bamikube", "eventually", "kubeconfig", "kubectl", "lab"]  # fixtures


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "e2e: needs a running lab")
    config.addinivalue_line(
        "markers", "slow: takes long; run by 'make e2e' and 'make soak', not by 'make test'"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.e2e)


@pytest.fixture
def namespace(kubectl: Kubectl, request: pytest.FixtureRequest) -> Iterator[str]:
    """A namespace of the test's own, removed afterwards."""
    stem = "".join(c if c.isalnum() else "-" for c in request.node.name.lower()).strip("-")[:40].strip("-")
    name = f"t-{stem}-{os.getpid()}"
    kubectl("create", "namespace", name)
    yield name
    kubectl.run("delete", "namespace", name, "--wait=false")
