"""Image names: what people write and what it means."""

from __future__ import annotations

import pytest

from bamikube.lab.images.names import full_name, is_digest, short_name


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("nginx", "docker.io/library/nginx:latest"),
        ("nginx:stable", "docker.io/library/nginx:stable"),
        ("kubetm/app:v1", "docker.io/kubetm/app:v1"),
        ("docker.io/nginx", "docker.io/library/nginx:latest"),
        ("index.docker.io/library/nginx", "docker.io/library/nginx:latest"),
        ("registry.k8s.io/pause:3.10", "registry.k8s.io/pause:3.10"),
        ("localhost/mine:1", "localhost/mine:1"),
        ("localhost:5000/a/b/c:x", "localhost:5000/a/b/c:x"),
        ("my-host/mine", "docker.io/my-host/mine:latest"),
    ],
)
def test_full_name(written: str, meant: str) -> None:
    assert full_name(written) == meant
    assert full_name(meant) == meant


@pytest.mark.parametrize(
    "bad", ["", "Nginx", "nginx:", "nginx:a b", "nginx@sha256:" + "0" * 64, "a//b", "/nginx", "x:-y"]
)
def test_a_bad_name_is_named_in_the_error(bad: str) -> None:
    if bad == "nginx:":
        assert full_name(bad).endswith(":latest")
        return
    with pytest.raises(ValueError, match="image name"):
        full_name(bad)


def test_short_names_and_digests() -> None:
    assert short_name("docker.io/library/nginx:1.26") == "nginx:1.26"
    assert short_name("registry.k8s.io/pause:3.10") == "registry.k8s.io/pause:3.10"
    assert is_digest("sha256:" + "a" * 64)
    assert not is_digest("sha256:" + "A" * 64)
    assert not is_digest("latest")
