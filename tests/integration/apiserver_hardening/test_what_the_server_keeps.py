"""Objects that the API server keeps about itself, as kubectl shows them."""

from __future__ import annotations

import json
import socket

from bamikube.apiserver.identity_lease import lease_name
from tests.support.kubectl import Kubectl, until

SYSTEM = ("-n", "kube-system")


def test_the_servers_lease_is_renewed_under_the_hosts_name(kubectl: Kubectl) -> None:
    selector = "-l", "apiserver.kubernetes.io/identity=kube-apiserver"
    found = until(
        lambda: json.loads(kubectl(*SYSTEM, "get", "leases", *selector, "-o", "json"))["items"],
        what="the lease",
    )
    assert [one["metadata"]["name"] for one in found] == [lease_name(socket.gethostname())]
    assert found[0]["spec"]["holderIdentity"].startswith(found[0]["metadata"]["name"] + "_")
    assert found[0]["spec"]["leaseDurationSeconds"] == 3600
