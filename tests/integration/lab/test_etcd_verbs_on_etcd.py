"""``bamikube etcd ...`` and ``bamikube certs ...`` against a real etcd that demands client certificates."""

from __future__ import annotations

import argparse
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from bamikube.kit.world import World
from bamikube.lab import certs_verbs, etcd_verbs
from bamikube.store.etcd import EtcdStore
from bamikube.store.port import Compacted, Put
from tests.support.etcd import EtcdServer, etcd_server


@pytest.fixture(scope="module")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdServer]:
    with etcd_server(tmp_path_factory.mktemp("etcd"), tls=True) as server:
        yield server


def verb(etcd: EtcdServer, *words: str) -> int:
    parser = argparse.ArgumentParser()
    etcd_verbs.add_parser(parser.add_subparsers())
    options = [f"--endpoints={etcd.endpoint}"]
    if etcd.tls:
        options += [f"--cacert={etcd.ca}", f"--cert={etcd.cert}", f"--key={etcd.key}"]
    args = parser.parse_args(["etcd", words[0], *options, *words[1:]])
    code: int = args.run(args)
    return code


async def fill(etcd: EtcdServer) -> int:
    store = EtcdStore(etcd.endpoints, world=World(), **etcd.credentials)
    for number in range(5):
        revision = (await store.txn([], [Put(b"/fill", b"%d" % number)])).revision
    await store.close()
    return revision


async def test_status_and_members(etcd: EtcdServer, capsys: pytest.CaptureFixture[str]) -> None:
    revision = await fill(etcd)
    assert verb(etcd, "status") == 0
    row = capsys.readouterr().out.splitlines()[1]
    assert etcd.endpoint in row and "3." in row and str(revision) in row.split() and "yes" in row
    assert verb(etcd, "members") == 0
    assert "test" in capsys.readouterr().out


async def test_compact_and_defrag(etcd: EtcdServer, capsys: pytest.CaptureFixture[str]) -> None:
    revision = await fill(etcd)
    assert verb(etcd, "compact", str(revision - 1)) == 0
    store = EtcdStore(etcd.endpoints, world=World(), **etcd.credentials)
    with pytest.raises(Compacted):
        await store.get(b"/fill", revision=revision - 2)
    await store.close()
    assert verb(etcd, "compact", str(revision + 1000)) == 1
    assert "has not happened yet" in capsys.readouterr().err
    assert verb(etcd, "compact", str(revision - 1)) == 1
    assert "compacted" in capsys.readouterr().err
    assert verb(etcd, "defrag") == 0
    assert "defragmented" in capsys.readouterr().out


async def test_snapshot_is_one_that_etcdctl_accepts(etcd: EtcdServer, tmp_path: Path) -> None:
    await fill(etcd)
    file = tmp_path / "backup.db"
    assert verb(etcd, "snapshot", "save", str(file)) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["backup.db"]
    assert file.stat().st_mode & 0o077 == 0
    shown = subprocess.run(
        ["etcdctl", "snapshot", "status", str(file), "-w", "json"],
        env={"ETCDCTL_API": "3", "PATH": "/usr/bin:/bin:/usr/local/bin"},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert shown.returncode == 0, shown.stderr
    assert '"totalKey"' in shown.stdout


async def test_alarms_are_shown_and_disarmed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with etcd_server(tmp_path, flags=(f"--quota-backend-bytes={2 * 1024 * 1024}",)) as etcd:
        assert verb(etcd, "alarms") == 0
        assert capsys.readouterr().out == "no alarms\n"
        store = EtcdStore(etcd.endpoints, world=World())
        with pytest.raises(Exception, match="quota"):
            for _ in range(200):  # etcd counts what it has committed, every 100 ms
                await store.txn([], [Put(b"/x", bytes(1024 * 1024))])
        assert verb(etcd, "alarms") == 0
        assert "NOSPACE" in capsys.readouterr().out
        assert verb(etcd, "compact") == 0
        assert verb(etcd, "defrag") == 0
        assert verb(etcd, "alarms", "--disarm") == 0
        await store.txn([], [Put(b"/x", b"fits again")])
        await store.close()


def test_a_dead_etcd_is_said_in_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    server = etcd_server(tmp_path)
    for words in (("status",), ("members",), ("snapshot", "save", str(tmp_path / "f"))):
        assert verb(server, *words) == 1
        error = capsys.readouterr().err
        assert server.endpoint in error and "Traceback" not in error
    assert list(tmp_path.iterdir()) == []


def test_missing_credentials_are_said_in_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    etcd_verbs.add_parser(parser.add_subparsers())
    args = parser.parse_args(["etcd", "status", f"--pki-dir={tmp_path}"])
    assert args.run(args) == 1
    assert "cannot read" in capsys.readouterr().err


def test_certs_verbs_parse() -> None:
    parser = argparse.ArgumentParser()
    certs_verbs.add_parser(parser.add_subparsers())
    assert parser.parse_args(["certs", "list", "--wide"]).wide
