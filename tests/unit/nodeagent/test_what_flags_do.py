"""Flags of the node agent that change what it does: whom it lets in, how fast it may be, what it hands out."""

from __future__ import annotations

import asyncio
import itertools
import logging
import resource
import socket
import ssl
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from cryptography import x509

from bamikube.client.client import Client
from bamikube.client.events import EventRecorder
from bamikube.client.transport import InProcessTransport
from bamikube.kit.http import Request, Response
from bamikube.kit.httpserver import serve
from bamikube.kit.pace import Pace
from bamikube.kit.tasks import Tasks
from bamikube.kit.world import World
from bamikube.nodeagent import settings
from bamikube.nodeagent.images.keyring import Keyring
from bamikube.nodeagent.images.names import parse
from bamikube.nodeagent.images.puller import Puller, PullFailed
from bamikube.nodeagent.node import reservations
from bamikube.nodeagent.node.facts import Machine
from bamikube.nodeagent.options import NodeAgentOptions
from bamikube.nodeagent.pod.plan import plan
from bamikube.nodeagent.pod.state import Backoff, Memory, RuntimeState
from bamikube.nodeagent.pod.status import HostFacts
from bamikube.nodeagent.runtime.cri import CriRuntime
from bamikube.nodeagent.runtime.port import Container, RuntimeFailure, Sandbox
from bamikube.nodeagent.server import tls
from bamikube.nodeagent.server.app import NodeApi, Shown
from bamikube.nodeagent.server.auth import Delegated, Policy
from bamikube.nodeagent.server.refusal import Refusal
from bamikube.nodeagent.startup import itself
from bamikube.nodeagent.stats.sampler import Sampler
from bamikube.pki.authority import Authority
from bamikube.pki.authority import Request as AuthorityRequest
from tests.simulation import virtual
from tests.support.hollow_pods import HollowNode

MACHINE = Machine(4, 1 << 30, 1 << 34, "amd64", "6", "Linux", "m", "s", "b")


def options(**given: Any) -> NodeAgentOptions:
    return NodeAgentOptions(**given)


# -- how fast ------------------------------------------------------------------------------------------------------


def test_a_pace_lets_a_burst_through_and_then_so_many_a_second() -> None:
    async def life() -> None:
        clock = HollowNode().clock
        pace, begun, times = Pace(clock, 2.0, 3), clock.monotonic(), []
        for _ in range(7):
            await pace.wait()
            times.append(clock.monotonic() - begun)
        assert times == pytest.approx([0, 0, 0, 0.5, 1.0, 1.5, 2.0])
        assert not pace.take()
        await clock.sleep(60)
        assert [pace.take() for _ in range(4)] == [True, True, True, False], "no more than a burst is saved"
        assert all(Pace(clock, 0.0, 0).take() for _ in range(1000)), "no bound"

    virtual.run(life())


def test_events_are_written_at_the_pace_that_the_flags_say() -> None:
    class Writer:
        times: list[float]

        async def create(self, resource: str, obj: Any) -> Any:
            self.times.append(clock.monotonic())

        async def patch(self, *_: Any, **__: Any) -> Any:
            raise AssertionError("they differ")

    async def life() -> None:
        nonlocal clock
        node = HollowNode()
        clock, writer = node.clock, Writer()
        writer.times = []
        recorder = EventRecorder(writer, node.shared.world, "kubelet", "n", (1.0, 2))
        for number in range(5):
            about = {"kind": "Pod", "metadata": {"name": f"p{number}", "namespace": "default"}}
            recorder.event(about, "Normal", "Pulled", "x")
        running = asyncio.ensure_future(recorder.run())
        await clock.sleep(10)
        running.cancel()
        first = writer.times[0]
        assert [round(t - first) for t in writer.times] == [0, 0, 1, 2, 3]

    clock: Any = None
    virtual.run(life())


def test_pulls_beyond_the_pace_fail_for_now() -> None:
    async def life() -> None:
        clock, pulled = HollowNode().clock, []

        class Runtime:
            async def pull_image(self, image: str, choice: Any) -> str:
                pulled.append(image)
                return image

        puller = Puller(pace=Pace(clock, 5.0, 2))

        async def pull() -> None:
            await puller.pull(Runtime(), clock, "a:1", parse("a:1"), Keyring())  # type: ignore[arg-type]

        await pull()
        await pull()
        with pytest.raises(PullFailed, match=r"^pull QPS exceeded$"):
            await pull()
        await clock.sleep(0.2)
        await pull()
        assert len(pulled) == 3

    virtual.run(life())


def test_the_wait_before_a_restart_grows_up_to_what_the_node_says() -> None:
    pod = {
        "metadata": {"name": "p", "namespace": "default", "uid": "u"},
        "spec": {"containers": [{"name": "app", "image": "a:1"}]},
        "status": {},
    }
    up = Sandbox("s", "p", "default", "u", 0, ready=True, created_at=1.0)

    def after(known: Backoff | None, host: HostFacts) -> float:
        ended = Container("c", "s", "app", 0, "exited", 1.0, exit_code=1, finished_at=100.0)
        memory = Memory(backoffs={} if known is None else {"app": known})
        memory.volumes_ready = True
        found = plan(pod, RuntimeState((up,), (ended,)), memory, 500.0, host)
        (start,) = [action for action in found.actions if action.kind == "StartContainer"]
        assert start.backoff is not None
        return start.backoff.period

    short = HostFacts((), restart_max=25.0)
    assert after(None, short) == 10.0 and after(Backoff(10.0, 50.0), short) == 20.0
    assert after(Backoff(20.0, 50.0), short) == 25.0 and after(Backoff(200.0, 50.0), HostFacts(())) == 300.0
    assert after(None, HostFacts((), restart_max=2.0)) == 2.0, "not even the first one is longer"

    name = "crash_loop_back_off_max_container_restart_period"
    assert settings.restart_max(options(**{name: "20s"})) == 20.0
    for wrong in ("500ms", "301s"):
        with pytest.raises(
            ValueError, match=r"crashLoopBackOff\.maxContainerRestartPeriod .* between 1s and"
        ):
            settings.restart_max(options(**{name: wrong}))


def test_logs_are_looked_at_as_often_as_the_flags_say_and_not_too_often() -> None:
    limits = settings.log_limits(
        options(
            container_log_monitor_interval="3s", container_log_max_workers=4, container_log_max_size="1Ki"
        )
    )
    assert (limits.size, limits.files, limits.period, limits.workers) == (1024, 5, 3.0, 4)
    with pytest.raises(ValueError, match=r"containerLogMonitorInterval must be .* 3s"):
        settings.log_limits(options(container_log_monitor_interval="2s"))
    with pytest.raises(ValueError, match="--container-log-max-size many"):
        settings.log_limits(options(container_log_max_size="many"))


@pytest.mark.parametrize("seconds", [60.0, 7.0])
def test_volumes_are_compared_as_often_as_the_flags_say(seconds: float) -> None:
    async def life() -> None:
        async with HollowNode() as node:
            node.shared.refresh, times = seconds, list[float]()
            worker = node.run("web", containers=[{"name": "app"}])

            async def refresh(*_: Any) -> None:
                times.append(node.clock.monotonic())

            worker._starter.refresh = refresh  # type: ignore[method-assign]
            await node.clock.sleep(4 * seconds)
            assert len(times) >= 2
            assert {round(b - a) for a, b in itertools.pairwise(times)} == {seconds}

    virtual.run(life())


async def test_figures_of_volumes_are_as_old_as_the_flags_say() -> None:
    given = options(volume_stats_agg_period="20s")
    assert settings.duration(given, "volume_stats_agg_period") == 20.0
    assert Sampler.files_fresh == 60.0


async def test_a_runtime_is_waited_for_as_long_as_the_flags_say_and_images_may_be_elsewhere(
    tmp_path: Path,
) -> None:
    def silent(name: str) -> socket.socket:
        """Somebody who listens and never says a word."""
        made = socket.socket(socket.AF_UNIX)
        made.bind(str(tmp_path / name))
        made.listen()
        made.setblocking(False)
        return made

    with silent("cri") as cri, silent("images") as images:
        runtime = CriRuntime(f"unix://{tmp_path}/cri", images=f"unix://{tmp_path}/images", timeout=0.1)
        for ask, door in ((runtime.list_containers, cri), (runtime.list_images, images)):
            with pytest.raises(BlockingIOError):
                door.accept()
            with pytest.raises(RuntimeFailure) as failed:
                await ask()
            assert failed.value.code == "DEADLINE_EXCEEDED"
            door.accept()[0].close()
        await runtime.close()
    with pytest.raises(ValueError, match="--image-service-endpoint: 'x' is not an absolute"):
        CriRuntime(f"unix://{tmp_path}/cri", images="x")


# -- whom it lets in -----------------------------------------------------------------------------------------------


def doors(policy: Policy, allowed: bool = True) -> tuple[Delegated, list[str]]:
    asked: list[str] = []

    async def reviews(request: Request) -> Response:
        body = orjson.loads(request.body)
        asked.append(body["kind"])
        if body["kind"] == "TokenReview":
            good = body["spec"]["token"] == "good"
            body["status"] = {"authenticated": good, "user": {"username": "ann"} if good else {}}
        else:
            body["status"] = {"allowed": allowed}
        return Response(201, orjson.dumps(body))

    world = World()
    return Delegated(Client(InProcessTransport(reviews), world), world, "n", policy), asked


def request(token: str = "") -> Request:
    return Request.make(
        "GET", "/stats/summary", headers={"authorization": f"Bearer {token}"} if token else {}
    )


async def test_who_says_nothing_is_anonymous_only_where_the_flags_have_it_so() -> None:
    auth, _ = doors(Policy())
    with pytest.raises(Refusal, match="Unauthorized"):
        await auth.check(request())
    auth, asked = doors(Policy(anonymous=True))
    who = await auth.check(request())
    assert (who.name, who.groups) == ("system:anonymous", ("system:unauthenticated",))
    assert asked == ["SubjectAccessReview"]
    with pytest.raises(Refusal, match="Unauthorized"):
        await auth.check(request("bad"))  # who shows a bad token is not nobody
    auth, asked = doors(Policy(anonymous=True), allowed=False)
    with pytest.raises(Refusal, match=r"Forbidden .user=system:anonymous"):
        await auth.check(request())


async def test_tokens_and_permissions_are_asked_for_as_the_flags_say() -> None:
    auth, asked = doors(Policy(everything=True))
    assert (await auth.check(request("good"))).name == "ann" and asked == ["TokenReview"]
    auth, asked = doors(Policy(tokens=False))
    with pytest.raises(Refusal, match="Unauthorized"):
        await auth.check(request("good"))
    assert asked == []
    auth, asked = doors(Policy(token_ttl=0.0, allowed_ttl=0.0))
    for _ in range(2):
        await auth.check(request("good"))
    assert asked == ["TokenReview", "SubjectAccessReview"] * 2, "nothing is remembered"
    said = settings.who_may(
        options(
            anonymous_auth=True, authorization_mode="AlwaysAllow",
            authentication_token_webhook_cache_ttl="1m", authorization_webhook_cache_unauthorized_ttl="5s",
        )
    )  # fmt: skip
    assert said == Policy(True, True, True, 60.0, 300.0, 5.0)


async def test_what_looks_into_pods_can_be_closed_and_everybody_may_read_the_rest(tmp_path: Path) -> None:
    class Agent:
        workers: dict[str, Any] = {}  # noqa: RUF012

        def turns(self) -> bool:
            return True

    def api(auth: Any, **more: Any) -> NodeApi:
        nothing: Any = Agent()
        return NodeApi(nothing, nothing, World(), auth, nothing, Shown({"a": 1}, tmp_path, **more))

    async def ask(made: NodeApi, path: str, method: str = "GET") -> tuple[int, str]:
        answer = await made.handle(Request.make(method, path))
        return answer.status, answer.joined().decode() if isinstance(answer, Response) else ""

    reading = api(None, debugging=False)
    for path in ("/exec/a/b/c", "/run/a/b/c", "/containerLogs/a/b/c", "/runningpods", "/logs/"):
        assert await ask(reading, path) == (405, "Debug endpoints are disabled.\n"), path
    assert (await ask(reading, "/configz"))[0] == 404
    assert (await ask(reading, "/pods"))[0] == 200 and await ask(reading, "/healthz") == (200, "ok")
    assert await ask(api(None, files=False), "/logs/") == (405, "logs endpoint is disabled.\n")
    assert (await ask(api(None), "/logs/"))[0] == 200
    assert (await ask(api(doors(Policy())[0]), "/pods"))[0] == 401


async def test_profiles_and_the_verbosity_of_the_log_are_there_where_the_flags_have_it_so(
    tmp_path: Path,
) -> None:
    nothing: Any = object()

    async def ask(path: str, method: str = "GET", body: bytes = b"", **more: bool) -> tuple[int, str]:
        api = NodeApi(nothing, nothing, World(), None, nothing, Shown({}, tmp_path, **more))  # type: ignore[arg-type]
        answer = await api.handle(Request.make(method, path, body=body))
        return answer.status, answer.joined().decode() if isinstance(answer, Response) else ""

    assert await ask("/debug/pprof/") == (405, "profiling endpoint is disabled.\n")
    assert await ask("/debug/pprof/", profiles=True, debugging=False) == (
        405,
        "Debug endpoints are disabled.\n",
    )
    assert await ask("/debug/flags/v") == (405, "flags endpoint is disabled.\n")
    assert "goroutine" in (await ask("/debug/pprof", profiles=True))[1]
    code, said = await ask("/debug/pprof/goroutine", profiles=True)
    assert code == 200 and " tasks\n" in said and "task " in said
    code, said = await ask("/debug/pprof/profile?seconds=0.1", profiles=True)
    assert code == 200 and ".py:" in said
    for odd in ("0", "-1", "x", "1e9", "nan"):
        assert (await ask(f"/debug/pprof/profile?seconds={odd}", profiles=True))[0] == 400, odd
    assert await ask("/debug/pprof/heap", profiles=True) == (404, "Unknown profile\n")
    assert (await ask("/debug/pprof/profile", "POST", profiles=True))[0] == 405

    root = logging.getLogger()
    before = root.level
    try:
        for level, body in ((logging.DEBUG, b"5"), (logging.INFO, b"2")):
            said = f"successfully set klog.logging.verbosity to {body.decode()}"
            assert await ask("/debug/flags/v", "PUT", body, flags=True) == (200, said)
            assert root.level == level
        assert (await ask("/debug/flags/v", "PUT", b"loud", flags=True))[0] == 400
        assert await ask("/debug/flags/v", flags=True) == (406, "unsupported http method")
        assert (await ask("/debug/flags/x", "PUT", b"1", flags=True))[0] == 404
        assert "/debug/flags/v" in (await ask("/debug/flags", flags=True))[1]
    finally:
        root.setLevel(before)


def test_cipher_suites_are_named_as_go_names_them() -> None:
    assert tls.openssl(["TLS_AES_128_GCM_SHA256"]) == "", "always there"
    named = {
        "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256": "ECDHE-RSA-AES128-GCM-SHA256",
        "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384": "ECDHE-ECDSA-AES256-GCM-SHA384",
        "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-RSA-CHACHA20-POLY1305",
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305": "ECDHE-ECDSA-CHACHA20-POLY1305",
        "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA": "ECDHE-RSA-AES128-SHA",
        "TLS_RSA_WITH_AES_256_GCM_SHA384": "AES256-GCM-SHA384",
    }
    assert tls.openssl(named) == ":".join(named.values())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers(tls.openssl(named))
    known = {suite["name"] for suite in context.get_ciphers()}
    assert set(named.values()) <= known
    for wrong in ("TLS_RSA_WITH_RC4_128_SHA", "ECDHE-RSA-AES128-GCM-SHA256", ""):
        with pytest.raises(ValueError, match=r"--tls-cipher-suites: Cipher suite .*not supported"):
            tls.openssl([wrong])


async def served(context: ssl.SSLContext) -> int:
    """The serial number of the certificate that somebody who comes now is shown."""
    tasks = Tasks("test")

    async def nothing(request: Request) -> Response:
        return Response(200, b"")

    server = await serve(nothing, host="127.0.0.1", port=0, ssl=context, tasks=tasks)
    trusting = ssl.create_default_context()
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    _, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=trusting)
    der = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    await server.close()
    await tasks.close()
    return x509.load_der_x509_certificate(der).serial_number


async def test_a_node_without_a_certificate_makes_one_and_keeps_it(tmp_path: Path) -> None:
    given = options(root_dir=str(tmp_path), client_ca_file="")
    first = tls.Serving(given, "worker-9", ("192.0.2.9",), World())
    made = x509.load_pem_x509_certificates((tmp_path / "pki" / "kubelet.crt").read_bytes())
    assert [c.subject.rfc4514_string().split("@")[0] for c in made] == ["CN=worker-9", "CN=worker-9-ca"]
    names = made[0].extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["worker-9"]
    assert [str(ip) for ip in names.get_values_for_type(x509.IPAddress)] == ["192.0.2.9"]
    assert (tmp_path / "pki" / "kubelet.key").stat().st_mode & 0o777 == 0o600
    assert first.context.verify_mode == ssl.CERT_NONE, "nobody's certificate counts"
    again = tls.Serving(given, "worker-9", ("192.0.2.9",), World())
    assert await served(again.context) == made[0].serial_number == await served(first.context)
    elsewhere = options(cert_dir=str(tmp_path / "own"), client_ca_file="")
    tls.Serving(elsewhere, "w", (), World())
    assert (tmp_path / "own" / "kubelet.crt").is_file()
    with pytest.raises(ValueError, match="--client-ca-file: there is no file"):
        tls.Serving(options(root_dir=str(tmp_path), client_ca_file="/none"), "w", (), World())
    with pytest.raises(ValueError, match="--tls-private-key-file is not set"):
        tls.Serving(options(tls_cert_file=__file__, client_ca_file=""), "w", (), World())


async def test_a_renewed_certificate_is_served_to_who_comes_next(tmp_path: Path) -> None:
    serving = tls.Serving(options(root_dir=str(tmp_path), client_ca_file=""), "w", (), World())
    before, good_until = await served(serving.context), serving.good_until
    assert not serving.look()
    file = tmp_path / "pki" / "kubelet.crt"
    other = Authority.create("other", World()).issue(AuthorityRequest("w", server=True, lifetime=1000))
    file.write_bytes(other.certificate_pem)  # and not yet its key
    with pytest.raises(ssl.SSLError):
        serving.look()
    assert await served(serving.context) == before
    (tmp_path / "pki" / "kubelet.key").write_bytes(other.key_pem)
    assert serving.look() and not serving.look()
    assert await served(serving.context) != before and serving.good_until < good_until


# -- what it hands out ---------------------------------------------------------------------------------------------


def test_pods_are_counted_by_processor_up_to_the_most() -> None:
    assert settings.most_pods(options(), MACHINE) == 110
    assert settings.most_pods(options(pods_per_core=5), MACHINE) == 20
    assert settings.most_pods(options(pods_per_core=50), MACHINE) == 110


def test_a_node_that_does_not_tell_pods_storage_apart_hands_none_out() -> None:
    assert "ephemeral-storage" in reservations.capacity(MACHINE, 1)
    assert "ephemeral-storage" not in reservations.capacity(replace(MACHINE, disk=0), 1)


def test_signals_that_are_not_named_keep_their_defaults_only_when_asked_to() -> None:
    def signals(**more: Any) -> dict[str, Any]:
        given = options(eviction_hard={"memory.available": "1Gi"}, enforce_node_allocatable=["none"], **more)
        return {one.signal: one.value for one in settings.eviction_policy(given).thresholds}

    assert set(signals()) == {"memory.available"}
    merged = signals(merge_default_eviction_settings=True)
    assert {"nodefs.available", "imagefs.available", "nodefs.inodesFree"} < set(merged)
    assert merged["memory.available"] == signals()["memory.available"]


def test_the_node_agent_is_killed_late_and_may_open_many_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked = []
    monkeypatch.setattr(resource, "setrlimit", lambda *what: asked.append(what))
    itself.settle(-999, 1000000, tmp_path / "score")
    assert (tmp_path / "score").read_text() == "-999"
    assert asked == [(resource.RLIMIT_NOFILE, (1000000, 1000000))]
    caplog.set_level(logging.INFO)
    itself.settle(-999, 5, tmp_path / "none" / "score")
    assert caplog.messages == ["--oom-score-adj -999: No such file or directory"]


def test_durations_that_cannot_be_name_their_flag() -> None:
    for field in ("sync_frequency", "runtime_request_timeout"):
        with pytest.raises(ValueError, match=f"--{field.replace('_', '-')}: has to be longer than 0s"):
            settings.duration(options(**{field: "0s"}), field, positive=True)
        with pytest.raises(ValueError, match=f"--{field.replace('_', '-')}: '5' is not a duration"):
            settings.duration(options(**{field: "5"}), field)
