"""Priority and fairness over HTTP: a flood by one user, and what another notices of it."""

from __future__ import annotations

import http.client
import ssl
import statistics
import threading
import time

from kubernetes import client, config

from tests.support.private_api import PrivateApi

THREADS = 32
OBJECTS = 1000


def token(core: client.CoreV1Api, namespace: str, name: str) -> str:
    """A token of a new account that may read in its namespace."""
    core.create_namespaced_service_account(namespace, {"metadata": {"name": name}})
    spec = {"audiences": [], "expirationSeconds": 3600}
    made = core.create_namespaced_service_account_token(name, namespace, {"spec": spec})
    return str(made.status.token)


class Caller:
    """One kept connection of one user."""

    def __init__(self, private: PrivateApi, bearer: str) -> None:
        context = ssl.create_default_context(cafile=str(private.ca))
        self._connection = http.client.HTTPSConnection("127.0.0.1", private.port, context=context, timeout=30)
        self._headers = {"Authorization": f"Bearer {bearer}"}

    def get(self, path: str) -> tuple[int, float, dict[str, str]]:
        """Status, seconds until the answer was there, and headers."""
        started = time.perf_counter()
        self._connection.request("GET", path, headers=self._headers)
        answer = self._connection.getresponse()
        answer.read()
        return answer.status, time.perf_counter() - started, dict(answer.getheaders())

    def close(self) -> None:
        self._connection.close()


def test_a_flood_does_not_slow_others(private: PrivateApi, core: client.CoreV1Api, namespace: str) -> None:
    api = config.new_client_from_config(str(private.kubeconfig))
    subjects = [
        {
            "kind": "Group",
            "apiGroup": "rbac.authorization.k8s.io",
            "name": f"system:serviceaccounts:{namespace}",
        }
    ]
    role = {"kind": "ClusterRole", "apiGroup": "rbac.authorization.k8s.io", "name": "view"}
    binding = {"metadata": {"name": "view"}, "subjects": subjects, "roleRef": role}
    client.RbacAuthorizationV1Api(api).create_namespaced_role_binding(namespace, binding)
    text = "x" * 500
    for number in range(OBJECTS):
        core.create_namespaced_config_map(
            namespace, {"metadata": {"name": f"c{number}"}, "data": {"k": text}}
        )
    flood, small = token(core, namespace, "flood"), token(core, namespace, "small")
    everything = f"/api/v1/namespaces/{namespace}/configmaps"
    stop = threading.Event()
    times: list[float] = []
    codes: set[int] = set()

    def pour() -> None:
        caller = Caller(private, flood)
        while not stop.is_set():
            status, seconds, _ = caller.get(everything)
            codes.add(status)
            times.append(seconds)
        caller.close()

    threads = [threading.Thread(target=pour) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    caller = Caller(private, small)
    waited: list[float] = []
    try:
        while len(times) < THREADS:
            time.sleep(0.01)
        for _ in range(20):
            status, seconds, headers = caller.get(f"{everything}?limit=1")
            assert status == 200 and headers["X-Kubernetes-PF-FlowSchema-UID"]
            waited.append(seconds)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        caller.close()
    assert codes <= {200, 429}
    flooded = statistics.median(times)
    assert statistics.median(waited) < flooded / 2, (statistics.median(waited), flooded)
