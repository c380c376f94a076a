"""``bamikube-controllers``: the controllers as a daemon."""

from __future__ import annotations

from bamikube.controllers.options import ControllersOptions
from bamikube.controllers.service import Controllers
from bamikube.kit.service import run_main


def main(argv: list[str] | None = None) -> int:
    return run_main("controllers", Controllers.build, ControllersOptions, argv)


if __name__ == "__main__":
    raise SystemExit(main())
