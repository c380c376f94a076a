"""The entry of ``bamictl``: find the verb, import its file, parse its flags, run it.

Flags may stand anywhere, as with kubectl; the words behind ``--`` belong to the command of ``exec``.
A verb's file has ``SUMMARY``, ``arguments(parser)`` and ``run(args, session) -> int`` (the exit code).
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from typing import Any, NoReturn

from bamikube.cli.errors import CliError
from bamikube.cli.session import Session

VERBS = {
    "get": "get",
    "describe": "describe",
    "apply": "apply",
    "create": "create",
    "delete": "delete",
    "logs": "logs",
    "exec": "exec",
    "config": "config",
    "version": "version",
    "api-resources": "api_resources",
}

# Flags of every command. Those with a value, for finding the verb behind them.
_VALUED = [
    "kubeconfig",
    "context",
    "cluster",
    "user",
    "server",
    "token",
    "certificate-authority",
    "client-certificate",
    "client-key",
    "request-timeout",
    "tls-server-name",
    "namespace",
]
_SHORT = {"server": "-s", "namespace": "-n"}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise CliError(f"error: {message}\nSee '{self.prog} --help' for usage.")


def _parser(verb: str) -> argparse.ArgumentParser:
    parser = _Parser(prog=f"bamictl {verb}".strip(), allow_abbrev=False)
    group = parser.add_argument_group("options of every command")
    for name in _VALUED:
        names = [f"--{name}"] + ([_SHORT[name]] if name in _SHORT else [])
        group.add_argument(*names, default=None, metavar="VALUE")
    group.add_argument("--insecure-skip-tls-verify", action="store_true")
    group.add_argument("-v", "--v", type=int, default=0, help=argparse.SUPPRESS)
    return parser


def _split(argv: list[str]) -> tuple[str, list[str]]:
    """The verb and everything else."""
    valued = {f"--{name}" for name in _VALUED} | set(_SHORT.values()) | {"-v", "--v"}
    skip = False
    for index, word in enumerate(argv):
        if skip:
            skip = False
        elif word in valued:
            skip = True
        elif not word.startswith("-"):
            return word, argv[:index] + argv[index + 1 :]
    return "", argv


def _help() -> str:
    lines = ["bamictl controls Bamikube and any other Kubernetes cluster.", "", "Commands:"]
    for verb, module in VERBS.items():
        summary = importlib.import_module(f"bamikube.cli.verbs.{module}").SUMMARY
        lines.append(f"  {verb:<15} {summary}")
    lines += ["", 'Use "bamictl <command> --help" for more about a command.']
    return "\n".join(lines)


def _run(argv: list[str]) -> int:
    verb, rest = _split(argv)
    if not verb or verb == "help":
        print(_help())
        return 0
    if verb not in VERBS:
        raise CliError(f'error: unknown command "{verb}" for "bamictl"')
    module: Any = importlib.import_module(f"bamikube.cli.verbs.{VERBS[verb]}")
    parser = _parser(verb)
    parser.description = module.SUMMARY
    module.arguments(parser)
    command: list[str] = []
    if "--" in rest:
        at = rest.index("--")
        rest, command = rest[:at], rest[at + 1 :]
    args = parser.parse_intermixed_args(rest)
    args.command = command
    code: int = module.run(args, Session(args))
    return code


def main(argv: list[str] | None = None) -> int:
    """Run one command; the exit code."""
    try:
        code = _run(sys.argv[1:] if argv is None else argv)
        sys.stdout.flush()
        return code
    except CliError as error:
        print(error.message, file=sys.stderr)
        return error.code
    except BrokenPipeError:  # `bamictl get pods | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
