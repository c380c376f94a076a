"""Logging: one line an event, for the person at the terminal or for a machine.

``text`` reads ``08:15:02.123 I nodeagent pod default/web: started container nginx``; ``json`` carries the same as an
object a line. A record's ``fields`` (``extra={"fields": {...}}``) follow as ``key="value"``, or as members of the
object. What looks like a bearer token or a private key is blanked before it is written, whoever logged it.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from datetime import UTC, datetime

_SECRET = re.compile(
    r"(?i)(bearer\s+)[\w.~+/=-]{8,}|eyJ[\w-]{10,}\.[\w-]{10,}\.[\w-]+|-----BEGIN [A-Z ]*PRIVATE KEY-----.*?-----END [A-Z ]*PRIVATE KEY-----",
    re.DOTALL,
)


def redact(text: str) -> str:
    """``text`` with tokens and private keys blanked."""
    return _SECRET.sub(lambda match: f"{match.group(1) or ''}[redacted]", text)


class _Text(logging.Formatter):
    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name

    def format(self, record: logging.LogRecord) -> str:
        when = datetime.fromtimestamp(record.created, UTC).strftime("%H:%M:%S.%f")[:-3]
        line = f"{when} {record.levelname[0]} {self._name} {record.getMessage()}"
        for name, value in getattr(record, "fields", {}).items():
            line += f" {name}={json.dumps(value)}"
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return redact(line)


class _Json(logging.Formatter):
    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, object] = {
            "ts": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname.lower(),
            "service": self._name,
            "logger": record.name,
            "msg": redact(record.getMessage()),
        }
        for field, value in getattr(record, "fields", {}).items():
            entry[field] = redact(value) if isinstance(value, str) else value
        if record.exc_info:
            entry["error"] = redact(self.formatException(record.exc_info))
        return json.dumps(entry)


def set_verbosity(verbosity: int) -> None:
    """Show debug lines from 4 on."""
    logging.getLogger().setLevel(logging.DEBUG if verbosity >= 4 else logging.INFO)


def setup(name: str, verbosity: int = 0, fmt: str = "text") -> None:
    """Log to standard error. ``verbosity`` follows Kubernetes' ``--v``: from 4 on, debug lines are shown."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json(name) if fmt == "json" else _Text(name))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    set_verbosity(verbosity)
    for noisy in ("asyncio", "aiohttp.access", "aiohttp.server", "grpc", "pyroute2"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
