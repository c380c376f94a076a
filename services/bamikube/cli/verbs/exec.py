"""``bamictl exec``: run a command in a container, with the terminal if wanted."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

from bamikube.cli.errors import CliError, usage
from bamikube.cli.resources import path_of
from bamikube.cli.selection import one
from bamikube.cli.session import Session
from bamikube.cli.websocket import RESIZE, STATUS, STDERR, STDIN, STDOUT, Channels, connect

SUMMARY = "Execute a command in a container"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("words", nargs="*", metavar="POD [-c CONTAINER] -- COMMAND [args...]")
    parser.add_argument("-c", "--container", default="")
    parser.add_argument("-i", "--stdin", action="store_true")
    parser.add_argument("-t", "--tty", action="store_true")
    parser.add_argument("-it", "-ti", dest="both", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("-q", "--quiet", action="store_true")


def run(args: argparse.Namespace, session: Session) -> int:
    if not args.words:
        raise usage("pod, type/name or --filename must be specified")
    if not args.command:
        raise usage("you must specify at least one command for the container")
    args.stdin, args.tty = args.stdin or args.both, args.tty or args.both
    if args.tty and not (args.stdin and sys.stdin.isatty()):
        print("Unable to use a TTY - input is not a terminal or the right kind of file", file=sys.stderr)
        args.tty = False
    resource, name = one(session.catalogue, args.words[:1])
    if resource.plural != "pods":
        raise usage(f"exec works on pods, not on {resource.plural}")
    pod = session.connection.call("GET", path_of(resource, session.namespace, name))
    query: list[tuple[str, str]] = [("container", _container(args, pod))]
    query += [("command", word) for word in args.command]
    query += [("stdout", "true"), *([] if args.tty else [("stderr", "true")])]
    query += [(flag, "true") for flag in ("stdin", "tty") if getattr(args, flag)]
    path = path_of(resource, session.namespace, name, "exec") + "?" + urlencode(query)
    channels = connect(session.connection, path)
    with _terminal(channels) if args.tty else contextlib.nullcontext():
        if args.stdin:
            threading.Thread(target=_feed, args=(channels,), daemon=True).start()
        return _relay(channels)


def _container(args: argparse.Namespace, pod: dict[str, Any]) -> str:
    names = [container["name"] for container in pod["spec"]["containers"]]
    if args.container:
        return str(args.container)
    wanted = (pod["metadata"].get("annotations") or {}).get("kubectl.kubernetes.io/default-container")
    chosen = str(wanted if wanted in names else names[0])
    if len(names) > 1 and not wanted and not args.quiet:
        print(f'Defaulted container "{chosen}" out of: {", ".join(names)}', file=sys.stderr)
    return chosen


def _feed(channels: Channels) -> None:
    """Standard input to the container, until either ends."""
    with contextlib.suppress(OSError):
        while data := os.read(sys.stdin.fileno(), 16384):
            channels.send(STDIN, data)
        channels.end_of_input()


def _relay(channels: Channels) -> int:
    """The container's output, and in the end its exit code."""
    outputs = {STDOUT: sys.stdout.buffer, STDERR: sys.stderr.buffer}
    while (message := channels.receive()) is not None:
        channel, data = message
        if channel in outputs:
            outputs[channel].write(data)
            outputs[channel].flush()
        elif channel == STATUS:
            channels.close()
            return exit_code(json.loads(data))
    raise CliError("error: the connection was closed before the command ended")


def exit_code(status: dict[str, Any]) -> int:
    """The command's exit code in the final ``Status``; any other failure is an error."""
    if status.get("status") == "Success":
        return 0
    for cause in (status.get("details") or {}).get("causes") or []:
        if cause.get("reason") == "ExitCode":
            print(f"command terminated with exit code {cause['message']}", file=sys.stderr)
            return int(cause["message"])
    raise CliError(f"error: {status.get('message') or 'the command could not be run'}")


@contextlib.contextmanager
def _terminal(channels: Channels) -> Iterator[None]:
    """Keys go to the container as they are typed, and it learns the window's size."""
    import termios
    import tty

    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)

    def resized(*_: object) -> None:
        size = os.get_terminal_size(descriptor)
        channels.send(RESIZE, json.dumps({"Width": size.columns, "Height": size.lines}).encode())

    handler = signal.signal(signal.SIGWINCH, resized)
    try:
        tty.setraw(descriptor)
        resized()
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
        signal.signal(signal.SIGWINCH, handler)
