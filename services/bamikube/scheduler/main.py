"""``bamikube-scheduler``: the scheduler as a daemon."""

from __future__ import annotations

from bamikube.kit.service import run_main
from bamikube.scheduler.options import SchedulerOptions
from bamikube.scheduler.service import Scheduler


def main(argv: list[str] | None = None) -> int:
    return run_main("scheduler", Scheduler.build, SchedulerOptions, argv)


if __name__ == "__main__":
    raise SystemExit(main())
