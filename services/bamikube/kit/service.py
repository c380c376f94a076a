"""A service is a value with ``run()`` and ``ready``; how it becomes a process is the launcher's choice.

:func:`run_main` is the launcher of a daemon: flags, logs, a health server, SIGTERM. The lab calls the same ``main``
in forked children, the simulation builds the values itself and runs them all in one loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from bamikube.kit import log as logs
from bamikube.kit.health import HealthServer
from bamikube.kit.options import Options, parse_options
from bamikube.kit.world import World

log = logging.getLogger(__name__)


class Service(Protocol):
    """Runs until it is cancelled. ``ready`` is set once it does its work."""

    name: str
    ready: asyncio.Event

    async def run(self) -> None: ...


OptionsT = TypeVar("OptionsT", bound=Options)

# How long a service may take to stop after SIGTERM, in seconds, before the process ends anyway.
STOP_SECONDS = 10.0


def run_main(
    name: str,
    build: Callable[[OptionsT, World], Service],
    options_type: type[OptionsT],
    argv: Sequence[str] | None = None,
) -> int:
    """Parse the flags, build the service and run it until SIGTERM or SIGINT. Returns the exit status."""
    options = parse_options(options_type, argv, f"bamikube-{name}")
    logs.setup(name, options.v, options.log_format)
    try:
        import uvloop

        loop_factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    except ImportError:
        loop_factory = asyncio.new_event_loop
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        return runner.run(_serve(name, build, options))


async def _serve(name: str, build: Callable[[OptionsT, World], Service], options: OptionsT) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        service = build(options, World())
    except (OSError, ValueError) as error:
        log.error("cannot start: %s", error)
        return 1
    health = HealthServer(service)
    if options.healthz_port:
        try:
            await health.start(options.healthz_bind_address, options.healthz_port)
        except OSError as error:
            log.error(
                "cannot listen on --healthz-bind-address %s port %d: %s",
                options.healthz_bind_address,
                options.healthz_port,
                error.strerror,
            )
            return 1
    log.info("starting (pid %d)", os.getpid())
    running = asyncio.ensure_future(service.run())
    stopping = asyncio.ensure_future(stop.wait())
    status = 0
    try:
        await asyncio.wait({running, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            status = 1
            failure = running.exception() if not running.cancelled() else None
            log.error("stopped by itself: %s", failure or "run() returned", exc_info=failure)
        else:
            log.info("stopping")
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError, TimeoutError):
                await asyncio.wait_for(
                    asyncio.shield(asyncio.gather(running, return_exceptions=True)), STOP_SECONDS
                )
    finally:
        stopping.cancel()
        await health.close()
    return status
