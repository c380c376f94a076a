"""What a verb gets: the configuration, the connection and the resources, each made when first asked for."""

from __future__ import annotations

import argparse
import re
from functools import cached_property

from bamikube.cli.connection import Connection
from bamikube.cli.errors import usage
from bamikube.cli.kubeconfig import KubeConfig, Target, load, target
from bamikube.cli.resources import Catalogue

_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}


def seconds_of(text: str) -> float:
    """``90``, ``1m30s``, ``500ms`` in seconds. Raises :class:`CliError`."""
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text)
    parts = re.findall(r"(\d+(?:\.\d+)?)(h|ms|m|s)", text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise usage(f'invalid duration "{text}"')
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


class Session:
    """One run of bamictl."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args

    @cached_property
    def config(self) -> KubeConfig:
        return load(self.args.kubeconfig)

    @cached_property
    def target(self) -> Target:
        return target(self.config, self.args)

    @cached_property
    def connection(self) -> Connection:
        limit = seconds_of(self.args.request_timeout) if self.args.request_timeout else 0.0
        return Connection(self.target, limit or None)

    @cached_property
    def catalogue(self) -> Catalogue:
        return Catalogue(self.connection)

    @property
    def namespace(self) -> str:
        return self.target.namespace
