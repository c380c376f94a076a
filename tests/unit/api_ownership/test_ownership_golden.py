"""Stories of several managers against golden pairs (``tests/golden/api/ownership/NAME.{input,output}.yaml``).

The input is a list of writes; the output says, after each, what stands and who owns it, or which conflicts forbade it.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from bamikube.api import patches, table
from tests.unit.api_ownership.people import Stage

GOLDEN = Path(__file__).parents[2] / "golden" / "api" / "ownership"
CASES = sorted(path.name.removesuffix(".input.yaml") for path in GOLDEN.glob("*.input.yaml"))


def told(writes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    first = writes[0].get("document") or writes[0]["merge"]
    resource = table.by_kind(first["apiVersion"], first["kind"])
    assert resource is not None
    stage = Stage(resource.definition, resource.api_version)
    story: list[dict[str, Any]] = []
    for write in writes:
        if "apply" in write:
            how = {"force": write.get("force", False), "subresource": write.get("subresource", "")}
            outcome = stage.try_apply(write["apply"], write["document"], **how)
            if outcome.conflicts:
                story.append(
                    {"conflicts": [f"{owner}: {field}" for owner, field in stage.conflicts(outcome)]}
                )
                continue
            stage.apply(write["apply"], write["document"], **how)
        else:
            new = patches.merge_patch(copy.deepcopy(stage.obj or {}), write["merge"])
            stage.update(write["update"], new, write.get("subresource", ""))
        assert stage.obj is not None
        shown = copy.deepcopy(stage.obj)
        managed = shown["metadata"].pop("managedFields")
        owners = [
            {"manager": one["manager"], "operation": one["operation"], "fields": one["fieldsV1"]}
            for one in managed
        ]
        story.append({"object": shown, "owners": owners})
    return story


@pytest.mark.parametrize("case", CASES)
def test_golden(case: str) -> None:
    story = told(yaml.safe_load((GOLDEN / f"{case}.input.yaml").read_text()))
    assert story == yaml.safe_load((GOLDEN / f"{case}.output.yaml").read_text())
