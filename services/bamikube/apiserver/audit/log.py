"""The audit log: a line of JSON for each event, in a file that is rotated, or on standard output.

A file that would grow beyond its size is renamed to ``<name>-<time><suffix>``; of those, only so many are kept, and
none that is too old.
"""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from bamikube.apiserver.audit import figures
from bamikube.kit.clock import Clock

log = logging.getLogger(__name__)

MEGABYTE = 1024 * 1024
DAY = 86_400.0


class LogFile:
    """``path`` "-" is standard output. ``size`` in bytes, ``age`` in seconds; 0 backups or age: no limit.

    Raises OSError when the file cannot be opened.
    """

    def __init__(self, path: str, clock: Clock, *, size: int, backups: int, age: float) -> None:
        self._path = Path(path)
        self._clock = clock
        self._limit, self._backups, self._age = size, backups, age
        self._file: BinaryIO | None = None
        self._written = 0
        if path == "-":
            self._file, self._limit = sys.stdout.buffer, 0
        else:
            self._open()

    def _open(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.touch(0o600, exist_ok=True)
        self._file = self._path.open("ab")
        self._written = self._path.stat().st_size

    def write(self, event: dict[str, Any]) -> bool:
        """Never raises: what cannot be written is counted, and False."""
        line = orjson.dumps(event, option=orjson.OPT_APPEND_NEWLINE)
        try:
            if self._limit and self._written and self._written + len(line) > self._limit:
                self._rotate()
            assert self._file is not None
            self._file.write(line)
            self._file.flush()
            self._written += len(line)
            return True
        except OSError as error:
            figures.lost("log")
            log.error("the audit log %s cannot be written: %s", self._path, error)
            return False

    def _rotate(self) -> None:
        assert self._file is not None
        self._file.close()
        stamp = datetime.fromtimestamp(self._clock.now(), UTC).strftime("%Y-%m-%dT%H-%M-%S.%f")[:-3]
        self._path.rename(self._path.with_name(f"{self._path.stem}-{stamp}{self._path.suffix}"))
        self._open()
        kept = sorted(self._path.parent.glob(f"{self._path.stem}-*{self._path.suffix}"), reverse=True)
        for number, old in enumerate(kept):
            too_many = self._backups and number >= self._backups
            too_old = self._age and old.stat().st_mtime < self._clock.now() - self._age
            if too_many or too_old:
                old.unlink(missing_ok=True)

    def close(self) -> None:
        if self._file is not None and self._file is not sys.stdout.buffer:
            self._file.close()
            self._file = None
