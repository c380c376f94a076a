"""The ``bamikube-cni`` command of an installed package; nodes use :mod:`.plugin` as an executable of its own."""

from __future__ import annotations

from bamikube.network import plugin


def main() -> int:
    """One CNI call; the exit status."""
    return plugin.main()


if __name__ == "__main__":
    raise SystemExit(main())
