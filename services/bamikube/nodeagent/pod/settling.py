"""Looking again at what the event stream says has ended, until CRI says so, too. Pure."""

from __future__ import annotations

from bamikube.nodeagent.pod.state import RuntimeState

LOOKS = 52  # how often an ended container is looked at again while CRI does not call it so: some ten seconds in all
LOOK_AGAIN = 0.01  # seconds until the first of those looks; each waits a tenth longer than the one before
LOOK_AGAIN_MOST = 0.5
REST = 3  # times what a look has taken: at least that long until the next, for a busy runtime is not to be asked all the time


def unsettled(exits: dict[str, int], state: RuntimeState) -> dict[str, int]:
    """Which of ``exits`` (ids that have ended, looks so far) are to be looked at again, seen that ``state``.

    One that is not listed has been removed since; but the first look may have begun before the thing was there.
    """
    ended = {c.id for c in state.containers if c.state == "exited"} | {
        s.id for s in state.sandboxes if not s.ready
    }
    listed = {c.id for c in state.containers} | {s.id for s in state.sandboxes}
    return {
        one: looks + 1
        for one, looks in exits.items()
        if one not in ended and looks < LOOKS and (one in listed or looks == 0)
    }


def pause(exits: dict[str, int], took: float) -> float:
    """Seconds until the next look, the last of which ``took`` so many."""
    return min(LOOK_AGAIN_MOST, max(REST * took, LOOK_AGAIN * 1.1 ** min(exits.values())))
