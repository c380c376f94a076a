"""The API server alone: GET, LIST, CREATE, UPDATE, watch fan-out, deletecollection. Run: ``python bench/api.py``.

Starts an etcd (TLS, data synced to disk) and one API server (TLS, bearer token, RBAC, all admission) on loopback, in a
directory of their own, drives them with ``bench/load.py``, and stops them. Server, etcd and driver share the machine's
cores. GET needs ``wrk`` (Debian package ``wrk``); without it that row is left out, and the output says so. What etcd
itself does, with nobody in front, is measured by ``etcdctl check perf`` (a minute; ``--no-etcd`` leaves it out).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import secrets
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "services")]

import report  # noqa: E402

TESTS = ("get", "create-cm", "list", "watch")
START_SECONDS = 30.0
# One run of all tests takes about a minute here; a machine ten times slower still ends.
RUN_SECONDS = 900.0


@dataclass
class Cluster:
    """A private etcd and API server, and how to reach them."""

    folder: Path
    etcd: str
    server: str
    token: str
    services: Path = report.SERVICES  # where the API server's code is
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def ca(self) -> str:
        return str(self.folder / "ca.crt")

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> bytes:
        """One request as the administrator. Raises OSError (HTTPError among them)."""
        request = urllib.request.Request(
            self.server + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"},
        )
        context = ssl.create_default_context(cafile=self.ca)
        with urllib.request.urlopen(request, timeout=10, context=context) as answer:
            data: bytes = answer.read()
            return data


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def _certificates(folder: Path) -> None:
    from bamikube.kit.world import World
    from bamikube.pki import keys
    from bamikube.pki.authority import Authority, Request

    authority = Authority.create("bench-ca", World())
    (folder / "ca.crt").write_bytes(authority.certificate_pem)
    for name, request in {
        "server": Request("bench", sans=("localhost", "127.0.0.1"), server=True, client=True),
        "client": Request("kube-apiserver-etcd-client", client=True),
    }.items():
        issued = authority.issue(request)
        (folder / f"{name}.crt").write_bytes(issued.certificate_pem)
        (folder / f"{name}.key").write_bytes(issued.key_pem)
    (folder / "sa.key").write_bytes(keys.private_pem(keys.new_rsa_key()))


def _spawn(cluster: Cluster, name: str, command: list[str]) -> None:
    with (cluster.folder / f"{name}.log").open("ab") as log:
        cluster.processes[name] = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**os.environ, "PYTHONPATH": str(cluster.services)},
        )


def _until_answers(cluster: Cluster) -> float:
    """Wait for ``/readyz``; returns the seconds it took. SystemExit with the last log lines if it never does."""
    started = time.monotonic()
    while time.monotonic() - started < START_SECONDS:
        for name, process in cluster.processes.items():
            if process.poll() is not None:
                raise SystemExit(f"{name} ended with {process.returncode}:\n{_tail(cluster, name)}")
        with contextlib.suppress(OSError):
            cluster.call("GET", "/readyz")
            return time.monotonic() - started
        time.sleep(0.02)
    raise SystemExit(
        f"the API server is not ready after {START_SECONDS:.0f} s:\n{_tail(cluster, 'apiserver')}"
    )


def _tail(cluster: Cluster, name: str) -> str:
    return (cluster.folder / f"{name}.log").read_text(errors="replace")[-2000:]


@contextlib.contextmanager
def private_cluster(*extra: str, services: Path = report.SERVICES) -> Iterator[Cluster]:
    """A running etcd and API server with the namespace ``load``; ``extra`` are flags for the API server.

    ``services`` is the code it runs: this tree's, or another's.
    """
    if shutil.which("etcd") is None:
        raise SystemExit("no etcd on PATH: run 'make packages' (Debian package etcd-server)")
    with tempfile.TemporaryDirectory(prefix="bamikube-bench-") as name:
        folder = Path(name)
        client_port, peer_port, api_port = _free_ports(3)
        cluster = Cluster(
            folder,
            f"https://127.0.0.1:{client_port}",
            f"https://127.0.0.1:{api_port}",
            secrets.token_urlsafe(24),
            services,
        )
        _certificates(folder)
        (folder / "tokens.csv").write_text(f'{cluster.token},bench,1,"system:masters"\n')
        peer = f"http://127.0.0.1:{peer_port}"
        try:
            _spawn(
                cluster,
                "etcd",
                [
                    "etcd",
                    "--name=bench",
                    f"--data-dir={folder}/etcd",
                    f"--listen-client-urls={cluster.etcd}",
                    f"--advertise-client-urls={cluster.etcd}",
                    f"--listen-peer-urls={peer}",
                    f"--initial-advertise-peer-urls={peer}",
                    f"--initial-cluster=bench={peer}",
                    "--log-level=warn",
                    f"--cert-file={folder}/server.crt",
                    f"--key-file={folder}/server.key",
                    f"--trusted-ca-file={folder}/ca.crt",
                    "--client-cert-auth=true",
                ],
            )
            _spawn(
                cluster,
                "apiserver",
                [
                    sys.executable,
                    "-m",
                    "bamikube.apiserver.main",
                    f"--etcd-servers={cluster.etcd}",
                    f"--etcd-cafile={folder}/ca.crt",
                    f"--etcd-certfile={folder}/client.crt",
                    f"--etcd-keyfile={folder}/client.key",
                    "--bind-address=127.0.0.1",
                    f"--secure-port={api_port}",
                    f"--tls-cert-file={folder}/server.crt",
                    f"--tls-private-key-file={folder}/server.key",
                    f"--client-ca-file={folder}/ca.crt",
                    f"--token-auth-file={folder}/tokens.csv",
                    f"--service-account-key-file={folder}/sa.key",
                    f"--service-account-signing-key-file={folder}/sa.key",
                    *extra,
                ],
            )
            _until_answers(cluster)
            _prepare(cluster, "load")
            yield cluster
        finally:
            for process in reversed(cluster.processes.values()):
                process.terminate()
            for process in reversed(cluster.processes.values()):
                try:
                    process.wait(15)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()


def _prepare(cluster: Cluster, namespace: str) -> None:
    """The namespace and its service account, which no controller makes here."""
    for path, body in (
        ("/api/v1/namespaces", {"metadata": {"name": namespace}}),
        (f"/api/v1/namespaces/{namespace}/serviceaccounts", {"metadata": {"name": "default"}}),
    ):
        try:
            cluster.call("POST", path, body)
        except urllib.error.HTTPError as error:
            if error.code != 409:
                raise SystemExit(f"POST {path}: {error.code} {error.read()[:300]!r}") from None


def drive(cluster: Cluster, tests: list[str], *flags: str) -> list[dict[str, Any]]:
    """Run ``load.py`` once; returns its result lines. SystemExit if a test failed."""
    pids = ",".join(f"{name}={process.pid}" for name, process in cluster.processes.items())
    command = [
        sys.executable,
        str(HERE / "load.py"),
        *tests,
        f"--server={cluster.server}",
        f"--token={cluster.token}",
        f"--ca={cluster.ca}",
        f"--pids={pids}",
        *flags,
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=RUN_SECONDS)
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    failed = [f"{line['test']}: {line['error']}" for line in lines if "error" in line]
    if done.returncode or failed:
        raise SystemExit(
            "\n".join(["load.py failed:", *failed, done.stderr[-2000:], _tail(cluster, "apiserver")])
        )
    return lines


def _latency(text: str) -> float:
    """wrk's ``1.23ms`` in milliseconds."""
    found = re.fullmatch(r"([\d.]+)(us|ms|s)", text)
    if found is None:
        raise ValueError(f"wrk printed the latency {text!r}")
    return float(found[1]) * {"us": 0.001, "ms": 1.0, "s": 1000.0}[found[2]]


def rows_of(line: dict[str, Any]) -> Iterator[tuple[str, float, float, float, float]]:
    """What a result line of load.py says: test, things a second, p50 and p99 in milliseconds, server CPU seconds."""
    test, nan = line["test"], float("nan")
    cpu = line.get("cpu_s", {}).get("apiserver", nan)
    if test == "get":
        yield (
            f"GET one object, {line['conns']} connections",
            line["req_s"],
            _latency(line["p50"]),
            _latency(line["p99"]),
            cpu,
        )
    elif test in ("create-cm", "create-pod"):
        kind = "configmaps" if test == "create-cm" else "pods"
        yield f"CREATE {line['n']} {kind}, 16 connections", line["ops_s"], line["p50_ms"], line["p99_ms"], cpu
    elif test == "list-pods":
        kind = "from the cache" if line["query"] else "consistent"
        name = f"LIST {line['n']} pods ({line['bytes'] / 1e6:.1f} MB), {kind}"
        yield name, 1000 / line["p50_ms"], line["p50_ms"], line["p99_ms"], cpu
    elif test == "watch-fanout":
        if not line["all_received"]:
            raise SystemExit(f"the watchers missed events: {line}")
        name = f"WATCH {line['updates']} updates to {line['watchers']} watchers (deliveries)"
        lag, put = line["lag_from_put_start"], line["put"]
        yield name, line["events_s"], lag["p50_ms"], lag["p99_ms"], cpu
        yield (
            "  UPDATE meanwhile, 16 connections",
            line["updates"] / line["write_seconds"],
            put["p50_ms"],
            put["p99_ms"],
            nan,
        )
    elif test.startswith("deletecollection"):
        yield f"deletecollection of {line['n']} configmaps", line["ops_s"], nan, nan, cpu


def etcd_itself(cluster: Cluster) -> tuple[float, str]:
    """Puts a second by ``etcdctl check perf --load=l`` (500 clients, aims at 8 000), and its whole verdict."""
    command = [
        "etcdctl",
        "check",
        "perf",
        "--load=l",
        f"--endpoints={cluster.etcd}",
        f"--cacert={cluster.ca}",
        f"--cert={cluster.folder}/client.crt",
        f"--key={cluster.folder}/client.key",
    ]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=180, env={**os.environ, "ETCDCTL_API": "3"}
    )
    said = done.stdout + done.stderr
    found = re.search(r"(?:Throughput is|Throughput too low:) (\d+) writes/s", said)
    verdict = "; ".join(
        line.strip()
        for line in said.replace("\r", "\n").splitlines()
        if line.startswith(("PASS", "FAIL", "Slowest", "Stddev"))
    )
    return (float(found[1]) if found else float("nan")), verdict or said[-300:]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("tests", nargs="*", default=[], help=f"which of {', '.join(TESTS)} (default: all)")
    parser.add_argument("--repeat", type=int, default=3, help="runs; the table shows medians (default 3)")
    parser.add_argument("--secs", type=int, default=5, help="seconds of each GET test (default 5)")
    parser.add_argument("--no-etcd", action="store_true", help="leave out etcdctl check perf")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write load.py's lines here as well")
    args = parser.parse_args()
    tests = list(args.tests or TESTS)
    if "get" in tests and shutil.which("wrk") is None:
        print("GET is left out: it needs wrk (Debian package wrk)")
        tests.remove("get")
    print(report.machine())
    found: dict[str, list[tuple[float, float, float, float]]] = defaultdict(list)
    raw: list[dict[str, Any]] = []
    memory: list[float] = []
    etcd, verdict = float("nan"), ""
    for run in range(args.repeat):
        # A fresh server and store each time: the runs do not inherit each other's history.
        with private_cluster() as cluster:
            for line in drive(cluster, tests, f"--secs={args.secs}") if tests else []:
                raw.append(line)
                for name, *numbers in rows_of(line):
                    found[name].append((numbers[0], numbers[1], numbers[2], numbers[3]))
                memory.append(line.get("rss_mib", {}).get("apiserver", 0.0))
            if run == args.repeat - 1 and not args.no_etcd and shutil.which("etcdctl"):
                etcd, verdict = etcd_itself(cluster)
    report.show(
        f"API over TLS with a bearer token, medians of {args.repeat} runs",
        ("", "per s", "p50 ms", "p99 ms", "apiserver CPU s"),
        [
            (
                name,
                report.rate(report.median(each[0] for each in runs)),
                *(report.milliseconds(report.median(each[i] for each in runs) / 1000) for i in (1, 2)),
                f"{report.median(each[3] for each in runs):.2f}".replace("nan", "-"),
            )
            for name, runs in found.items()
        ],
    )
    if memory:
        print(f"apiserver's largest resident size: {max(memory):.0f} MiB")
    if verdict:
        print(f"etcd alone (etcdctl check perf --load=l): {report.rate(etcd)} puts/s; {verdict}")
        creates = [r[0] for name, runs in found.items() if "configmaps, 16" in name for r in runs]
        if creates:
            print(f"CREATE through the API is {report.median(creates) / etcd:.2f} of etcd's own rate")
    if args.json:
        args.json.write_text("".join(json.dumps(line) + "\n" for line in raw))


if __name__ == "__main__":
    main()
