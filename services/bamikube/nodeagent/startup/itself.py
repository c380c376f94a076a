"""What the node agent asks of the kernel for itself: to be killed last when memory runs out, and many open files."""

from __future__ import annotations

import logging
import resource
from pathlib import Path

log = logging.getLogger(__name__)


def settle(oom_score: int, files: int, score: Path = Path("/proc/self/oom_score_adj")) -> None:
    """Log what the kernel refuses; nothing depends on it."""
    try:
        score.write_text(str(oom_score))
    except OSError as error:
        log.info("--oom-score-adj %d: %s", oom_score, error.strerror)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    except (OSError, ValueError) as error:
        log.info("--max-open-files %d: %s", files, error)
