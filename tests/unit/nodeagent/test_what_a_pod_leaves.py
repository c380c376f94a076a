"""Pods that the API has forgotten while the node agent was away: what is left of them is found and removed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bamikube.nodeagent.host.cgroups import Cgroups
from bamikube.nodeagent.host.linux import LinuxHost


def pod(name: str, uid: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "shop", "uid": uid}}


def test_logs_tell_of_a_pod_whose_other_folders_are_gone(tmp_path: Path) -> None:
    host = LinuxHost(tmp_path / "kubelet", tmp_path / "log", Cgroups("/none", "cgroupfs"))
    (tmp_path / "log/containers").mkdir(parents=True)
    (tmp_path / "log/pods/not-a-pod").mkdir(parents=True)
    (tmp_path / "kubelet/pods/u-3").mkdir(parents=True)
    for name, uid in (("web", "u-1"), ("web", "u-2")):
        log = Path(host.log_directory(pod(name, uid))) / "c" / "0.log"
        log.parent.mkdir(parents=True)
        log.touch()
        host.link_log(pod(name, uid), "c", 0, f"id-{uid}")
    assert host.known_pods() == {"u-1", "u-2", "u-3"}
    host.remove_logs("u-1")
    assert host.known_pods() == {"u-2", "u-3"}
    assert [link.name for link in (tmp_path / "log/containers").iterdir()] == ["web_shop_c-id-u-2.log"]
    (tmp_path / "log/containers/odd.log").write_text("no link")
    (tmp_path / "log/pods/shop_web_u-2/c/0.log").unlink()  # it is just being rotated
    host.remove_logs("u-9")
    assert host.known_pods() == {"u-2", "u-3"}
    assert len(list((tmp_path / "log/containers").iterdir())) == 2


async def test_links_to_logs_that_are_gone_are_removed_at_the_start(tmp_path: Path) -> None:
    """A node agent that was killed between the folder and the link has left one."""
    host = LinuxHost(tmp_path / "kubelet", tmp_path / "log", Cgroups("/none", "cgroupfs", tmp_path / "none"))
    (tmp_path / "log/containers").mkdir(parents=True)
    for uid in ("u-1", "u-2"):
        Path(host.log_directory(pod("web", uid))).mkdir(parents=True)
        host.link_log(pod("web", uid), "c", 0, f"id-{uid}")
    Path(host.log_directory(pod("web", "u-1"))).rmdir()
    await host.start()
    assert [link.name for link in (tmp_path / "log/containers").iterdir()] == ["web_shop_c-id-u-2.log"]
