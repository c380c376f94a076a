"""Names of images, whose credentials are tried for them, the wait after a failed pull, and how many go on at once."""

from __future__ import annotations

import asyncio
import base64
import json
from pathlib import Path
from typing import Any

import pytest

from bamikube.kit.clock import SystemClock
from bamikube.kit.world import World
from bamikube.nodeagent.durations import seconds
from bamikube.nodeagent.images import names
from bamikube.nodeagent.images.keyring import Keyring, keyring_of, matches, node_keyring
from bamikube.nodeagent.images.names import parse
from bamikube.nodeagent.images.plugins import Plugins, providers_in
from bamikube.nodeagent.images.present import Images, after_failure, judged, waiting
from bamikube.nodeagent.images.puller import Puller, PullFailed, in_words
from bamikube.nodeagent.pod.state import Memory
from bamikube.nodeagent.runtime.port import Credentials, Image, RuntimeFailure


@pytest.mark.parametrize(
    ("text", "repository", "tag"),
    [
        ("nginx", "docker.io/library/nginx", "latest"),
        ("index.docker.io/a/b:1", "docker.io/a/b", "1"),
        ("localhost/x", "localhost/x", "latest"),
        ("localhost:5000/a/b:t", "localhost:5000/a/b", "t"),
        ("a.b/c@sha256:" + "0" * 64, "a.b/c", ""),
        ("a.b/c:v@sha256:" + "0" * 64, "a.b/c", "v"),
    ],
)
def test_image_names(text: str, repository: str, tag: str) -> None:
    assert (parse(text).repository, parse(text).tag) == (repository, tag)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Nginx", "invalid reference format: repository name (library/Nginx) must be lowercase"),
        ("a b", "invalid reference format"),
        ("", "invalid reference format"),
        ("x:", "invalid reference format"),
        ("a//b", "invalid reference format"),
        ("a" * 64, f"invalid repository name ({'a' * 64}), cannot specify 64-byte hexadecimal strings"),
    ],
)
def test_bad_image_names(text: str, words: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse(text)
    assert str(caught.value) == f'couldn\'t parse image name "{text}": {words}'


def test_pull_policies() -> None:
    for image, policy in (("nginx", "Always"), ("h:5000/nginx:1", "IfNotPresent"), ("a:latest", "Always"), ("a@sha256:" + "0" * 64, "IfNotPresent")):  # fmt: skip
        assert names.policy({"image": image}) == policy
    assert names.policy({"image": "nginx", "imagePullPolicy": "Never"}) == "Never"


@pytest.mark.parametrize(
    ("pattern", "image", "fits"),
    [
        ("*.example.com", "a.example.com/x", True),
        ("*.example.com", "a.b.example.com/x", False),
        ("*.*.example.com", "a.b.example.com/x", True),
        ("pre*.example.com/team", "prefix.example.com/team/x", True),
        ("a.example.com/team", "a.example.com/other/x", False),
        ("a.example.com", "a.example.com:5000/x", False),
        ("a.example.com:5000", "a.example.com:5000/x", True),
        ("*", "example.com/x", False),
    ],
)
def test_places_that_cover_an_image(pattern: str, image: str, fits: bool) -> None:
    assert matches(pattern, image) is fits


def secret(entries: dict[str, Any], kind: str = "kubernetes.io/dockerconfigjson") -> dict[str, Any]:
    document = {"auths": entries} if kind.endswith("json") else entries
    data = base64.b64encode(json.dumps(document).encode()).decode()
    return {"metadata": {"name": "s"}, "type": kind, "data": {f".{kind.rpartition('/')[2]}": data}}


def entry(user: str) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{user}:word".encode()).decode()}


def users(found: list[Credentials]) -> list[str]:
    assert all(one.password == "word" for one in found)
    return [one.username for one in found]


def test_the_most_specific_place_is_tried_first() -> None:
    first = secret({"r.example": entry("all"), "https://r.example/v2/team": entry("team")})
    second = secret({"r.example": entry("other")}, "kubernetes.io/dockercfg")
    keyring = keyring_of([first, second])
    assert users(keyring.lookup("r.example/team/x")) == ["team", "all", "other"]
    assert users(keyring.lookup("r.example/x")) == ["all", "other"]
    assert keyring.lookup("docker.io/library/x") == []


def test_docker_hub_has_a_name_of_its_own() -> None:
    keyring = keyring_of([secret({"https://index.docker.io/v1/": entry("hub")})])
    assert users(keyring.lookup(parse("busybox").repository)) == ["hub"]
    assert keyring.lookup("quay.io/x") == []


def test_a_secret_that_cannot_be_read_is_named() -> None:
    for broken in (secret({"r.example": {"auth": "bm8="}}), secret({"r.example": "x"}), {**secret({}), "data": {".dockerconfigjson": "bm8="}}):  # fmt: skip
        with pytest.raises(ValueError, match=r"pull secret s: \.dockerconfigjson cannot be read"):
            keyring_of([broken])


def test_the_first_file_of_the_node_counts(tmp_path: Path) -> None:
    config, older = tmp_path / "config.json", tmp_path / ".dockercfg"
    older.write_text(json.dumps({"r.example": entry("old")}))
    assert users(node_keyring([config, older]).lookup("r.example/x")) == ["old"]
    config.write_text(json.dumps({"auths": {"r.example": entry("new")}}))
    assert users(node_keyring([config, older]).lookup("r.example/x")) == ["new"]


def test_the_wait_doubles_and_is_forgiven() -> None:
    first = after_failure(None, "no", 100.0)
    second = after_failure(first, "no", 115.0)
    assert (first.until, second.until) == (110.0, 135.0)
    for now in (200.0, 300.0, 600.0, 1000.0):
        second = after_failure(second, "no", now)
    assert second.period == 300.0 and after_failure(second, "no", 1700.0).period == 10.0
    shown = waiting("x", first, shown_at=100.0)
    assert shown.at(101)[0] == "ErrImagePull"
    assert shown.at(106) == ("ImagePullBackOff", 'Back-off pulling image "x": ErrImagePull: no')
    assert waiting("x", first).at(101)[0] == "ImagePullBackOff"


def test_reasons_that_runtimes_tell_apart() -> None:
    assert judged("x", "RegistryUnavailable: down for now") == (
        "RegistryUnavailable",
        "image pull failed for x because the registry is unavailable: down for now",
    )
    assert judged("x", "SignatureValidationFailed") == (
        "SignatureValidationFailed",
        "image pull failed for x because the signature validation failed",
    )
    assert judged("x", "not so RegistryUnavailable") == ("ErrImagePull", "not so RegistryUnavailable")
    wait = after_failure(None, "down", 100.0, "RegistryUnavailable")
    assert waiting("x", wait, shown_at=100.0).at(101) == ("RegistryUnavailable", "down")
    assert waiting("x", wait).message == 'Back-off pulling image "x": RegistryUnavailable: down'
    # A code that says nothing is not shown.
    assert in_words(RuntimeFailure("UNKNOWN", "RegistryUnavailable: x")) == "RegistryUnavailable: x"
    assert in_words(RuntimeFailure("UNAVAILABLE", "x")) == "rpc error: code = Unavailable desc = x"


class Registry:
    """A runtime that has no image and says no, or yes to one user; it counts pulls that go on at once."""

    def __init__(self, good: str | None = None) -> None:
        self.good, self.pulls, self.now, self.most = good, [], 0, 0  # type: ignore[var-annotated]
        self.has: set[str] = set()

    async def image(self, name: str) -> Image | None:
        return Image("i", size=5) if name in self.has else None

    async def pull_image(self, name: str, credentials: Credentials | None = None) -> str:
        user = credentials.username if credentials else ""
        self.pulls.append(user)
        self.now += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(0)
        self.now -= 1
        if user != self.good:
            raise RuntimeFailure("NOT_FOUND", f"no {name} for {user!r}")
        self.has.add(name)
        return "i"


async def pull(runtime: Any, puller: Puller, keyring: Keyring | None = None) -> float:
    return await puller.pull(
        runtime, SystemClock(), "r.example/x", parse("r.example/x"), keyring or Keyring()
    )


async def test_all_credentials_are_tried_and_all_refusals_told() -> None:
    keyring = keyring_of([secret({"r.example": entry("a")}), secret({"r.example": entry("b")})])

    async def node(name: names.Name, account: Any) -> list[Credentials]:
        return [Credentials("c", "word")]

    runtime = Registry("c")
    await pull(runtime, Puller(node=node), keyring)
    assert runtime.pulls == ["a", "b", "c"]
    with pytest.raises(PullFailed) as caught:
        await pull(Registry("nobody"), Puller(), keyring)
    said = [f"rpc error: code = NotFound desc = no r.example/x for '{user}'" for user in "ab"]
    assert str(caught.value) == f"[{said[0]}, {said[1]}]"
    with pytest.raises(PullFailed, match=r"^rpc error: code = NotFound desc = no r\.example/x for ''$"):
        await pull(Registry("nobody"), Puller())


@pytest.mark.parametrize(
    ("puller", "most"), [(Puller(serialize=True), 1), (Puller(most=2), 2), (Puller(), 5)]
)
async def test_as_many_pulls_at_once_as_are_allowed(puller: Puller, most: int) -> None:
    runtime = Registry("")
    await asyncio.gather(*(pull(runtime, puller) for _ in range(5)))
    assert runtime.most == most


class Shared:
    """A node for one pod: a runtime, a clock, events."""

    def __init__(self, runtime: Registry) -> None:
        self.runtime, self.world, self.puller = runtime, World(), Puller()
        self.api, self.events = self, []  # type: ignore[var-annotated]

    def event(
        self, pod: Any, kind: str, reason: str, message: str, container: str = "", annotations: Any = None
    ) -> None:
        self.events.append((kind, reason, message))

    async def secret(self, namespace: str, name: str) -> None:
        return None


async def test_a_second_container_with_the_image_waits_at_once() -> None:
    shared: Any = Shared(Registry("nobody"))
    memory = Memory()
    images = Images(shared, memory, lambda took: None)
    pod = {"metadata": {"name": "p", "namespace": "n"}, "spec": {"imagePullSecrets": [{"name": "gone"}, {}]}}
    for name in ("one", "two"):
        assert await images.ensure(pod, {"name": name, "image": "r.example/x"}) is None
    why = "rpc error: code = NotFound desc = no r.example/x for ''"
    assert shared.runtime.pulls == [""]
    assert [memory.troubles[name].reason for name in ("one", "two")] == ["ErrImagePull", "ImagePullBackOff"]
    assert memory.troubles["two"].message == f'Back-off pulling image "r.example/x": ErrImagePull: {why}'
    assert shared.events == [
        ("Warning", "FailedToRetrieveImagePullSecret", "Unable to retrieve some image pull secrets (gone); attempting to pull the image may not succeed."),
        ("Normal", "Pulling", 'Pulling image "r.example/x"'),
        ("Warning", "Failed", f'Failed to pull image "r.example/x": {why}'),
        ("Warning", "Failed", "Error: ErrImagePull"),
    ]  # fmt: skip
    shared.runtime.good = ""
    assert await images.ensure(pod, {"name": "three", "image": "y:1"}) is not None
    assert shared.events[-1][1] == "Pulled" and shared.events[-1][2].endswith("Image size: 5 bytes.")


async def test_names_that_are_none_and_images_that_may_not_be_pulled() -> None:
    shared: Any = Shared(Registry())
    memory = Memory()
    images = Images(shared, memory, lambda took: None)
    pod = {"metadata": {"name": "p", "namespace": "n"}, "spec": {}}
    assert await images.ensure(pod, {"name": "a", "image": "UPPER"}) is None
    assert await images.ensure(pod, {"name": "b", "image": "x:1", "imagePullPolicy": "Never"}) is None
    assert [memory.troubles[name].reason for name in "ab"] == ["InvalidImageName", "ErrImageNeverPull"]
    assert [(reason, text) for _, reason, text in shared.events if text.startswith("Error: ")] == [
        ("Failed", "Error: InvalidImageName"),
        ("Failed", "Error: ErrImageNeverPull"),
    ]


PROVIDER = """#!/bin/sh
echo run >> {log}
grep -q '"image":"r.example/x"' || exit 3
echo '{{"kind":"CredentialProviderResponse","apiVersion":"credentialprovider.kubelet.k8s.io/v1",'
echo '"cacheKeyType":"Registry","cacheDuration":"{lasts}","auth":{{"r.example":{{"username":"'$WHO$1'","password":"word"}}}}}}'
"""


@pytest.mark.parametrize(("lasts", "runs"), [("1h", 1), ("0s", 2)])
async def test_a_provider_is_asked_and_believed_for_a_while(tmp_path: Path, lasts: str, runs: int) -> None:
    log, program, config = tmp_path / "log", tmp_path / "teller", tmp_path / "config.yaml"
    program.write_text(PROVIDER.format(log=log, lasts=lasts))
    program.chmod(0o755)
    config.write_text(
        "apiVersion: kubelet.config.k8s.io/v1\nkind: CredentialProviderConfig\nproviders:\n"
        "- {name: teller, matchImages: ['*.example'], defaultCacheDuration: 10m, args: ['2'],\n"
        "   apiVersion: credentialprovider.kubelet.k8s.io/v1, env: [{name: WHO, value: me}]}\n"
    )
    plugins = Plugins(providers_in(config, tmp_path), tmp_path, SystemClock())
    for _ in range(2):
        assert users(await plugins.credentials(parse("r.example/x"))) == ["me2"]
    assert await plugins.credentials(parse("quay.io/x")) == []
    assert log.read_text().count("run") == runs
    if runs == 2:
        assert await plugins.credentials(parse("r.example/fails")) == []


TELLER = """#!/bin/sh
word=$(grep -o '"serviceAccountToken":"[^"]*"' | cut -d: -f2)
echo '{"kind":"CredentialProviderResponse","apiVersion":"credentialprovider.kubelet.k8s.io/v1",'
echo '"cacheKeyType":"Global","cacheDuration":"1h","auth":{"r.example":{"username":'$word',"password":"word"}}}'
"""


class PodsAccount:
    """A service account, or none."""

    def __init__(self, name: str, **annotations: str) -> None:
        self.name, self.annotations = name, annotations

    async def describe(self) -> dict[str, Any] | None:
        meta = {"name": self.name, "namespace": "n", "uid": self.name, "annotations": self.annotations}
        return {"metadata": meta} if self.name else None

    async def token(self, audience: str) -> str:
        return f"{self.name}-for-{audience}"


async def test_a_provider_that_wants_to_know_the_pods_account(tmp_path: Path) -> None:
    (tmp_path / "teller").write_text(TELLER)
    (tmp_path / "teller").chmod(0o755)
    wanted = {"serviceAccountTokenAudience": "registry", "cacheType": "ServiceAccount", "requireServiceAccount": True, "requiredServiceAccountAnnotationKeys": ["role"]}  # fmt: skip
    provider = {"name": "teller", "matchImages": ["r.example"], "defaultCacheDuration": "1m", "apiVersion": "credentialprovider.kubelet.k8s.io/v1", "tokenAttributes": wanted}  # fmt: skip
    config = tmp_path / "config.yaml"
    document = {"apiVersion": "kubelet.config.k8s.io/v1", "kind": "CredentialProviderConfig"}
    config.write_text(json.dumps(document | {"providers": [provider]}))
    plugins = Plugins(providers_in(config, tmp_path), tmp_path, SystemClock())
    image = parse("r.example/x")
    for name in ("a", "b", "a"):
        got = await plugins.credentials(image, PodsAccount(name, role="r"))
        assert users(got) == [f"{name}-for-registry"]
    for account in (None, PodsAccount(""), PodsAccount("a")):
        assert await plugins.credentials(image, account) == []
    provider["apiVersion"] = "credentialprovider.kubelet.k8s.io/v1beta1"
    config.write_text(json.dumps(document | {"providers": [provider]}))
    with pytest.raises(ValueError, match="tokenAttributes are only for"):
        providers_in(config, tmp_path)


def test_a_folder_of_configurations_is_read_in_the_order_of_names(tmp_path: Path) -> None:
    folder = tmp_path / "config"
    folder.mkdir()
    with pytest.raises(ValueError, match=r"there is no \.json, \.yaml or \.yml file"):
        providers_in(folder, tmp_path)
    entry = {"matchImages": ["a"], "defaultCacheDuration": "1m", "apiVersion": "credentialprovider.kubelet.k8s.io/v1"}  # fmt: skip
    document = {"apiVersion": "kubelet.config.k8s.io/v1", "kind": "CredentialProviderConfig"}
    for file, name in (("b.yml", "one"), ("a.json", "two"), ("c.txt", "three")):
        (tmp_path / name).write_text("#!/bin/sh")
        (tmp_path / name).chmod(0o755)
        (folder / file).write_text(json.dumps(document | {"providers": [entry | {"name": name}]}))
    assert [one.name for one in providers_in(folder, tmp_path)] == ["two", "one"]
    (folder / "d.yaml").write_text(json.dumps(document | {"providers": [entry | {"name": "one"}]}))
    with pytest.raises(ValueError, match=r"d\.yaml: duplicate provider name one"):
        providers_in(folder, tmp_path)


def test_a_configuration_of_providers_says_what_is_wrong(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    good = {"name": "p", "matchImages": ["a"], "defaultCacheDuration": "1m", "apiVersion": "credentialprovider.kubelet.k8s.io/v1"}  # fmt: skip
    for change, words in (
        ({}, "there is no program"),
        ({"apiVersion": "v7"}, "apiVersion v7 is none of"),
        ({"defaultCacheDuration": "soon"}, "'soon' is not a duration"),
        ({"matchImages": []}, "matchImages"),
        ({"shell": True}, "shell"),
    ):
        document = {"apiVersion": "kubelet.config.k8s.io/v1", "kind": "CredentialProviderConfig"}
        config.write_text(json.dumps(document | {"providers": [good | change]}))
        with pytest.raises(ValueError, match=words):
            providers_in(config, tmp_path)
    assert (seconds("12h0m0s"), seconds("1m30s"), seconds("0")) == (43200.0, 90.0, 0.0)
