"""One private API for the tests of this folder: real etcd, TLS, the controllers."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from kubernetes import client, config

from tests.support.kubectl import Kubectl
from tests.support.private_api import PrivateApi, private_api


@pytest.fixture(scope="package")
def private(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateApi]:
    with private_api(tmp_path_factory.mktemp("private")) as api:
        yield api


@pytest.fixture(scope="package")
def core(private: PrivateApi) -> client.CoreV1Api:
    """The official Python client, as an administrator."""
    return client.CoreV1Api(config.new_client_from_config(str(private.kubeconfig)))


_numbers = itertools.count(1)


@pytest.fixture
def namespace(core: client.CoreV1Api) -> str:
    """A fresh namespace with its default account."""
    name = f"admission-{next(_numbers)}"
    core.create_namespace({"metadata": {"name": name}})
    until(lambda: core.list_namespaced_service_account(name).items)
    return name


@pytest.fixture
def kubectl(private: PrivateApi, namespace: str) -> Kubectl:
    """kubectl 1.33 in that namespace."""
    return Kubectl(private.kubeconfig, namespace)


def until(condition: Callable[[], Any], seconds: float = 20) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "this did not come true in time"
        time.sleep(0.02)
    return found
