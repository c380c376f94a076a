"""Flags that switch what is served: what is so anyway passes, what is off may be turned on, the rest is refused with the reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from bamikube.api import table
from bamikube.apiserver import switches
from bamikube.apiserver.admission.pod_security import PodSecurity
from bamikube.apiserver.admission.tolerations import NOT_READY, UNREACHABLE, DefaultTolerationSeconds
from bamikube.apiserver.options import ApiServerOptions
from bamikube.apiserver.server import ApiServer
from bamikube.kit.options import parse_options
from bamikube.kit.world import World
from bamikube.store.model import ModelStore

ADMISSION = """
apiVersion: apiserver.config.k8s.io/v1
kind: AdmissionConfiguration
plugins:
- name: PodSecurity
  configuration:
    apiVersion: pod-security.admission.config.k8s.io/v1
    kind: PodSecurityConfiguration
    defaults: {enforce: baseline}
"""


async def test_admission_is_built_as_the_flags_say(tmp_path: Path) -> None:
    (tmp_path / "admission.yaml").write_text(ADMISSION)
    options = ApiServerOptions(
        admission_control_config_file=str(tmp_path / "admission.yaml"),
        default_not_ready_toleration_seconds=20,
        default_unreachable_toleration_seconds=30,
    )
    chain = ApiServer(ModelStore(World()), options, World()).admission
    standards = next(one for one in chain.plugins if isinstance(one, PodSecurity))
    assert str(standards._defaults.policy.enforce) == "baseline:latest"
    stays = next(one for one in chain.plugins if isinstance(one, DefaultTolerationSeconds))
    assert stays._seconds == {NOT_READY: 20, UNREACHABLE: 30}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("--feature-gates=WatchList=true,AllAlpha=false", ""),
        (
            "--feature-gates=WatchList=false",
            "cannot set feature gate WatchList to false, feature is locked to true",
        ),
        ("--feature-gates=Teleport=true", "unrecognized feature gate: Teleport"),
        ("--feature-gates=WatchList=yes", "WatchList=yes: must be true or false"),
        ("--runtime-config=api/all=true,apps/v1=true,api/v1=true,autoscaling/v1", ""),
        ("--runtime-config=api/alpha=false,example.com/v1=false", ""),
        ("--runtime-config=batch/v1=false", "batch/v1=false: what is served cannot be turned off"),
        ("--runtime-config=resource.k8s.io/v1alpha3=true", "resource.k8s.io/v1alpha3: not served"),
        ("--runtime-config=certificates.k8s.io/v1beta1=false", ""),
        ("--feature-gates=ClusterTrustBundle=false", ""),
        ("--feature-gates=ClusterTrustBundle=on", "ClusterTrustBundle=on: must be true or false"),
        ("--enable-priority-and-fairness=true", ""),
        ("--enable-priority-and-fairness=false", "priority and fairness cannot be turned off"),
        ("--default-unreachable-toleration-seconds=30", ""),
    ],
)
def test_a_switch_is_real_or_refused(given: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    if not said:
        parse_options(ApiServerOptions, [given], "bamikube-apiserver")
        return
    with pytest.raises(SystemExit):
        parse_options(ApiServerOptions, [given], "bamikube-apiserver")
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("gates", "wanted", "served"),
    [
        ({}, {}, False),
        ({"ClusterTrustBundle": "true"}, {}, False),
        ({}, {"certificates.k8s.io/v1beta1": "true"}, False),
        ({"ClusterTrustBundle": "true"}, {"certificates.k8s.io/v1beta1": ""}, True),
        ({"ClusterTrustBundle": "True"}, {"api/beta": "true"}, True),
        (
            {"ClusterTrustBundle": "true"},
            {"api/all": "true", "certificates.k8s.io/v1beta1/clustertrustbundles": "false"},
            False,
        ),
    ],
)
def test_a_kind_that_is_off_needs_its_gate_and_its_version(
    gates: dict[str, str], wanted: dict[str, str], served: bool
) -> None:
    rows = switches.optional(gates, wanted)
    assert rows == ((table.CLUSTER_TRUST_BUNDLES,) if served else ())
    options = ApiServerOptions(feature_gates=gates, runtime_config=wanted)
    server = ApiServer(ModelStore(World()), options, World())
    assert (table.CLUSTER_TRUST_BUNDLES in server.catalog.rows) is served
