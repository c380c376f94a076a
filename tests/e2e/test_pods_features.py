"""What a pod can ask of its node, on the lab: every pod of this file is created at once, each test looks at its own.

The manifests name no node: the scheduler chooses.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest

Pod = dict[str, Any]
BUSYBOX = "busybox:1.36"
WEB = "nginx:1.25"


def shell(script: str, **more: Any) -> Pod:
    return {"name": "c", "image": BUSYBOX, "command": ["sh", "-c", script]} | more


def pod(name: str, *containers: Pod, **spec: Any) -> Pod:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}, "annotations": {"note": "hello"}},
        "spec": {"terminationGracePeriodSeconds": 1, "containers": list(containers)} | spec,
    }


def once(name: str, script: str, *, context: Pod | None = None, **spec: Any) -> Pod:
    """A pod that says something and ends."""
    more = {"securityContext": context} if context else {}
    mounts = spec.pop("mounts", None)
    more |= {"volumeMounts": mounts} if mounts else {}
    more |= spec.pop("container", {})
    return pod(name, shell(script, **more), **({"restartPolicy": "Never"} | spec))


HELD = "trap 'exit 0' TERM; while true; do sleep 0.2; done"
VOLUME = [{"name": "v", "mountPath": "/v"}]

OBJECTS: list[Pod] = [
    {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "conf"},
        "data": {"color": "blue", "size": "big"},
        "binaryData": {"raw": base64.b64encode(b"\x00\xff").decode()},
    },
    {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "hush"}, "stringData": {"word": "sesame"}},
    {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "live"}, "data": {"version": "one"}},
]

CLASSES: list[Pod] = [
    {
        "apiVersion": "node.k8s.io/v1",
        "kind": "RuntimeClass",
        "metadata": {"name": f"t-plain-{os.getpid()}"},
        "handler": "runc",
        "overhead": {"podFixed": {"cpu": "10m", "memory": "16Mi"}},
    },
    {
        "apiVersion": "node.k8s.io/v1",
        "kind": "RuntimeClass",
        "metadata": {"name": f"t-odd-{os.getpid()}"},
        "handler": "kata",
    },
]

PODS: list[Pod] = [
    # -- runtime classes
    once("class-plain", "true", runtimeClassName=CLASSES[0]["metadata"]["name"]),
    once("class-odd", "true", runtimeClassName=CLASSES[1]["metadata"]["name"]),
    # -- images
    once("image-missing", "true", container={"image": "127.0.0.1:5000/none/such:v9"}),
    once("image-never", "true", container={"image": "nothing/here:v1", "imagePullPolicy": "Never"}),
    once("image-invalid", "true", container={"image": "Not A Name"}),
    # -- order, sidecars
    pod(
        "sidecar",
        shell("test -e /v/side && test -e /v/init && echo ordered; sleep 1", volumeMounts=VOLUME),
        restartPolicy="Never",
        volumes=[{"name": "v", "emptyDir": {}}],
        initContainers=[
            shell(
                f"sleep 0.3; touch /v/side; {HELD}",
                name="side",
                restartPolicy="Always",
                volumeMounts=VOLUME,
                startupProbe={"exec": {"command": ["test", "-e", "/v/side"]}, "periodSeconds": 1},
            ),
            shell("test -e /v/side && touch /v/init", name="init", volumeMounts=VOLUME),
        ],
    ),
    once("init-fails", "true", initContainers=[shell("exit 4", name="init")]),
    # -- probes
    pod(
        "probes-good",
        {
            "name": "c",
            "image": WEB,
            "ports": [{"name": "web", "containerPort": 80}],
            "startupProbe": {"tcpSocket": {"port": "web"}, "periodSeconds": 1},
            "readinessProbe": {"httpGet": {"path": "/", "port": "web"}, "periodSeconds": 1},
            "livenessProbe": {"tcpSocket": {"port": 80}, "periodSeconds": 1},
        },
    ),
    pod(
        "probe-ready-no",
        shell(HELD, readinessProbe={"tcpSocket": {"port": 81}, "periodSeconds": 1}),
    ),
    pod(
        "probe-live-fails",
        shell(
            HELD, livenessProbe={"exec": {"command": ["false"]}, "periodSeconds": 1, "failureThreshold": 2}
        ),
    ),
    pod(
        "probe-startup-fails",
        shell(HELD, startupProbe={"tcpSocket": {"port": 9}, "periodSeconds": 1, "failureThreshold": 2}),
    ),
    pod("probe-grpc-none", shell(HELD, readinessProbe={"grpc": {"port": 5000}, "periodSeconds": 1})),
    # -- hooks
    pod(
        "hooks",
        shell(
            HELD,
            volumeMounts=VOLUME,
            lifecycle={
                "postStart": {"exec": {"command": ["touch", "/v/begun"]}},
                "preStop": {"exec": {"command": ["sh", "-c", "echo stopped > /proc/1/fd/1; sleep 1"]}},
            },
        ),
        volumes=[{"name": "v", "emptyDir": {}}],
        terminationGracePeriodSeconds=20,
    ),
    pod("hook-fails", shell(HELD, lifecycle={"postStart": {"exec": {"command": ["false"]}}})),
    # -- security
    once("as-user", "id -u; id -g; id -G", context={"runAsUser": 1000, "runAsGroup": 3000}),
    once(
        "fs-group",
        "id -G; stat -c '%g %a' /v; echo x > /v/f && stat -c %g /v/f",
        mounts=VOLUME,
        volumes=[{"name": "v", "emptyDir": {}}],
        securityContext={"runAsUser": 1000, "fsGroup": 2000, "supplementalGroups": [4000]},
    ),
    once("not-root", "true", context={"runAsNonRoot": True}),
    once("not-root-by-number", "true", context={"runAsNonRoot": True, "runAsUser": 0}),
    once("own-users", "true", hostUsers=False),
    once("filtered", "grep Seccomp: /proc/self/status", context={"seccompProfile": {"type": "RuntimeDefault"}}),
    once("read-only", "touch /x && echo wrote; true", context={"readOnlyRootFilesystem": True}),
    once(
        "capabilities",
        "grep CapEff /proc/self/status; chown 5 /tmp && echo owned; true",
        context={"capabilities": {"drop": ["ALL"], "add": ["NET_ADMIN"]}},
    ),
    once("privileged", "mkdir /m; mount -t tmpfs x /m && echo mounted", context={"privileged": True}),
    once("no-new-privs", "grep NoNewPrivs /proc/self/status", context={"allowPrivilegeEscalation": False}),
    # -- termination
    once("message-file", "echo -n bye > /dev/termination-log; exit 3"),
    once(
        "message-path",
        "echo -n done > /dev/other",
        context={"runAsUser": 1000},
        container={"terminationMessagePath": "/dev/other"},
    ),
    once(
        "message-log",
        "echo from-the-log; exit 1",
        container={"terminationMessagePolicy": "FallbackToLogsOnError"},
    ),
    once("ends-well", "exit 0"),
    once("ends-ill", "exit 9"),
    once("on-failure", "exit 2", restartPolicy="OnFailure"),
    once("deadline", HELD, activeDeadlineSeconds=2),
    # -- environment and volumes
    once(
        "environment",
        "env; ls -la /v; cat /v/labels /v/cpu",
        mounts=VOLUME,
        container={
            "args": [],
            "envFrom": [
                {"configMapRef": {"name": "conf"}, "prefix": "C_"},
                {"secretRef": {"name": "hush"}},
                {"configMapRef": {"name": "absent", "optional": True}},
            ],
            "env": [
                {"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
                {"name": "NOTE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.annotations['note']"}}},
                {"name": "MEM", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory"}}},
                {"name": "ONE", "valueFrom": {"configMapKeyRef": {"name": "conf", "key": "color"}}},
                {"name": "BOTH", "value": "$(ONE)-$(NAME)-$$(ONE)"},
            ],
            "resources": {"limits": {"memory": "32Mi", "cpu": "200m"}},
        },
        volumes=[
            {
                "name": "v",
                "downwardAPI": {
                    "items": [
                        {"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}},
                        {
                            "path": "cpu",
                            "resourceFieldRef": {
                                "containerName": "c",
                                "resource": "limits.cpu",
                                "divisor": "1m",
                            },
                        },
                    ]
                },
            }
        ],
    ),
    once("env-missing", "true", container={"envFrom": [{"configMapRef": {"name": "absent"}}]}),
    once(
        "projected",
        "cd /v; cat color word name; stat -Lc %a color word; wc -c < raw; test -s token && echo token",
        mounts=VOLUME,
        volumes=[
            {
                "name": "v",
                "projected": {
                    "defaultMode": 0o440,
                    "sources": [
                        {"configMap": {"name": "conf"}},
                        {"secret": {"name": "hush", "items": [{"key": "word", "path": "word", "mode": 256}]}},
                        {
                            "downwardAPI": {
                                "items": [{"path": "name", "fieldRef": {"fieldPath": "metadata.name"}}]
                            }
                        },
                        {"serviceAccountToken": {"path": "token", "audience": "me"}},
                    ],
                },
            }
        ],
    ),
    once(
        "sub-path",
        "cat /one; ls /part; echo y > /part/y; cat /all/deep/y",
        mounts=[
            {"name": "v", "mountPath": "/one", "subPath": "color"},
            {"name": "e", "mountPath": "/part", "subPathExpr": "$(DIR)"},
            {"name": "e", "mountPath": "/all"},
        ],
        container={"env": [{"name": "DIR", "value": "deep"}]},
        volumes=[{"name": "v", "configMap": {"name": "conf"}}, {"name": "e", "emptyDir": {}}],
    ),
    once(
        "memory-volume",
        "grep ' /v ' /proc/mounts; stat -c %a /v",
        mounts=VOLUME,
        volumes=[{"name": "v", "emptyDir": {"medium": "Memory", "sizeLimit": "8Mi"}}],
    ),
    once(
        "host-path",
        "echo z > /v/z && cat /v/z && test -f /f && echo file",
        mounts=[*VOLUME, {"name": "f", "mountPath": "/f"}],
        volumes=[
            {"name": "v", "hostPath": {"path": "/var/lib/kubelet/e2e-dir", "type": "DirectoryOrCreate"}},
            {"name": "f", "hostPath": {"path": "/var/lib/kubelet/e2e-file", "type": "FileOrCreate"}},
        ],
    ),
    once(
        "host-path-wrong",
        "true",
        mounts=VOLUME,
        volumes=[{"name": "v", "hostPath": {"path": "/var/lib/kubelet/absent", "type": "Directory"}}],
    ),
    pod(
        "refreshed",
        shell(HELD, volumeMounts=VOLUME),
        volumes=[{"name": "v", "configMap": {"name": "live"}}],
    ),
    # -- namespaces of the machine, names
    pod(
        "one-pid-space",
        shell(HELD),
        shell("sleep 1234", name="other"),
        shareProcessNamespace=True,
    ),
    once("host-network", "ip -o addr show eth0; cat /etc/resolv.conf", hostNetwork=True),
    once(
        "names",
        "cat /etc/hosts; hostname -f; hostname",
        hostAliases=[{"ip": "10.1.2.3", "hostnames": ["foo.local", "bar.local"]}],
        hostname="given",
        subdomain="sub",
    ),
    once(
        "dns-none",
        "cat /etc/resolv.conf",
        dnsPolicy="None",
        dnsConfig={"nameservers": ["1.2.3.4"], "searches": ["x.y"], "options": [{"name": "ndots", "value": "3"}]},
    ),
    once("dns-default", "cat /etc/resolv.conf", dnsPolicy="Default"),
    once("dns-cluster", "cat /etc/resolv.conf"),
    pod("host-port", {"name": "c", "image": WEB, "ports": [{"containerPort": 80, "hostPort": 18089}]}),
    once("arguments", "echo $0", container={"args": ["from-args"]}),
]  # fmt: skip


class Room:
    """The namespace of this file and what is read from it."""

    def __init__(self, kubectl: Any, name: str, eventually: Callable[..., Any]) -> None:
        self.kubectl, self.name, self.eventually = kubectl.within(name), name, eventually

    def pod(self, name: str) -> Pod:
        return dict(self.kubectl.json("get", "pod", name))

    def phase(self, name: str, wanted: str, seconds: float = 60) -> Pod:
        """The pod once it has that phase."""

        def look() -> Pod | None:
            found = self.pod(name)
            return found if found["status"]["phase"] == wanted else None

        return dict(self.eventually(look, seconds, f"{name} to be {wanted}"))

    def log(self, name: str, phase: str = "Succeeded", container: str = "c") -> str:
        self.phase(name, phase)
        return str(self.kubectl("logs", name, "-c", container))

    def state(self, name: str, kind: str, reason: str, seconds: float = 60, field: str = "state") -> Pod:
        """The state of the first container once it is waiting/terminated for that reason."""

        def look() -> Pod | None:
            statuses = self.pod(name)["status"].get("containerStatuses") or [{}]
            found = (statuses[0].get(field) or {}).get(kind) or {}
            return found if found.get("reason") == reason else None

        return dict(self.eventually(look, seconds, f"{name} to be {kind} because of {reason}"))

    def event(self, name: str, reason: str, text: str = "", seconds: float = 60) -> Pod:
        """An event about the pod."""

        def look() -> Pod | None:
            words = ("get", "events", f"--field-selector=involvedObject.name={name},reason={reason}")
            items = self.kubectl.json(*words)["items"]
            return next((e for e in items if text in e["message"]), None)

        return dict(self.eventually(look, seconds, f"event {reason} of {name}"))


@pytest.fixture(scope="module")
def room(kubectl: Any, eventually: Callable[..., Any]) -> Iterator[Room]:
    name = f"t-pods-features-{os.getpid()}"
    kubectl("create", "namespace", name)
    given = {"apiVersion": "v1", "kind": "List", "items": [*OBJECTS, *CLASSES, *PODS]}
    made = Room(kubectl, name, eventually)
    eventually(lambda: made.kubectl.run("get", "serviceaccount", "default").returncode == 0, 20, "account")
    made.kubectl("create", "-f", "-", stdin=json.dumps(given))
    yield made
    kubectl.run("delete", "namespace", name, "--wait=false")
    kubectl.run("delete", "runtimeclass", *(item["metadata"]["name"] for item in CLASSES))


# -- runtime classes -------------------------------------------------------------------------------------------


def test_the_handler_of_a_runtime_class_runs_the_pod(room: Room) -> None:
    assert room.phase("class-plain", "Succeeded")["spec"]["overhead"] == {"cpu": "10m", "memory": "16Mi"}
    room.event("class-odd", "FailedCreatePodSandBox", 'no runtime for "kata" is configured')


# -- images ----------------------------------------------------------------------------------------------------


def test_missing_image_backs_off(room: Room) -> None:
    waiting = room.state("image-missing", "waiting", "ImagePullBackOff")
    assert waiting["message"].startswith('Back-off pulling image "127.0.0.1:5000/none/such:v9"')
    assert room.event("image-missing", "Failed", "Error: ErrImagePull")
    assert room.event("image-missing", "BackOff", "Back-off pulling image")
    assert room.pod("image-missing")["status"]["phase"] == "Pending"


def test_image_never_pulled_and_invalid_name(room: Room) -> None:
    room.state("image-never", "waiting", "ErrImageNeverPull")
    room.state("image-invalid", "waiting", "InvalidImageName")


# -- init containers and sidecars ------------------------------------------------------------------------------


def test_sidecar_starts_before_and_ends_after(room: Room) -> None:
    assert room.log("sidecar") == "ordered\n"
    found = room.pod("sidecar")
    side = next(s for s in found["status"]["initContainerStatuses"] if s["name"] == "side")
    assert side["state"]["terminated"]["exitCode"] == 0
    main = found["status"]["containerStatuses"][0]["state"]["terminated"]
    assert main["startedAt"] >= side["state"]["terminated"]["startedAt"]


def test_failed_init_fails_the_pod(room: Room) -> None:
    found = room.phase("init-fails", "Failed")
    assert found["status"]["initContainerStatuses"][0]["state"]["terminated"]["exitCode"] == 4
    assert found["status"]["containerStatuses"][0]["state"]["waiting"]["reason"] == "PodInitializing"


# -- probes ----------------------------------------------------------------------------------------------------


def test_good_probes_make_ready(room: Room) -> None:
    room.kubectl("wait", "--for=condition=Ready", "pod/probes-good", "--timeout=30s")
    status = room.pod("probes-good")["status"]["containerStatuses"][0]
    assert status["started"] is True and status["restartCount"] == 0


def test_failing_readiness_keeps_running_but_unready(room: Room) -> None:
    room.event("probe-ready-no", "Unhealthy", "Readiness probe failed: dial tcp")
    status = room.pod("probe-ready-no")["status"]["containerStatuses"][0]
    assert status["ready"] is False and status["restartCount"] == 0 and "running" in status["state"]
    room.event("probe-grpc-none", "Unhealthy", "Readiness probe failed:")


@pytest.mark.parametrize("name", ["probe-live-fails", "probe-startup-fails"])
def test_failing_liveness_and_startup_restart(room: Room, name: str) -> None:
    kind = "liveness" if "live" in name else "startup"
    room.event(name, "Killing", f"Container c failed {kind} probe, will be restarted")
    room.eventually(
        lambda: room.pod(name)["status"]["containerStatuses"][0]["restartCount"] >= 1, 40, "restart"
    )


# -- hooks -----------------------------------------------------------------------------------------------------


def test_hooks_run(room: Room) -> None:
    room.kubectl("wait", "--for=condition=Ready", "pod/hooks", "--timeout=30s")
    room.kubectl("exec", "hooks", "--", "test", "-e", "/v/begun")
    room.kubectl("delete", "pod", "hooks", "--wait=false")
    room.eventually(lambda: "stopped" in room.kubectl("logs", "hooks"), 10, "the preStop hook's line")
    room.kubectl("wait", "--for=delete", "pod/hooks", "--timeout=30s")


def test_failed_post_start_kills(room: Room) -> None:
    room.event("hook-fails", "FailedPostStartHook")
    room.eventually(
        lambda: room.pod("hook-fails")["status"]["containerStatuses"][0]["restartCount"] >= 1, 40, "restart"
    )


# -- security --------------------------------------------------------------------------------------------------


def test_user_and_groups(room: Room) -> None:
    assert room.log("as-user").split() == ["1000", "3000", "3000"]
    groups, folder, file = room.log("fs-group").splitlines()
    assert {"2000", "4000"} <= set(groups.split())
    assert folder.split()[0] == "2000" and file == "2000"


def test_run_as_non_root_is_refused(room: Room) -> None:
    waiting = room.state("not-root", "waiting", "CreateContainerConfigError")
    assert waiting["message"].startswith("container has runAsNonRoot and image will run as root (pod: ")
    waiting = room.state("not-root-by-number", "waiting", "CreateContainerConfigError")
    assert waiting["message"].startswith("container's runAsUser breaks non-root policy (pod: ")


def test_read_only_root_and_capabilities(room: Room) -> None:
    assert "wrote" not in room.log("read-only")
    text = room.log("capabilities")
    effective = next(line for line in text.splitlines() if line.startswith("CapEff:"))
    assert int(effective.split()[1], 16) == 1 << 12 and "owned" not in text
    assert "mounted" in room.log("privileged")
    assert room.log("no-new-privs").split() == ["NoNewPrivs:", "1"]
    assert room.log("filtered").split() == ["Seccomp:", "2"]


def test_users_of_its_own_are_refused_aloud(room: Room) -> None:
    said = room.event("own-users", "FailedCreatePodSandBox")
    text = "can't set `spec.hostUsers: false`, runtime does not support user namespaces"
    assert f"Failed to create pod sandbox: {text}" in str(said)


# -- termination -----------------------------------------------------------------------------------------------


def test_termination_messages(room: Room) -> None:
    def message(name: str, phase: str) -> str:
        return str(
            room.phase(name, phase)["status"]["containerStatuses"][0]["state"]["terminated"]["message"]
        )

    assert message("message-file", "Failed") == "bye"
    assert message("message-path", "Succeeded") == "done"
    assert message("message-log", "Failed") == "from-the-log\n"


def test_phases_of_pods_that_end(room: Room) -> None:
    room.phase("ends-well", "Succeeded")
    found = room.phase("ends-ill", "Failed")["status"]["containerStatuses"][0]
    assert found["state"]["terminated"]["exitCode"] == 9 and found["restartCount"] == 0
    room.eventually(
        lambda: room.pod("on-failure")["status"]["containerStatuses"][0]["restartCount"] >= 1, 40, "restart"
    )
    room.state("on-failure", "waiting", "CrashLoopBackOff")


def test_deadline_fails_the_pod(room: Room) -> None:
    found = room.phase("deadline", "Failed")
    assert found["status"]["reason"] == "DeadlineExceeded"


# -- environment and volumes -----------------------------------------------------------------------------------


def test_environment_and_downward_files(room: Room) -> None:
    text = room.log("environment")
    lines = text.splitlines()
    found = room.pod("environment")
    for line in (
        "C_color=blue", "C_size=big", "word=sesame", "NAME=environment", "NOTE=hello", f"MEM={32 << 20}",
        "ONE=blue", "BOTH=blue-environment-$(ONE)", f"NODE={found['spec']['nodeName']}",
        "KUBERNETES_SERVICE_HOST=10.96.0.1", "KUBERNETES_SERVICE_PORT=443",
    ):  # fmt: skip
        assert line in lines
    assert any(line.startswith("IP=10.244.") for line in lines)
    assert 'app="environment"' in text and text.rstrip().endswith("200")


def test_missing_config_is_named(room: Room) -> None:
    waiting = room.state("env-missing", "waiting", "CreateContainerConfigError")
    assert 'configmap "absent" not found' in waiting["message"]


def test_projected_volume(room: Room) -> None:
    text = room.log("projected")
    assert text.startswith("bluesesameprojected440\n400\n")
    assert text.split()[-2:] == ["2", "token"]


def test_sub_paths(room: Room) -> None:
    assert room.log("sub-path") == "bluey\n"


def test_memory_volume(room: Room) -> None:
    line, mode = room.log("memory-volume").splitlines()
    assert line.split()[2] == "tmpfs" and "size=8192k" in line and mode == "1777"


def test_host_paths(room: Room) -> None:
    assert room.log("host-path").split() == ["z", "file"]
    room.event("host-path-wrong", "FailedMount", "hostPath type check failed")
    assert room.pod("host-path-wrong")["status"]["phase"] == "Pending"


def test_changed_config_map_reaches_the_volume(room: Room) -> None:
    room.kubectl("wait", "--for=condition=Ready", "pod/refreshed", "--timeout=30s")
    room.kubectl("patch", "configmap", "live", "-p", '{"data": {"version": "two"}}')
    room.eventually(
        lambda: room.kubectl("exec", "refreshed", "--", "cat", "/v/version") == "two",
        10,
        "the new version",
    )


# -- namespaces of the machine, names --------------------------------------------------------------------------


def test_shared_process_namespace(room: Room) -> None:
    room.kubectl("wait", "--for=condition=Ready", "pod/one-pid-space", "--timeout=30s")
    listed = room.kubectl("exec", "one-pid-space", "-c", "c", "--", "ps")
    assert "sleep 1234" in listed and "pause" in listed


def test_host_network_and_dns(room: Room) -> None:
    text = room.log("host-network")
    found = room.pod("host-network")["status"]
    assert found["hostIP"] == found["podIP"] and found["hostIP"] in text
    assert "10.96.0.10" not in text
    assert room.log("dns-none").splitlines() == ["search x.y", "nameserver 1.2.3.4", "options ndots:3"]
    assert "10.96.0.10" not in room.log("dns-default")
    cluster = room.log("dns-cluster")
    assert f"{room.name}.svc.cluster.local svc.cluster.local cluster.local" in cluster
    assert "nameserver 10.96.0.10" in cluster and "ndots:5" in cluster


def test_host_names_and_aliases(room: Room) -> None:
    lines = room.log("names").splitlines()
    assert any(line.split() == ["10.1.2.3", "foo.local", "bar.local"] for line in lines)
    assert lines[-2:] == [f"given.sub.{room.name}.svc.cluster.local", "given"]


def test_host_port(room: Room) -> None:
    room.kubectl("wait", "--for=condition=Ready", "pod/host-port", "--timeout=30s")
    host = room.pod("host-port")["status"]["hostIP"]
    asked = f"wget -q -O - http://{host}:18089/ | head -c 15"
    room.kubectl("run", "asks", f"--image={BUSYBOX}", "--restart=Never", "--command", "--", "sh", "-c", asked)
    assert room.log("asks", container="asks").startswith("<!")


def test_arguments(room: Room) -> None:
    assert room.log("arguments") == "from-args\n"
