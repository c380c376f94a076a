"""``bamikube etcd``: looking after the cluster's etcd.

    bamikube etcd status                      every endpoint: version, size, leader, revision
    bamikube etcd members                     the members etcd knows
    bamikube etcd alarms [--disarm]           raised alarms (NOSPACE, CORRUPT), and putting them out
    bamikube etcd compact [REVISION]          forget history before REVISION (default: all of it)
    bamikube etcd defrag                      give freed space back to the disk, member by member
    bamikube etcd snapshot save FILE          a backup, whole or not at all

The verbs go through etcd3-py and etcd's JSON gateway, where that client is sound: no streams, explicit timeouts. Its
constructor asks etcd for its version within 0.3 s and fails obscurely when it gets no answer: that is turned
into a clear error here. The snapshot is a stream and goes over gRPC. What was measured: docs/decisions/0001-etcd-client.md.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import etcd3
import grpc
import requests

from bamikube.rpc.etcd import rpc_pb2
from bamikube.store.etcd import split_endpoints

DEFAULT_ENDPOINTS = "https://127.0.0.1:2379"
DEFAULT_PKI = Path("/etc/kubernetes/pki")
# How often the constructor's version question is put to an etcd that is slow to answer.
_VERSION_ATTEMPTS = 5
_MIB = 1024 * 1024


class VerbError(Exception):
    """The verb could not be carried out; the message is for the person at the terminal."""


def add_parser(subparsers: Any) -> None:
    """Add ``etcd`` and its verbs to the lab's argument parser. ``args.run(args)`` carries them out."""
    parser = subparsers.add_parser(
        "etcd",
        help="look after the cluster's etcd",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    verbs = parser.add_subparsers(dest="etcd_verb", required=True, metavar="VERB")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--endpoints", default=DEFAULT_ENDPOINTS, help="comma-separated URLs (default %(default)s)"
    )
    common.add_argument(
        "--pki-dir",
        type=Path,
        default=DEFAULT_PKI,
        help="where etcd/ca.crt and etcd/healthcheck-client.{crt,key} are (default %(default)s)",
    )
    common.add_argument("--cacert", type=Path, help="CA of etcd's certificate (default PKI_DIR/etcd/ca.crt)")
    common.add_argument(
        "--cert", type=Path, help="client certificate (default PKI_DIR/etcd/healthcheck-client.crt)"
    )
    common.add_argument("--key", type=Path, help="its key (default PKI_DIR/etcd/healthcheck-client.key)")
    common.add_argument(
        "--timeout", type=float, default=10.0, help="seconds to wait for an answer (default 10)"
    )
    verbs.add_parser("status", parents=[common], help="version, size, leader and revision of every endpoint")
    verbs.add_parser("members", parents=[common], help="list the members")
    alarms = verbs.add_parser("alarms", parents=[common], help="list raised alarms")
    alarms.add_argument("--disarm", action="store_true", help="put out all alarms (free space first)")
    verbs.add_parser(
        "defrag", parents=[common], help="give freed space back to the disk, one endpoint after another"
    )
    compact = verbs.add_parser("compact", parents=[common], help="forget old revisions")
    compact.add_argument(
        "revision", nargs="?", type=int, default=0, help="keep history from here on (default: now)"
    )
    snapshot = verbs.add_parser("snapshot", parents=[common], help="save a backup")
    snapshot.add_argument("action", choices=["save"])
    snapshot.add_argument("file", type=Path)


def run(args: argparse.Namespace) -> int:
    """Carry out the verb; prints to stdout, errors to stderr. Returns the exit code."""
    verb: Callable[[argparse.Namespace], None] = {
        "status": status,
        "members": members,
        "alarms": alarms,
        "defrag": defrag,
        "compact": compact,
        "snapshot": snapshot,
    }[args.etcd_verb]
    try:
        verb(args)
    except (VerbError, ValueError, OSError) as error:
        print(f"bamikube etcd {args.etcd_verb}: {error}", file=sys.stderr)
        return 1
    return 0


def status(args: argparse.Namespace) -> None:
    rows = [("ENDPOINT", "ID", "VERSION", "DB SIZE", "IN USE", "LEADER", "TERM", "REVISION", "ERRORS")]
    for endpoint in _endpoints(args):
        with _client(args, endpoint) as client:
            found = client.status()
            member = _number(found.header.member_id)
            errors = ", ".join(getattr(found, "errors", None) or []) or "-"
            rows.append(
                (
                    endpoint,
                    f"{member:x}",
                    str(found.version),
                    _size(_number(found.dbSize)),
                    _size(_number(getattr(found, "dbSizeInUse", None))),
                    "yes" if member == _number(found.leader) else "no",
                    str(_number(found.header.raft_term)),
                    str(_number(found.header.revision)),
                    errors,
                )
            )
    _print(rows)


def members(args: argparse.Namespace) -> None:
    with _client(args, _endpoints(args)[0]) as client:
        rows = [("ID", "NAME", "PEERS", "CLIENTS")]
        for member in client.member_list().members or []:
            rows.append(
                (
                    f"{_number(member.ID):x}",
                    member.name or "(not started)",
                    ",".join(member.peerURLs or []),
                    ",".join(member.clientURLs or []) or "-",
                )
            )
    _print(rows)


def alarms(args: argparse.Namespace) -> None:
    with _client(args, _endpoints(args)[0]) as client:
        raised = _alarms(client)
        if not raised:
            print("no alarms")
            return
        _print([("MEMBER", "ALARM"), *((f"{member:x}", kind) for member, kind in raised)])
        if not args.disarm:
            return
        for member, kind in raised:
            client.alarm_deactivate(member, etcd3.models.etcdserverpbAlarmType[kind])
        left = _alarms(client)
        if left:
            raise VerbError(
                f"{len(left)} alarms are still raised; compact and defragment before disarming NOSPACE"
            )
        print("all alarms are disarmed")


def _alarms(client: Any) -> list[tuple[int, str]]:
    answer = client.alarm_get(0, etcd3.models.etcdserverpbAlarmType.NONE)
    return [
        (_number(alarm.memberID), getattr(alarm.alarm, "name", None) or str(alarm.alarm))
        for alarm in getattr(answer, "alarms", None) or []
    ]


def defrag(args: argparse.Namespace) -> None:
    """A member answers nothing while it defragments: one after another, never all at once."""
    for endpoint in _endpoints(args):
        with _client(args, endpoint, patience=60.0) as client:
            before = _number(client.status().dbSize)
            client.defragment()
            after = _number(client.status().dbSize)
        print(f"{endpoint}: defragmented, {_size(before)} -> {_size(after)}")


def compact(args: argparse.Namespace) -> None:
    with _client(args, _endpoints(args)[0]) as client:
        current = _number(client.status().header.revision)
        revision = args.revision or current
        if revision > current:
            raise VerbError(f"revision {revision} has not happened yet; the current one is {current}")
        client.compact(revision, physical=True)
    print(f"compacted: history before revision {revision} is gone (current {current})")


def snapshot(args: argparse.Namespace) -> None:
    """Streams a member's database into a temporary file beside FILE, which is moved into place when complete."""
    endpoint = _endpoints(args)[0]
    tls, hosts = split_endpoints([endpoint])
    host, port = hosts[0]
    target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    options = [("grpc.max_receive_message_length", -1)]
    if tls:
        ca, cert, key = (path.read_bytes() for path in _credentials(args))
        channel = grpc.secure_channel(target, grpc.ssl_channel_credentials(ca, key, cert), options)
    else:
        channel = grpc.insecure_channel(target, options)
    file: Path = args.file
    descriptor, temporary = tempfile.mkstemp(dir=file.absolute().parent, prefix=f".{file.name}.")
    written = 0
    try:
        with closing(channel), os.fdopen(descriptor, "wb") as out:
            call = channel.unary_stream(
                "/etcdserverpb.Maintenance/Snapshot",
                request_serializer=rpc_pb2.SnapshotRequest.SerializeToString,
                response_deserializer=rpc_pb2.SnapshotResponse.FromString,
            )
            remaining = 0
            for part in call(rpc_pb2.SnapshotRequest(), timeout=max(args.timeout, 300.0)):
                out.write(part.blob)
                written += len(part.blob)
                remaining = part.remaining_bytes
            out.flush()
            os.fsync(out.fileno())
        # etcd appends the SHA-256 of the database; without it the file is the torso of a snapshot.
        if not written or remaining or written % 512 != 32:
            raise VerbError(f"the snapshot of {endpoint} broke off after {written} bytes; nothing was saved")
        os.replace(temporary, file)
    except grpc.RpcError as error:
        raise VerbError(f"{endpoint} gave no snapshot: {error.details() or error.code().name}") from error
    finally:
        Path(temporary).unlink(missing_ok=True)
    print(f"saved {_size(written)} of {endpoint} to {file}; look at it with `etcdctl snapshot status {file}`")


# ---- plumbing


def _endpoints(args: argparse.Namespace) -> list[str]:
    endpoints = [endpoint.strip() for endpoint in args.endpoints.split(",") if endpoint.strip()]
    split_endpoints(endpoints)
    return endpoints


def _credentials(args: argparse.Namespace) -> tuple[Path, Path, Path]:
    folder = args.pki_dir / "etcd"
    paths = (
        args.cacert or folder / "ca.crt",
        args.cert or folder / "healthcheck-client.crt",
        args.key or folder / "healthcheck-client.key",
    )
    for path in paths:
        if not os.access(path, os.R_OK):
            raise VerbError(
                f"cannot read {path}; run this on a control-plane node as root, or name --pki-dir"
            )
    return paths


@contextmanager
def _client(args: argparse.Namespace, endpoint: str, patience: float = 0.0) -> Iterator[Any]:
    """An etcd3-py client for one endpoint, its failures in words a person can use."""
    tls, hosts = split_endpoints([endpoint])
    host, port = hosts[0]
    options: dict[str, Any] = {"host": f"[{host}]" if ":" in host else host, "port": port}
    options["timeout"] = max(args.timeout, patience)
    if tls:
        ca, cert, key = _credentials(args)
        options |= {"protocol": "https", "cert": (str(cert), str(key)), "verify": str(ca)}
    client = _connect(options, endpoint)
    try:
        with closing(client):
            yield client
    except requests.RequestException as error:
        raise VerbError(f"{endpoint} did not answer: {_reason(error)}") from error
    except etcd3.errors.Etcd3Exception as error:
        raise VerbError(f"{endpoint} refused: {error}") from error


def _connect(options: dict[str, Any], endpoint: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(_VERSION_ATTEMPTS):
            try:
                client = etcd3.Client(**options)
                # Proxy and CA settings of the environment would win over the session's own: they are not for etcd.
                client._session.trust_env = False
                return client
            except AttributeError:
                continue  # no version came back: the constructor trips over its own missing attribute
    url = f"{options.get('protocol', 'http')}://{options['host']}:{options['port']}/version"
    why = "no answer to its version question"
    try:
        requests.get(
            url, cert=options.get("cert"), verify=options.get("verify", True), timeout=2
        ).raise_for_status()
    except (requests.RequestException, OSError) as error:
        why = _reason(error)
    raise VerbError(f"cannot reach etcd at {endpoint}: {why}; is it running, and is this its address?")


def _reason(error: Exception) -> str:
    """The innermost cause of a wrapped network error: the outer layers only repeat it."""
    seen: BaseException = error
    while (inner := getattr(seen, "reason", None) or seen.__cause__ or seen.__context__) and isinstance(
        inner, BaseException
    ):
        seen = inner
    return str(seen) or type(seen).__name__


def _number(value: Any) -> int:
    """etcd's JSON carries 64-bit numbers as text and leaves zeros out."""
    return int(value or 0)


def _size(count: int) -> str:
    return f"{count / _MIB:.1f} MiB" if count >= _MIB else f"{count / 1024:.0f} KiB"


def _print(rows: Sequence[tuple[str, ...]]) -> None:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
