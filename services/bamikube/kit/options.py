"""A service's options: a pydantic model whose fields are its flags.

``etcd_servers: list[str]`` becomes ``--etcd-servers=a,b``; the field's description is the help. Seconds may be written as Go
writes durations, ``--event-ttl=1h0m0s``. The same fields may stand in a YAML file given by ``--config``; a flag wins over the
file. Whatever is wrong is said in one line that
names the flag, and the process ends with status 2, as users of Kubernetes' binaries expect.
"""

from __future__ import annotations

import argparse
import re
import sys
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NoReturn, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError


class Options(BaseModel):
    """What every service understands."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    healthz_bind_address: str = Field(
        "127.0.0.1", description="address the health and metrics server listens on"
    )
    healthz_port: int = Field(
        0, ge=0, le=65535, description="port of /healthz /livez /readyz /metrics; 0 turns it off"
    )
    v: int = Field(0, ge=0, le=10, description="log verbosity; from 4 on, debug lines are shown")
    log_format: Literal["text", "json"] = Field("text", description="text or json, one event a line")

    @classmethod
    def read_files(cls, path: str, flags: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, str]]:
        """What the file ``path`` of ``--config`` ("": none) says: values by field, and what the file calls fields that it
        does not call by their flag. ``flags``: the texts of the flags given, by field. Raises OSError, and ValueError that
        names the file."""
        return (flat(cls, path), {}) if path else ({}, {})


_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ms|us|µs|ns|h|m|s)")
_DURATION = re.compile(rf"(?:{_PART.pattern})+")

OptionsT = TypeVar("OptionsT", bound=Options)


def flag(field: str) -> str:
    """The flag of a field: ``etcd_servers`` -> ``--etcd-servers``."""
    return "--" + field.replace("_", "-")


def _bare(annotation: Any) -> Any:
    """The type without ``| None``."""
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        rest = [part for part in typing.get_args(annotation) if part is not type(None)]
        return rest[0] if len(rest) == 1 else annotation
    return annotation


def _go_seconds(text: str) -> float | None:
    """``1h30m`` in seconds; None for what is no duration of Go, such as a bare number."""
    if not _DURATION.fullmatch(text):
        return None
    return sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text))


def _value(annotation: Any, text: str) -> Any:
    """A flag's text as the value pydantic should look at: lists are comma-separated, maps are ``a=b,c=d``."""
    bare = _bare(annotation)
    origin = typing.get_origin(bare) or bare
    if origin in (list, tuple, set, frozenset):
        return [part for part in text.split(",") if part]
    if origin is float and (seconds := _go_seconds(text)) is not None:
        return seconds
    if origin is dict:
        pairs = [part.partition("=") for part in text.split(",") if part]
        return {key: value for key, _, value in pairs}
    return text


def _joined(annotation: Any, texts: str | list[str]) -> str:
    """What was given for a flag: of a list or a map all, of anything else the last."""
    if isinstance(texts, str):
        return texts
    origin = typing.get_origin(_bare(annotation)) or _bare(annotation)
    return ",".join(texts) if origin in (list, tuple, set, frozenset, dict) else texts[-1]


def flat(kind: type[Options], path: str) -> dict[str, Any]:
    """A file of options named as the flags are, by field. Raises OSError and ValueError."""
    try:
        loaded = yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}
    except yaml.YAMLError as error:
        raise ValueError(f"--config {path}: {error}") from error
    if not isinstance(loaded, dict):
        raise ValueError(f"--config {path}: expected a mapping of option names to values")
    values = {str(key).replace("-", "_"): value for key, value in loaded.items()}
    for name, value in values.items():
        if isinstance(value, str) and name in kind.model_fields:
            annotation = _bare(kind.model_fields[name].annotation)
            values[name] = _value(annotation, value) if annotation is float else value
    return values


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        print(f"{self.prog}: {message}\nSee '{self.prog} --help'.", file=sys.stderr)
        raise SystemExit(2)


def parse_options(kind: type[OptionsT], argv: Sequence[str] | None, prog: str) -> OptionsT:
    """The options from flags and ``--config``. Prints what is wrong and raises ``SystemExit(2)`` on bad input."""
    parser = _Parser(prog=prog, description=(kind.__doc__ or "").strip().split("\n")[0], allow_abbrev=False)
    parser.add_argument("--config", metavar="FILE", help="YAML file of the same options, named as the flags")
    for name, info in kind.model_fields.items():
        shown = "" if info.is_required() else f" (default {info.get_default(call_default_factory=True)!r})"
        help_text = ((info.description or "") + shown).replace("%", "%%")
        if _bare(info.annotation) is bool:
            parser.add_argument(
                flag(name), dest=name, nargs="?", const="true", default=None, metavar="BOOL", help=help_text
            )
        else:
            parser.add_argument(
                flag(name), dest=name, default=None, metavar="VALUE", help=help_text, action="append"
            )
    given = vars(parser.parse_args(argv))
    path = given.pop("config") or ""
    flags = {
        name: _joined(kind.model_fields[name].annotation, texts)
        for name, texts in given.items()
        if texts is not None
    }
    try:
        values, names = kind.read_files(path, flags)
    except OSError as error:
        parser.error(f"--config {path}: {error}")
    except ValueError as error:
        parser.error(str(error))
    for name, text in flags.items():
        values[name] = _value(kind.model_fields[name].annotation, text)
        names.pop(name, None)
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        lines = []
        for problem in error.errors():
            where = flag(str(problem["loc"][0])) if problem["loc"] else "options"
            if problem["loc"] and (called := names.get(str(problem["loc"][0]))):
                where = f"{called} ({where})"
            said = "not an option of this service" if problem["type"] == "extra_forbidden" else problem["msg"]
            said = "this flag is required" if problem["type"] == "missing" else said
            lines.append(f"{where}: {said}")
        parser.error("; ".join(lines))
