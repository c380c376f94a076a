"""Every file tests/golden/admission/<case>.input.yaml has an .output.yaml: what becomes of pods that are sent to a node.

Each pod of ``pods`` is judged by itself, beside ``others``. ``BAMIKUBE_GOLDEN=write`` writes the outputs anew; read the
difference before committing it.
"""

from __future__ import annotations

import copy
import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from bamikube.nodeagent.pod.gate import Gate
from bamikube.nodeagent.pod.sysctls import Allowed

FOLDER = Path(__file__).parents[2] / "golden" / "admission"
CASES = sorted(path.name.removesuffix(".input.yaml") for path in FOLDER.glob("*.input.yaml"))
JSON = dict[str, Any]


def _pod(name: str, item: JSON) -> JSON:
    spec = dict(item)
    meta = {"name": name, "namespace": "default", "uid": name} | spec.pop("metadata", {})
    if "requests" in spec:
        spec["containers"] = [{"name": "app", "resources": {"requests": spec.pop("requests")}}]
    if "guaranteed" in spec:
        spec["containers"] = [
            {"name": "app", "resources": {"requests": (r := spec.pop("guaranteed")), "limits": r}}
        ]
    return {"metadata": meta, "spec": {"containers": [{"name": "app"}]} | spec}


def made(case: JSON) -> JSON:
    flags, node = case.get("flags", {}), case["node"]
    shown = {
        "metadata": {"name": "node-1", "labels": node.get("labels", {})},
        "spec": {"taints": node.get("taints", [])},
        "status": {"allocatable": {"pods": 110} | node["allocatable"], "features": node.get("features")},
    }

    async def fresh() -> JSON:
        return shown

    gate = Gate(
        lambda: shown,
        fresh,
        Allowed(flags.get("unsafe", ())),
        lambda: tuple(flags.get("pressures", ())),
        lambda: bool(flags.get("shutdown")),
        bool(flags.get("apparmor")),
    )
    others = [_pod(name, item or {}) for name, item in case.get("others", {}).items()]
    result: JSON = {}
    for name, item in case["pods"].items():
        verdict = gate.judge(_pod(name, item or {}), others)
        if verdict.refusal is not None:
            result[name] = {"reason": verdict.refusal[0], "message": verdict.refusal[1]}
            if verdict.doubt:
                result[name]["doubt"] = True
        elif verdict.victims:
            victims = [v["metadata"]["name"] for v in verdict.victims]
            result[name] = {"victims": victims, "short": verdict.short}
        else:
            result[name] = "taken"
    return result


@pytest.mark.parametrize("name", CASES)
def test_verdicts_match_their_golden_file(name: str) -> None:
    case = yaml.safe_load((FOLDER / f"{name}.input.yaml").read_text())
    before = copy.deepcopy(case)
    found = made(case)
    output = FOLDER / f"{name}.output.yaml"
    if os.environ.get("BAMIKUBE_GOLDEN") == "write":
        output.write_text(yaml.safe_dump(found, sort_keys=False, width=110))
    assert found == yaml.safe_load(output.read_text())
    assert case == before, "judging has changed its input"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("vm.swappiness", 'the sysctls "vm.swappiness" are not known to be namespaced'),
        ("net.*.x", "'net.*.x' is no name of a sysctl"),
        ("", "'' is no name of a sysctl"),
    ],
)
def test_bad_sysctls_are_named(given: str, said: str) -> None:
    with pytest.raises(ValueError, match=r"^--allowed-unsafe-sysctls: ") as caught:
        Allowed([given])
    assert said in str(caught.value)
