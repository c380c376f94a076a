"""A process that holds a shutdown up, and says what it hears: ``python -m tests.support.holds_shutdown``.

It lets go when it is written a line, and ends with its input. The login manager takes locks from processes that it can see, so this has to
be one where it runs.
"""

from __future__ import annotations

import asyncio
import sys

from bamikube.nodeagent.shutdown.logind import Logind

SECONDS = 30.0


async def main() -> None:
    logind = await Logind.connect()
    if await logind.delay() < SECONDS:
        await logind.lengthen(SECONDS)
    await logind.hold()
    print("holds", await logind.delay(), flush=True)

    async def let_go() -> None:
        await asyncio.to_thread(sys.stdin.readline)
        logind.release()

    letting_go = asyncio.ensure_future(let_go())
    async for coming in logind.events():
        print("coming" if coming else "over", flush=True)
        if not coming:
            break
    await letting_go
    await logind.close()


if __name__ == "__main__":
    asyncio.run(main())
