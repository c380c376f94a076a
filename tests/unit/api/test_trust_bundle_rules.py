"""Names of ClusterTrustBundles, and the volumes that show them."""

from __future__ import annotations

from typing import Any

import pytest

from bamikube.api import table
from bamikube.api.validation import validate_create, validate_update
from bamikube.api.validation.trust_bundles import projection

ROW = table.CLUSTER_TRUST_BUNDLES


def bundle(name: str, signer: str = "", text: str = "x") -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": {"signerName": signer, "trustBundle": text}}


@pytest.mark.parametrize(
    ("given", "field", "said"),
    [
        (bundle("foo"), "", ""),
        (bundle("k8s.io:foo:bar", "k8s.io/foo"), "", ""),
        (
            bundle("k8s.io:bar:foo"),
            "metadata.name",
            'ClusterTrustBundle without signer name must not have ":" in its name',
        ),
        (
            bundle("look-ma-no-prefix", "k8s.io/foo"),
            "metadata.name",
            "ClusterTrustBundle for signerName k8s.io/foo must be named with prefix k8s.io:foo:",
        ),
        (bundle("k8s.io:foo:", "k8s.io/foo"), "metadata.name", "a lowercase RFC 1123 subdomain"),
        (
            bundle("invalid:foo", "invalid"),
            "spec.signerName",
            "must be a fully qualified domain and path of the form 'example.com/signer-name'",
        ),
        (
            bundle("foo", text="x" * (1024 * 1024 + 1)),
            "spec.trustBundle",
            "Too long: may not be more than 1048576",
        ),
    ],
)
def test_a_bundle_is_named_after_its_signer(given: dict[str, Any], field: str, said: str) -> None:
    causes = validate_create(ROW, given)
    assert [cause.field for cause in causes] == ([field] if field else [])
    assert all(said in cause.message for cause in causes)


def test_its_signer_stays() -> None:
    old, new = bundle("a.io:b:c", "a.io/b"), bundle("a.io:b:c", "a.io/d")
    old["metadata"] |= {"uid": "u", "resourceVersion": "1"}
    new["metadata"] |= {"uid": "u", "resourceVersion": "1"}
    said = {cause.field: cause.message for cause in validate_update(ROW, new, old)}
    assert said["spec.signerName"] == 'Invalid value: "a.io/d": field is immutable'


@pytest.mark.parametrize(
    ("source", "field", "said"),
    [
        ({"name": "foo"}, "", ""),
        ({"name": "a.io:b:c"}, "", ""),
        ({"signerName": "a.io/b"}, "", ""),
        ({"signerName": "a.io/b", "labelSelector": {"matchLabels": {"a": "b"}}}, "", ""),
        ({}, "v", "Required value: either name or signerName must be specified"),
        ({"name": "a", "signerName": "a.io/b"}, "v", "only one of name and signerName may be used"),
        (
            {"name": "a", "labelSelector": {}},
            "v.labelSelector",
            "labelSelector must be unset if name is specified",
        ),
        ({"name": "A"}, "v.name", "a lowercase RFC 1123 subdomain"),
        ({"signerName": ""}, "v.signerName", "Required value: must be a valid signer name"),
    ],
)
def test_a_volume_names_one_bundle_or_a_signers(source: dict[str, Any], field: str, said: str) -> None:
    causes = projection("v", source)
    assert [cause.field for cause in causes] == ([field] if field else [])
    assert all(said in cause.message for cause in causes)
