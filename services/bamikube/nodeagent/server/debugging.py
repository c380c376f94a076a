"""``/debug``: what goes on inside the node agent, for whoever may read that path; there only where the flags have it so.

- ``/debug/pprof/goroutine`` lists the tasks of the event loop, the nearest thing to goroutines here;
- ``/debug/pprof/profile?seconds=30`` samples where the time goes, in folded stacks (:mod:`bamikube.kit.profiling`);
- ``PUT /debug/flags/v`` with a number as body sets the verbosity of the log (from 4 on, debug lines are shown).

Paths and words are the kubelet's, which has both on by default.
"""

from __future__ import annotations

from bamikube.kit import log as logs
from bamikube.kit import profiling
from bamikube.kit.http import Request, Response
from bamikube.nodeagent.server.refusal import TEXT, Refusal, no_page, wrong_method

LONGEST = 60.0  # seconds of a profile


async def answer(request: Request, parts: list[str], *, profiles: bool, flags: bool) -> Response:
    """What stands below ``/debug/``. Raises Refusal."""
    match parts:
        case ["pprof", *rest]:
            if not profiles:
                raise Refusal(405, "profiling endpoint is disabled.\n")
            return await _profile(request, "/".join(rest))
        case ["flags", *rest]:
            if not flags:
                raise Refusal(405, "flags endpoint is disabled.\n")
            return _flags(request, "/".join(rest))
    raise no_page()


async def _profile(request: Request, which: str) -> Response:
    if request.method not in ("GET", "HEAD"):
        raise wrong_method()
    if not which:
        return _text("profiles: goroutine (the tasks), profile (?seconds=N)\n")
    if which == "goroutine":
        return _text(profiling.tasks())
    if which != "profile":
        raise Refusal(404, "Unknown profile\n")
    text = request.param("seconds") or "30"
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= LONGEST:
        raise Refusal(400, f"seconds={text}: must be a number over 0, {LONGEST:g} at the most\n")
    return _text(await profiling.profile(seconds))


def _flags(request: Request, which: str) -> Response:
    if not which:
        return _text("/debug/flags\n\t/debug/flags/v\n")
    if which != "v":
        raise no_page()
    if request.method != "PUT":
        raise Refusal(406, "unsupported http method")
    text = request.body.decode(errors="replace")
    if not (text.isascii() and text.isdigit()) or len(text) > 9:
        raise Refusal(
            400,
            f'failed set klog.logging.verbosity {text[:40]}: strconv.ParseInt: parsing "{text[:40]}": invalid syntax',
        )
    logs.set_verbosity(int(text))
    return _text(f"successfully set klog.logging.verbosity to {text}")


def _text(text: str) -> Response:
    return Response(200, text.encode(), {"X-Content-Type-Options": "nosniff"}, TEXT)
