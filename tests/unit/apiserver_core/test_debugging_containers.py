"""Ephemeral containers are held to what a pod's other containers may ask for."""

from __future__ import annotations

from typing import Any

import pytest

from bamikube.api.errors import ApiError
from bamikube.apiserver.subresources.parts import add_ephemeral

BARE: dict[str, Any] = {
    "name": "look",
    "image": "i",
    "imagePullPolicy": "Always",
    "terminationMessagePolicy": "File",
    "securityContext": {"procMount": "Unmasked"},
}


def stored(**spec: Any) -> dict[str, Any]:
    containers = [{"name": "a", "image": "i"}]
    return {"metadata": {"name": "web"}, "spec": {"containers": containers} | spec}


def test_all_of_proc_only_with_users_of_the_pods_own() -> None:
    with pytest.raises(ApiError) as caught:
        add_ephemeral(stored(), stored(ephemeralContainers=[BARE]))
    text = (
        'spec.ephemeralContainers[0].securityContext.procMount: Invalid value: "Unmasked": '
        "`hostUsers` must be false to use `Unmasked`"
    )
    assert caught.value.code == 422 and text in str(caught.value)
    own = stored(hostUsers=False)
    add_ephemeral(own, stored(ephemeralContainers=[BARE], hostUsers=False))
    assert own["spec"]["ephemeralContainers"] == [BARE]
