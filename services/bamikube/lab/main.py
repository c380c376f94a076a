"""``bamikube``: a real cluster on this machine, from one command.

bamikube up                          bring the lab up (images, certificates, nodes), wait until it is ready
bamikube status [-o json]            what runs, where, since when
bamikube logs NODE [UNIT] [-f]       what a unit said
bamikube node crash|start|partition|heal NAME
bamikube image load FILE.tar ...     images for every node, from docker-save or OCI archives
bamikube kubeconfig                  where the administrator's kubeconfig is
bamikube down                        remove it all
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bamikube.lab.verbs import Lab

# Verbs that live in modules of their own, which are heavy to import and of no use to the others.
_ETCD, _CERTS = "etcd", "certs"


def build_parser(*, complete: bool) -> argparse.ArgumentParser:
    """The command line. Without ``complete``, the parsers of ``etcd`` and ``certs`` are only named."""
    parser = argparse.ArgumentParser(
        prog="bamikube", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--lab-dir",
        type=Path,
        metavar="DIR",
        help="the lab's state (default: the running lab's, else ./.lab)",
    )
    parser.add_argument(
        "--cache-dir",
        type=Path,
        metavar="DIR",
        help="images and packages, kept by 'down' (default: .cache beside it)",
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    up = verbs.add_parser("up", help="bring the lab up and wait until it is ready")
    up.add_argument(
        "--timeout", type=float, default=120.0, metavar="SECONDS", help="how long to wait (default 120)"
    )
    up.add_argument(
        "--refresh-images", action="store_true", help="make images anew from newer Debian packages"
    )
    up.add_argument(
        "--kubelet-config",
        type=Path,
        metavar="FILE",
        help="a KubeletConfiguration for the node agents, laid over the lab's own; a lab that runs takes it at once",
    )
    verbs.add_parser("down", help="remove the lab")
    status = verbs.add_parser("status", help="show what runs")
    status.add_argument("-o", "--output", choices=["json"], default="", help="as JSON")
    logs = verbs.add_parser("logs", help="show a unit's log")
    logs.add_argument("node")
    logs.add_argument(
        "unit", nargs="?", default="", help="containerd, apiserver, ...; without it: which there are"
    )
    logs.add_argument("-f", "--follow", action="store_true", help="go on as lines come")
    logs.add_argument(
        "-n", "--lines", type=int, default=200, help="how many lines from the end (default 200)"
    )
    node = verbs.add_parser("node", help="crash, start, cut off, reconnect a node")
    node.add_argument("action", choices=["crash", "start", "partition", "heal", "restart-unit", "list"])
    node.add_argument("name", nargs="?", default="")
    node.add_argument("unit", nargs="?", default="", help="for restart-unit")
    image = verbs.add_parser("image", help="load or list images")
    image_verbs = image.add_subparsers(dest="image_verb", required=True, metavar="VERB")
    load = image_verbs.add_parser(
        "load", help="make images of docker-save or OCI archives available to every node"
    )
    load.add_argument("files", nargs="+", type=Path, metavar="FILE.tar")
    image_verbs.add_parser("list", help="images that nodes find in the lab")
    image_verbs.add_parser("build", help="make the lab's own images")
    verbs.add_parser("kubeconfig", help="print the path of the administrator's kubeconfig")
    if complete:
        from bamikube.lab import certs_verbs, etcd_verbs

        etcd_verbs.add_parser(verbs)
        certs_verbs.add_parser(verbs)
    else:
        verbs.add_parser(_ETCD, help="look after the cluster's etcd", add_help=False)
        verbs.add_parser(_CERTS, help="certificates of a node", add_help=False)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """The command. Returns its exit status: 0 fine, 1 not, 2 bad usage."""
    words = list(sys.argv[1:] if argv is None else argv)
    parser = build_parser(complete=any(word in (_ETCD, _CERTS) for word in words))
    args = parser.parse_args(words)
    try:
        if args.verb in (_ETCD, _CERTS):
            return _maintenance(args)
        if args.verb == "image":
            return _image(args)
        return _lab_verb(args)
    except KeyboardInterrupt:
        print("\ninterrupted; run the same command again to go on", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return 1
    except Exception as error:
        from bamikube.lab import faults

        if isinstance(error, faults.SAID):
            print(f"bamikube {args.verb}: {error}", file=sys.stderr)
            return 1
        raise


def _lab(args: argparse.Namespace) -> Lab:
    from rich.console import Console

    from bamikube.lab import machine
    from bamikube.lab.topology import Topology
    from bamikube.lab.verbs import Lab

    # Wide enough for a table when the output is a file or a pipe.
    console = Console() if sys.stdout.isatty() else Console(width=160)
    return Lab(Topology(), machine.choose(args.lab_dir, args.cache_dir), console)


def _lab_verb(args: argparse.Namespace) -> int:
    if args.verb == "kubeconfig":
        return _kubeconfig(args)
    from bamikube.lab.topology import UnknownNode

    lab = _lab(args)
    if args.verb == "up":
        return lab.up(
            seconds=args.timeout, refresh_images=args.refresh_images, kubelet_config=args.kubelet_config
        )
    if args.verb == "down":
        return lab.down()
    if args.verb == "status":
        return lab.status(args.output)
    if args.verb == "logs":
        return lab.logs(lab.topology.node(args.node), args.unit, follow=args.follow, lines=args.lines)
    if args.action == "list":
        return lab.status()
    if not args.name:
        raise UnknownNode(
            f"which node? bamikube node {args.action} NAME, one of {', '.join(n.name for n in lab.topology.nodes)}"
        )
    node = lab.topology.node(args.name)
    if args.action == "restart-unit":
        return lab.restart_unit(node, args.unit)
    actions: dict[str, Callable[[Any], int]] = {
        "crash": lab.crash,
        "start": lab.start,
        "partition": lab.partition,
        "heal": lab.heal,
    }
    return actions[args.action](node)


def _kubeconfig(args: argparse.Namespace) -> int:
    from bamikube.lab import machine

    path = machine.choose(args.lab_dir, args.cache_dir).kubeconfig
    print(path)
    if not path.is_file():
        print("it is not there yet: 'bamikube up' writes it", file=sys.stderr)
        return 1
    return 0


def _image(args: argparse.Namespace) -> int:
    from bamikube.lab import machine
    from bamikube.lab.images.archive import load_archive
    from bamikube.lab.images.build import build_all
    from bamikube.lab.images.names import short_name
    from bamikube.lab.images.store import ImageStore

    paths = machine.choose(args.lab_dir, args.cache_dir)
    loaded, built = ImageStore(paths.loaded_images), ImageStore(paths.built_images)
    if args.image_verb == "build":
        made = build_all(built, paths.cache, print)
        print(f"{made} images made, {len(built.names())} names in {built.folder}")
    elif args.image_verb == "load":
        for path in args.files:
            for name in load_archive(path, loaded):
                print(f"loaded {short_name(name)}")
    else:
        rows = {name: (descriptor, "built-in") for name, descriptor in built.names().items()}
        rows |= {name: (descriptor, "loaded") for name, descriptor in loaded.names().items()}
        width = max((len(short_name(name)) for name in rows), default=4)
        print(f"{'NAME':<{width}}  {'DIGEST':<19}  ORIGIN")
        for name, (descriptor, origin) in sorted(rows.items()):
            print(f"{short_name(name):<{width}}  {descriptor.digest[:19]}  {origin}")
    return 0


def _maintenance(args: argparse.Namespace) -> int:
    """``etcd`` and ``certs``: on a node they look at that node; beside a lab they look at the lab's control plane."""
    from bamikube.lab import certs_verbs, etcd_verbs, machine
    from bamikube.lab.topology import Topology

    topology = Topology()
    kubernetes = machine.choose(args.lab_dir, args.cache_dir).node(topology.master.name).kubernetes
    if args.verb == _ETCD:
        if args.pki_dir == etcd_verbs.DEFAULT_PKI and not args.pki_dir.is_dir() and kubernetes.is_dir():
            args.pki_dir = kubernetes / "pki"
            if args.endpoints == etcd_verbs.DEFAULT_ENDPOINTS:
                args.endpoints = f"https://{topology.master.address}:2379"
        return etcd_verbs.run(args)
    if args.dir == certs_verbs.DEFAULT_DIRECTORY and not args.dir.is_dir() and kubernetes.is_dir():
        args.dir = kubernetes
    return certs_verbs.run(args)


if __name__ == "__main__":
    sys.exit(main())
