"""Warnings for the person at the other end: ``Warning: 299 - "..."`` headers.

Source: RFC 7234 section 5.5 and Kubernetes' "Warning: Helpful Warnings Ahead" (KEP-1693). The HTTP edge writes one
header line for every line of the value.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from bamikube.api.errors import ApiError

MOST = 20  # warnings of one answer


def header(texts: Iterable[str]) -> str:
    """The header's value: every warning once, in order."""
    lines = [f'299 - "{_quoted(text)}"' for text in dict.fromkeys(texts)]
    return "\n".join(lines[:MOST])


def with_warnings(headers: Mapping[str, str], texts: Iterable[str]) -> dict[str, str]:
    """``headers`` with ``texts`` in front of the warnings that are there already."""
    before = headers.get("Warning")
    mine = header(texts)
    return {**headers, "Warning": f"{mine}\n{before}" if before else mine}


@contextmanager
def telling(texts: Iterable[str]) -> Iterator[None]:
    """What is warned of is told to those, too, whose request fails afterwards."""
    try:
        yield
    except ApiError as error:
        if told := list(texts):
            error.headers = with_warnings(error.headers, told)
        raise


def _quoted(text: str) -> str:
    flat = " ".join(text.split("\n")) if "\n" in text else text
    return flat.replace("\\", "\\\\").replace('"', '\\"')
