"""Trust anchors in volumes: which bundles are shown, and what is said of those that are not there."""

from __future__ import annotations

from typing import Any

import pytest

from bamikube.api import pem
from bamikube.nodeagent.container.env import ConfigError, Sources
from bamikube.nodeagent.trust import anchors, shows
from bamikube.nodeagent.volumes import payload
from bamikube.nodeagent.volumes.plugin import Given

JSON = dict[str, Any]


def bundle(name: str, signer: str, *data: bytes, **labels: str) -> JSON:
    text = "".join(f"words\n{pem.text('CERTIFICATE', one)}" for one in data)
    return {"metadata": {"name": name, "labels": labels}, "spec": {"signerName": signer, "trustBundle": text}}


BUNDLES = [
    bundle("plain", "", b"0"),
    bundle("example.com:s:one", "example.com/s", b"1", b"2", tier="front"),
    bundle("example.com:s:two", "example.com/s", b"2", b"3", tier="back"),
    bundle("example.com:t:one", "example.com/t", b"4", tier="front"),
]


def shown(**source: Any) -> list[bytes]:
    return [block.data for block in pem.blocks(anchors(source, BUNDLES))]


def test_by_name_or_by_signer_and_labels_every_anchor_once() -> None:
    assert shown(name="plain") == [b"0"]
    assert sorted(shown(signerName="example.com/s", labelSelector={})) == [b"1", b"2", b"3"]
    assert sorted(shown(signerName="example.com/s", labelSelector={"matchLabels": {"tier": "back"}})) == [
        b"2",
        b"3",
    ]
    assert shown(signerName="example.com/s", labelSelector={}) == shown(
        signerName="example.com/s", labelSelector={}
    )


def test_what_is_not_there_is_named_unless_it_is_optional() -> None:
    with pytest.raises(ConfigError) as unnamed:
        shown(name="x")
    assert str(unnamed.value) == (
        'while getting ClusterTrustBundle: clustertrustbundle.certificates.k8s.io "x" not found'
    )
    for selector in (None, {"matchLabels": {"tier": "none"}}):  # no selector chooses nothing
        with pytest.raises(ConfigError, match="matched zero ClusterTrustBundles"):
            shown(signerName="example.com/s", labelSelector=selector)
    assert shown(name="x", optional=True) == []
    assert anchors({"name": "x", "optional": True}, None) == b""
    with pytest.raises(ConfigError, match="does not serve ClusterTrustBundles"):
        anchors({"name": "x"}, None)


def test_a_volume_shows_them_as_files_of_their_reader() -> None:
    sources = [{"clusterTrustBundle": {"name": "plain", "path": "ca/roots.pem"}}]
    volume: JSON = {"name": "v", "projected": {"sources": sources, "defaultMode": 0o444}}
    assert shows(volume) and payload.needs(volume).trust
    assert not shows({"name": "v", "projected": {"sources": [{"downwardAPI": {"items": []}}]}})
    given = Given(Sources({}, [], (), (), "n", {}), bundles=BUNDLES)
    pod: JSON = {
        "metadata": {"name": "p", "namespace": "d", "uid": "u"},
        "spec": {"containers": [{"name": "c"}]},
    }
    (found,) = payload.payload(pod, volume, given).values()
    assert (found.data, found.mode, found.owner) == (pem.text("CERTIFICATE", b"0").encode(), 0o444, None)
    pod["spec"]["securityContext"] = {"runAsUser": 7}
    (found,) = payload.payload(pod, volume, given).values()
    assert (found.mode, found.owner) == (0o600, 7)
