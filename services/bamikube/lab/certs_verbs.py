"""``bamikube certs``: what certificates a node holds and how long they last, and renewing them.

bamikube certs list [--wide]        name, subject, authority, expiry, what is left, and whether all is well
bamikube certs renew                replace what expires within 30 days or is not what the profiles ask for
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from cryptography import x509

from bamikube.kit.world import World
from bamikube.pki import inspect, issue, kubeconfig
from bamikube.pki.profiles import ClusterNames, NodeNames

DEFAULT_DIRECTORY = Path("/etc/kubernetes")


def add_parser(subparsers: Any) -> None:
    """Add ``certs`` and its verbs to the lab's argument parser. ``args.run(args)`` carries them out."""
    parser = subparsers.add_parser(
        "certs",
        help="certificates of this node",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    verbs = parser.add_subparsers(dest="certs_verb", required=True, metavar="VERB")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--dir", type=Path, default=DEFAULT_DIRECTORY, help="the node's directory (default %(default)s)"
    )
    listing = verbs.add_parser(
        "list", parents=[common], help="list certificates and what is left of their lives"
    )
    listing.add_argument("--wide", action="store_true", help="show alternative names and files too")
    verbs.add_parser("renew", parents=[common], help="renew what is about to expire or no longer fits")


def run(args: argparse.Namespace, world: World | None = None) -> int:
    """Carry out the verb. ``list`` ends with 1 when a certificate needs attention."""
    world = world or World()
    try:
        return {"list": list_certificates, "renew": renew}[args.certs_verb](args, world)
    except (ValueError, OSError, kubeconfig.KubeconfigError) as error:
        print(f"bamikube certs {args.certs_verb}: {error}", file=sys.stderr)
        return 1


def list_certificates(args: argparse.Namespace, world: World) -> int:
    facts = inspect.inspect(args.dir, world.clock.now())
    if not args.dir.is_dir():
        raise ValueError(f"{args.dir} does not exist; name the node's directory with --dir")
    sys.stdout.write(inspect.table(facts, wide=args.wide))
    return 0 if all(fact.status == "OK" for fact in facts) else 1


def renew(args: argparse.Namespace, world: World) -> int:
    """The cluster's and the node's names are read off the material that is there."""
    cluster, node = names(args.dir)
    if (args.dir / "pki" / "ca.key").exists():
        outcomes = issue.issue_control_plane(args.dir, cluster, node, world)
    else:
        raise ValueError(
            f"{args.dir / 'pki' / 'ca.key'} is not there: this is no control-plane node; "
            "renew a worker's certificates from the machine that holds the authority"
        )
    for outcome in outcomes:
        print(f"{outcome.action:<8} {outcome.name:<26} {outcome.reason}")
    if any(outcome.action == "renewed" for outcome in outcomes):
        print("restart the services of this node to let them use the new certificates")
    return 0


def names(directory: Path) -> tuple[ClusterNames, NodeNames]:
    """What the cluster and this node are called, from kubelet.conf and the certificates. Raises KubeconfigError."""
    access = kubeconfig.load(directory / "kubelet.conf")
    config = kubeconfig.read(directory / "kubelet.conf")
    user = issue.common_name(x509.load_pem_x509_certificate(access.cert_pem))
    node_name = user.removeprefix("system:node:")
    serving = _sans(directory / "pki" / "kubelet.crt")
    known = {node_name, "localhost", "127.0.0.1"}
    address = next((san for san in serving if san not in known), "127.0.0.1")
    cluster = {"name": config["clusters"][0]["name"], "server": access.server}
    api = _sans(directory / "pki" / "apiserver.crt")
    suffix = "kubernetes.default.svc."
    domain = next((san.removeprefix(suffix) for san in api if san.startswith(suffix)), None)
    if domain is not None:
        # The order is the profile's: fixed names, node, address, service address, loopback, further ones.
        fixed = (
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
            suffix + domain,
            *known,
            address,
        )
        rest = [san for san in api if san not in fixed]
        return (
            ClusterNames(**cluster, domain=domain, service_ip=rest[0], api_sans=tuple(rest[1:])),
            NodeNames(name=node_name, address=address),
        )
    return ClusterNames(**cluster), NodeNames(name=node_name, address=address)


def _sans(path: Path) -> tuple[str, ...]:
    return issue.sans(x509.load_pem_x509_certificate(path.read_bytes())) if path.exists() else ()
