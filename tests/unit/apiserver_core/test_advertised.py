"""Which address the kubernetes service gets when nobody has said it."""

from __future__ import annotations

import pytest

from bamikube.apiserver.advertised import advertised, towards_the_world

ROUTES = {4: "10.0.0.5", 6: "fd00::5"}


@pytest.mark.parametrize(
    ("bind", "routes", "found"),
    [
        ("10.99.0.10", ROUTES, "10.99.0.10"),
        ("fd00::1", ROUTES, "fd00::1"),
        ("0.0.0.0", ROUTES, "10.0.0.5"),
        ("::", ROUTES, "fd00::5"),
        ("::", {4: "10.0.0.5", 6: ""}, "10.0.0.5"),
        ("0.0.0.0", {4: "", 6: ""}, ""),
        ("0.0.0.0", {4: "127.0.0.1", 6: ""}, ""),
        ("127.0.0.1", ROUTES, ""),
        ("::1", ROUTES, ""),
        ("localhost", ROUTES, ""),
    ],
)
def test_the_address_of_a_server(bind: str, routes: dict[int, str], found: str) -> None:
    assert advertised(bind, routes.__getitem__) == found


def test_asking_the_kernel_never_fails() -> None:
    for version in (4, 6):
        assert isinstance(towards_the_world(version), str)
