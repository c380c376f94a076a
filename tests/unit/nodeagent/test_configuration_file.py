"""The KubeletConfiguration: what a file, its drop-ins and the flags come to, and what is said of faulty ones."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import yaml

from bamikube.kit.options import parse_options
from bamikube.nodeagent import settings
from bamikube.nodeagent.configuration.fields import FIXED, HONOURED, UNUSED
from bamikube.nodeagent.configz import configuration
from bamikube.nodeagent.options import NodeAgentOptions
from bamikube.nodeagent.runtime.port import IdMap

HEAD = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n"

# As kubeadm writes it: most of it says nothing.
KUBEADM = (
    HEAD
    + """
authentication: {anonymous: {enabled: false}, webhook: {cacheTTL: 0s, enabled: true}, x509: {clientCAFile: /pki/ca.crt}}
authorization: {mode: Webhook, webhook: {cacheAuthorizedTTL: 0s, cacheUnauthorizedTTL: 0s}}
cgroupDriver: systemd
clusterDNS: [10.96.0.10]
clusterDomain: lab.test
containerRuntimeEndpoint: ""
cpuManagerReconcilePeriod: 0s
crashLoopBackOff: {}
evictionPressureTransitionPeriod: 0s
fileCheckFrequency: 0s
healthzBindAddress: 127.0.0.1
healthzPort: 10248
httpCheckFrequency: 0s
imageMaximumGCAge: 0s
imageMinimumGCAge: 0s
logging: {flushFrequency: 0, options: {json: {infoBufferSize: "0"}, text: {infoBufferSize: "0"}}, verbosity: 0}
memorySwap: {}
nodeStatusReportFrequency: 0s
nodeStatusUpdateFrequency: 0s
resolvConf: /run/systemd/resolve/resolv.conf
runtimeRequestTimeout: 0s
shutdownGracePeriod: 0s
shutdownGracePeriodCriticalPods: 0s
staticPodPath: /etc/kubernetes/manifests
streamingConnectionIdleTimeout: 0s
syncFrequency: 0s
volumeStatsAggPeriod: 0s
"""
)


def parsed(tmp_path: Path, text: str, *argv: str, **drop_ins: str) -> NodeAgentOptions:
    (tmp_path / "config.yaml").write_text(text)
    more = []
    if drop_ins:
        (tmp_path / "d").mkdir()
        more = [f"--config-dir={tmp_path / 'd'}"]
    for name, body in drop_ins.items():
        (tmp_path / "d" / f"{name}.conf").write_text(body)
    return parse_options(
        NodeAgentOptions, ["--config", str(tmp_path / "config.yaml"), *more, *argv], "bamikube-nodeagent"
    )


def test_a_file_of_kubeadm_is_read_and_nothing_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    got = parsed(tmp_path, KUBEADM)
    assert (got.cgroup_driver, got.cluster_dns, got.cluster_domain) == ("systemd", ["10.96.0.10"], "lab.test")
    assert (got.client_ca_file, got.pod_manifest_path) == ("/pki/ca.crt", "/etc/kubernetes/manifests")
    assert got.container_runtime_endpoint == NodeAgentOptions().container_runtime_endpoint
    assert got.eviction_pressure_transition_period == "5m"
    assert caplog.messages == []


def test_drop_ins_complete_the_file_and_flags_win(tmp_path: Path) -> None:
    got = parsed(
        tmp_path,
        HEAD
        + 'maxPods: 50\nclusterDNS: [10.0.0.1]\nevictionHard: {memory.available: 200Mi, "nodefs.available": "5%"}\n',
        "--max-pods=70",
        b=HEAD + "clusterDNS: [10.0.0.3]\nmaxPods: 60\nkubeReserved: {cpu: 1}\n",
        a=HEAD + "clusterDNS: [10.0.0.2]\nevictionHard: {memory.available: 300Mi}\n",
    )
    assert (got.max_pods, got.cluster_dns, got.kube_reserved) == (70, ["10.0.0.3"], {"cpu": "1"})
    assert got.eviction_hard == {"memory.available": "300Mi", "nodefs.available": "5%"}


def test_taints_and_priorities_are_objects_in_the_file(tmp_path: Path) -> None:
    got = parsed(
        tmp_path,
        HEAD
        + "registerWithTaints: [{key: a, value: 5, effect: NoSchedule}, {key: c, effect: NoExecute}]\n"
        + "shutdownGracePeriodByPodPriority: [{priority: 0, shutdownGracePeriodSeconds: 20}]\n",
    )
    assert got.register_with_taints == ["a=5:NoSchedule", "c:NoExecute"]
    assert got.shutdown_grace_period_by_pod_priority == {0: 20}


def test_managers_of_resources(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    got = parsed(
        tmp_path,
        HEAD
        + "memoryManagerPolicy: Static\nreservedMemory: [{numaNode: 0, limits: {memory: 1Gi, hugepages-2Mi: 2Gi}}]\n"
        + "topologyManagerPolicy: single-numa-node\ntopologyManagerScope: pod\n"
        + 'topologyManagerPolicyOptions: {prefer-closest-numa-nodes: "true"}\n',
    )
    assert got.memory_manager_policy == "Static" and got.reserved_memory == ["0:memory=1Gi,hugepages-2Mi=2Gi"]
    assert (got.topology_manager_policy, got.topology_manager_scope) == ("single-numa-node", "pod")
    shown = configuration(got)
    assert shown["reservedMemory"] == [{"numaNode": 0, "limits": {"hugepages-2Mi": "2Gi", "memory": "1Gi"}}]
    again = parsed(tmp_path, yaml.safe_dump(shown))
    assert again.reserved_memory == ["0:hugepages-2Mi=2Gi,memory=1Gi"]
    assert again.topology_manager_policy_options == {"prefer-closest-numa-nodes": "true"}
    assert caplog.messages == []


def test_ids_of_pods_with_users_of_their_own(tmp_path: Path) -> None:
    got = parsed(tmp_path, HEAD + "userNamespaces: {idsPerPod: 131072}\n")
    assert settings.user_ranges(got, 110).take("a") == IdMap(131072, 131072)
    assert settings.user_ranges(parsed(tmp_path, HEAD + "userNamespaces: {}\n"), 110).take("a") == IdMap(
        65536, 65536
    )
    with pytest.raises(ValueError) as caught:
        settings.user_ranges(parsed(tmp_path, HEAD + f"userNamespaces: {{idsPerPod: {2**26}}}\n"), 110)
    said = "kubelet user assigned IDs are not enough to support 110 pods"
    assert str(caught.value) == f"create user namespace manager: {said}"


def test_what_has_no_effect_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    parsed(
        tmp_path,
        HEAD
        + "hairpinMode: none\nkubeAPIQPS: 5\ntracing: {}\nvolumePluginDir: /x\nlogging: {flushFrequency: 5}\n",
    )
    assert caplog.messages == [
        "hairpinMode: 'none' has no effect: here it is always 'hairpin-veth'",
        "kubeAPIQPS has no effect on this node agent: requests to the API server are not held back here, it does that itself",
        "volumePluginDir has no effect on this node agent: there are no FlexVolumes",
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (HEAD + "maxPod: 5\n", 'strict decoding error: unknown field "maxPod"; do you mean maxPods?'),
        (
            HEAD + "authentication: {x509: {caFile: x}}\n",
            'strict decoding error: unknown field "authentication.x509.caFile"',
        ),
        (HEAD + "maxPods: 5\nmaxPods: 6\n", 'line 4: key "maxPods" already set in map'),
        (HEAD + "maxPods: many\n", "maxPods (--max-pods): Input should be a valid integer"),
        (
            HEAD + "imageGCHighThresholdPercent: 101\n",
            "imageGCHighThresholdPercent (--image-gc-high-threshold): ",
        ),
        (
            HEAD + "userNamespaces: {idsPerPod: 100000}\n",
            "userNamespaces.idsPerPod (--user-namespaces-ids-per-pod): Input should be a multiple of 65536",
        ),
        (HEAD + "podLogsDir: /var/log/of-pods\n", "podLogsDir: '/var/log/of-pods' is not an absolute path"),
        (HEAD + "tlsMinVersion: VersionTLS10\n", "tlsMinVersion (--tls-min-version): Input should be"),
        (HEAD + "registerWithTaints: [a]\n", "registerWithTaints: expected a list of taints"),
        (HEAD + "kubeReserved: [a]\n", "kubeReserved: expected a map"),
        (
            HEAD.replace("v1beta1", "v2"),
            "apiVersion 'kubelet.config.k8s.io/v2', kind 'KubeletConfiguration' is not",
        ),
        (HEAD + "a: [", "config.yaml: while parsing"),
        (HEAD + "? [a]\n: b\n", "line 3: a key has to be a text"),
    ],
)
def test_faults_name_the_file_and_the_field(
    text: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        parsed(tmp_path, text)
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


def test_a_faulty_drop_in_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parsed(tmp_path, HEAD, x=HEAD + "nope: 1\n")
    assert "d/x.conf: strict decoding error" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        parse_options(NodeAgentOptions, ["--config-dir=/does/not/exist"], "bamikube-nodeagent")
    assert "--config-dir /does/not/exist: No such file or directory" in capsys.readouterr().err
    (tmp_path / "config.yaml").write_bytes(b"\xff\xfe")
    with pytest.raises(SystemExit):
        parse_options(NodeAgentOptions, [f"--config={tmp_path / 'config.yaml'}"], "bamikube-nodeagent")
    assert "config.yaml: 'utf-8' codec can't decode" in capsys.readouterr().err


def test_the_options_of_flags_are_still_read(tmp_path: Path) -> None:
    assert parsed(tmp_path, "max-pods: 33\n").max_pods == 33


def test_every_field_has_one_place_and_every_option_exists() -> None:
    assert not HONOURED.keys() & FIXED.keys() and not (HONOURED.keys() | FIXED.keys()) & UNUSED.keys()
    assert {option for option, _ in HONOURED.values()} <= NodeAgentOptions.model_fields.keys()


def test_what_configz_shows_can_be_read_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    shown = configuration(NodeAgentOptions(max_pods=42, eviction_soft={}))
    got = parsed(tmp_path, yaml.safe_dump(shown))
    assert got.max_pods == 42
    assert caplog.messages == []
