"""The lab itself: up twice, status, logs, the API from the machine, units that are killed."""

from __future__ import annotations

import os
import signal
import ssl
import stat
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


def test_up_again_says_what_already_runs(lab: Any) -> None:
    done = lab("up")
    assert "already runs" in done.stdout
    assert "worker-2" in done.stdout


def test_status_shows_three_ready_nodes_and_their_units(lab: Any, eventually: Callable[..., Any]) -> None:
    eventually(lambda: all(node["kubernetes"] == "Ready" for node in lab.status()["nodes"]))
    nodes = {node["name"]: node for node in lab.status()["nodes"]}
    assert [node["address"] for node in nodes.values()] == ["10.99.0.10", "10.99.0.11", "10.99.0.12"]
    for node in nodes.values():
        assert node["state"] == "running"
        assert {"containerd", "nodeagent", "proxy", "network"} <= set(node["units"])
    assert {"etcd", "apiserver", "scheduler", "controllers", "dns"} <= set(nodes["master"]["units"])
    assert Path(f"/proc/{nodes['master']['units']['etcd']['pid']}").exists()


def test_the_kubeconfig_is_private_and_works_from_the_machine(
    lab: Any, kubeconfig: str, kubectl: Any
) -> None:
    assert stat.S_IMODE(os.stat(kubeconfig).st_mode) == 0o600
    assert kubectl("config", "current-context").strip() == "bamikube"
    assert len(kubectl("get", "nodes", "-o", "name").split()) == 3


def test_without_credentials_the_api_is_reachable_and_says_no(lab: Any) -> None:
    context = ssl.create_default_context(
        cafile=str(lab.folder / "nodes/master/disk/etc-kubernetes/pki/ca.crt")
    )
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(
            "https://10.99.0.10:6443/api/v1/namespaces/default/pods", context=context, timeout=10
        )
    assert caught.value.code in (401, 403)


def test_logs_of_a_unit(lab: Any) -> None:
    assert "containerd" in lab("logs", "worker-1").stdout.split()
    assert "containerd" in lab("logs", "worker-1", "containerd").stdout
    failed = lab("logs", "worker-1", "nothing", check=False)
    assert failed.returncode == 1
    assert "no unit" in failed.stderr


@pytest.mark.parametrize("unit", ["scheduler", "controllers", "apiserver", "etcd", "dns"])
def test_a_killed_unit_of_the_control_plane_comes_back(
    lab: Any, kubectl: Any, eventually: Callable[..., Any], unit: str
) -> None:
    kubectl("create", "configmap", f"kept-{unit}", "--from-literal=a=b")
    before = eventually(lambda: lab.unit_pid("master", unit))
    os.kill(before, signal.SIGKILL)
    eventually(lambda: lab.unit_pid("master", unit) not in (0, before), 30, f"{unit} runs again")
    eventually(lambda: kubectl.run("get", "configmap", f"kept-{unit}").returncode == 0, 30)
    kubectl("delete", "configmap", f"kept-{unit}")


def test_certificates_and_etcd_are_looked_after_from_the_machine(lab: Any) -> None:
    assert "kube-apiserver" in lab("certs", "list").stdout
    assert "10.99.0.10:2379" in lab("etcd", "status").stdout


def test_images_are_listed(lab: Any) -> None:
    listed = lab("image", "list").stdout
    for name in ("nginx:stable", "busybox:latest", "kubetm/app:v1", "bamikube/client:latest"):
        assert name in listed
