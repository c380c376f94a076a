"""The address under which others find this server, when nobody has said it.

::

    --bind-address=10.99.0.10    10.99.0.10
    --bind-address=0.0.0.0       the address of the interface that the default route takes
    --bind-address=127.0.0.1     none: nobody else can come in, so the kubernetes service is left out

Source: Kubernetes' ``--advertise-address``, which for loopback names an address all the same.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable

# Addresses for documentation (RFC 5737, RFC 3849): nobody has them, so whatever leads there is the default route.
_AWAY = {4: (socket.AF_INET, "192.0.2.1"), 6: (socket.AF_INET6, "2001:db8::1")}


def towards_the_world(version: int) -> str:
    """Our address of this IP version on the default route, "" when there is no such route. Nothing is sent."""
    family, away = _AWAY[version]
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((away, 9))
            return str(probe.getsockname()[0])
    except OSError:
        return ""


def advertised(bind: str, route: Callable[[int], str] = towards_the_world) -> str:
    """The address for a server that listens on ``bind``, "" when there is none."""
    try:
        address = ipaddress.ip_address(bind)
    except ValueError:
        return ""  # a name: certificates and endpoints want an address
    if not address.is_unspecified:
        return "" if address.is_loopback else bind
    found = route(address.version) or (route(4) if address.version == 6 else "")
    return "" if not found or ipaddress.ip_address(found).is_loopback else found
