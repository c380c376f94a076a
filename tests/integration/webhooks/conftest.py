"""One private API for the tests of this folder, and HTTPS servers of the tests' own beside it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
from kubernetes import client, config

from tests.support.kubectl import Kubectl
from tests.support.private_api import PrivateApi, private_api


@pytest.fixture(scope="package")
def private(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateApi]:
    with private_api(tmp_path_factory.mktemp("private"), controllers=False) as api:
        yield api


_numbers = itertools.count(1)


@pytest.fixture
def kubectl(private: PrivateApi) -> Kubectl:
    """kubectl 1.33 in a fresh namespace."""
    name = f"case-{next(_numbers)}"
    one = Kubectl(private.kubeconfig, name)
    one("create", "namespace", name)
    return one


@pytest.fixture(scope="package")
def python(private: PrivateApi) -> client.ApiClient:
    """The official client."""
    return config.new_client_from_config(str(private.kubeconfig))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "server"
