"""docs/kinds.md says what the code says."""

from __future__ import annotations

from pathlib import Path

from bamikube.api import overview

PAGE = Path(__file__).parents[3] / "docs" / "kinds.md"


def test_the_page_is_current() -> None:
    wanted = overview.document()
    assert PAGE.read_text() == wanted, "run: python -m bamikube.api.overview > docs/kinds.md"
