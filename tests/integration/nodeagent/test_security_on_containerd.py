"""Security contexts on real containerd: what the kernel says of processes that run under them."""

from __future__ import annotations

import json
from typing import Any

from bamikube.nodeagent import figures

JSON = dict[str, Any]
REPORT = """
{ id -u; id -g; id -G
sed -n 's/^\\(NoNewPrivs\\|Seccomp\\|CapEff\\):\\t/\\1 /p' /proc/self/status
} > /dev/termination-log
"""
NET_BIND, ALL_CHOWN = 1 << 10, 1 << 0


def reporting(node: Any, name: str, own: JSON, script: str = REPORT, **spec: Any) -> Any:
    container = {"name": "c", "command": ["sh", "-c", script], "securityContext": own}
    return node.run(node.pod(name, {"restartPolicy": "Never", "containers": [container], **spec}))


def ended(worker: Any) -> str:
    items = worker.status.get("containerStatuses") or [{}]
    return str(items[0].get("state", {}).get("terminated", {}).get("message", ""))


async def test_users_groups_capabilities_and_filters_reach_the_kernel(node: Any, until: Any) -> None:
    context = {"runAsUser": 1000, "runAsGroup": 3000, "fsGroup": 2000, "supplementalGroups": [4000]}
    confined = {"type": "RuntimeDefault"}
    few = {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]}
    workers = {
        "groups": reporting(node, "groups", {}, securityContext=context),
        "tight": reporting(
            node,
            "tight",
            {"allowPrivilegeEscalation": False, "seccompProfile": confined, "capabilities": few},
        ),
        "free": reporting(node, "free", {"privileged": True, "seccompProfile": {"type": "Unconfined"}}),
        "all": reporting(node, "all", {"capabilities": {"add": ["ALL"], "drop": ["CHOWN"]}}),
    }
    await until(lambda: all(ended(worker) for worker in workers.values()))
    lines = {name: ended(worker).splitlines() for name, worker in workers.items()}
    assert lines["groups"][:3] == ["1000", "3000", "3000 2000 4000"]
    told = {
        name: dict(line.split() for line in found[3:]) for name, found in lines.items() if name != "groups"
    }
    assert told["tight"]["NoNewPrivs"] == "1" and told["tight"]["Seccomp"] == "2"
    assert int(told["tight"]["CapEff"], 16) == NET_BIND
    assert told["free"]["Seccomp"] == "0" and told["free"]["NoNewPrivs"] == "0"
    assert int(told["free"]["CapEff"], 16).bit_count() > 14
    everything = int(told["all"]["CapEff"], 16)
    assert everything & NET_BIND and not everything & ALL_CHOWN


async def test_a_profile_of_the_node_is_enforced(node: Any, until: Any) -> None:
    folder = node.root / "seccomp"
    folder.mkdir()
    rule = {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}
    (folder / "no-folders.json").write_text(
        json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]})
    )
    given = {"seccompProfile": {"type": "Localhost", "localhostProfile": "no-folders.json"}}
    script = (
        "mkdir /x 2> /dev/null && echo made > /dev/termination-log || echo refused > /dev/termination-log"
    )
    worker = reporting(node, "own", given, script)
    absent = reporting(
        node, "absent", {"seccompProfile": {"type": "Localhost", "localhostProfile": "none.json"}}
    )
    await until(lambda: ended(worker) == "refused\n")
    await until(lambda: bool(node.api.said("Failed")))
    assert str(folder / "none.json") in node.api.said("Failed")[0]
    assert absent.status["containerStatuses"][0]["state"]["waiting"]["reason"] == "CreateContainerError"


async def test_root_where_it_may_not_be_waits_and_says_why(node: Any, until: Any) -> None:
    counted = figures.STARTED_CONTAINERS_ERRORS.labels("container", "CreateContainerConfigError")
    before = counted._value.get()
    by_image = reporting(node, "by-image", {"runAsNonRoot": True})
    by_number = reporting(node, "by-number", {"runAsNonRoot": True, "runAsUser": 0})

    def waiting(worker: Any) -> JSON:
        items = worker.status.get("containerStatuses") or [{}]
        found: JSON = items[0].get("state", {}).get("waiting", {})
        return found

    await until(
        lambda: all(
            waiting(worker).get("reason") == "CreateContainerConfigError" for worker in (by_image, by_number)
        )
    )
    where = '(pod: "{}_default({})", container: c)'
    text = "container has runAsNonRoot and image will run as root "
    assert waiting(by_image)["message"] == text + where.format("by-image", by_image.uid)
    text = "container's runAsUser breaks non-root policy "
    assert waiting(by_number)["message"] == text + where.format("by-number", by_number.uid)
    assert await node.runtime.list_containers(by_image.uid) == []
    assert counted._value.get() >= before + 2


async def test_what_a_container_says_counts_before_what_its_pod_says(node: Any, until: Any) -> None:
    """And settings of the kernel by either way to write them, a group without a user, a root that is only read."""
    confined = {"seccompProfile": {"type": "RuntimeDefault"}, "runAsUser": 5, "runAsNonRoot": True}
    free = {"seccompProfile": {"type": "Unconfined"}, "runAsUser": 1001}
    settings = [
        {"name": "kernel.shm_rmid_forced", "value": "1"},
        {"name": "net/ipv4/ip_unprivileged_port_start", "value": "80"},
    ]
    few = {"capabilities": {"drop": ["CAP_CHOWN"], "add": ["cap_net_admin"]}}
    told = "{ %s; } > /dev/termination-log 2>&1"
    read = "cat /proc/sys/kernel/shm_rmid_forced /proc/sys/net/ipv4/ip_unprivileged_port_start"
    rows: dict[str, tuple[str, JSON, JSON, str]] = {
        "pod": ("id -u; grep -o 'Seccomp:.*' /proc/self/status", {}, confined, "5\nSeccomp:\t2\n"),
        "own": ("id -u; grep -o 'Seccomp:.*' /proc/self/status", free, confined, "1001\nSeccomp:\t0\n"),
        "group": ("id -u; id -G", {"runAsGroup": 2002}, {}, "0\n2002\n"),
        "root": (
            "touch /x || touch /dev/shm/x && echo shm",
            {"readOnlyRootFilesystem": True},
            {},
            "touch: /x: Read-only file system\nshm\n",
        ),
        "kernel": (read, {}, {"sysctls": settings}, "1\n80\n"),
        "few": ("grep CapEff /proc/self/status", few, {}, "CapEff:\t00000000a80435fa\n"),
    }
    workers = {
        name: reporting(node, name, own, told % script, securityContext=pod)
        for name, (script, own, pod, _) in rows.items()
    }
    await until(lambda: all(ended(worker) for worker in workers.values()))
    assert {name: ended(worker) for name, worker in workers.items()} == {
        name: row[3] for name, row in rows.items()
    }
    wrong = reporting(
        node, "wrong", {}, securityContext={"sysctls": [{"name": "kernel.msgmax", "value": "many"}]}
    )
    await until(lambda: bool(node.api.said("FailedCreatePodSandBox")))
    assert "write /proc/sys/kernel/msgmax: invalid argument" in node.api.said("FailedCreatePodSandBox")[0]
    assert wrong.status["phase"] == "Pending"
