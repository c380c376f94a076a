"""``/healthz``, ``/livez`` and ``/readyz``: named checks, one line each when somebody asks with ``?verbose``.

::

    [+]ping ok
    [-]etcd failed: reason withheld
    readyz check failed

``/readyz/etcd`` asks one check alone; ``?exclude=etcd`` leaves one out. Source: Kubernetes' "API health endpoints".
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from bamikube.api import errors
from bamikube.kit import healthfigures
from bamikube.kit.http import Request, Response

# None when well, else what is wrong (for the log; never for the client).
Check = Callable[[], Awaitable[str | None]]
PATHS = ("/healthz", "/livez", "/readyz")


class Health:
    """The checks by name. ``ready_only`` ones matter to ``/readyz`` alone."""

    def __init__(self) -> None:
        self._checks: dict[str, tuple[Check, bool]] = {}

    def add(self, name: str, check: Check, *, ready_only: bool = False) -> None:
        self._checks[name] = (check, ready_only)

    def paths(self) -> list[str]:
        """Every path that answers: the endpoints, and each check of theirs."""
        checks = [
            f"{endpoint}/{name}"
            for name, (_, ready_only) in self._checks.items()
            for endpoint in (PATHS[2:] if ready_only else PATHS)
        ]
        return [*PATHS, *checks]

    async def answer(self, request: Request) -> Response:
        """The answer for a path under :data:`PATHS`."""
        _, endpoint, *rest = request.path.split("/")
        only = "/".join(rest).strip("/")
        excluded = {name for name in request.query.get("exclude", ()) if name}
        unknown = sorted(excluded - set(self._checks))
        lines: list[str] = []
        failed = False
        for name, (check, ready_only) in self._checks.items():
            if (only and name != only) or (ready_only and endpoint != "readyz" and not only):
                continue
            if name in excluded:
                lines.append(f"[+]{name} excluded: ok")
                continue
            well = await check() is None
            healthfigures.checked(name, endpoint, well)
            if well:
                lines.append(f"[+]{name} ok")
            else:
                failed = True
                lines.append(f"[-]{name} failed: reason withheld")
        if only and not lines:
            raise errors.no_such_path()
        if unknown:
            names = ", ".join(f'"{name}"' for name in unknown)
            lines.append(f"warn: some health checks cannot be excluded: no matches for {names}")
        text = f"{endpoint} check {'failed' if failed else 'passed'}"
        plain = {"X-Content-Type-Options": "nosniff"}
        if failed:
            return Response(500, "\n".join([*lines, text, ""]).encode(), plain, "text/plain; charset=utf-8")
        body = "\n".join([*lines, text, ""]) if "verbose" in request.query and not only else "ok"
        return Response(200, body.encode(), plain, "text/plain; charset=utf-8")
