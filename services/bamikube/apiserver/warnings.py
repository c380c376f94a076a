"""Warnings for the person at the other end: ``Warning: 299 - "..."`` headers.

Source: RFC 7234 section 5.5 and Kubernetes' "Warning: Helpful Warnings Ahead" (KEP-1693); the limits are those of
``k8s.io/apiserver/pkg/endpoints/filters/warning.go``. The HTTP edge writes one header line for every line of the value.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from bamikube.api.errors import ApiError
from bamikube.kit.http import Answer, Tunnel

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
TOTAL = 4 * 1024  # characters of all warnings of an answer; beyond it every one is cut
ITEM = 256  # characters that are left of one then


def header(texts: Iterable[str]) -> str:
    """The header's value: every warning once, in order, in at most some 4 000 characters.

    Warnings with control characters (a webhook may say anything) and empty ones are left out.
    """
    kept = [text for text in dict.fromkeys(texts) if text and not _CONTROL.search(text)]
    if sum(map(len, kept)) > TOTAL:
        kept = _cut(kept)
    return "\n".join(f'299 - "{_quoted(text)}"' for text in kept)


def _cut(texts: Sequence[str]) -> list[str]:
    """The beginnings of warnings, as long as there is room; the last one may reach beyond it."""
    found, written = [], 0
    for text in texts:
        if written >= TOTAL:
            break
        found.append(text[:ITEM])
        written += len(found[-1])
    return found


def with_warnings(headers: Mapping[str, str], texts: Iterable[str]) -> dict[str, str]:
    """``headers`` with ``texts`` in front of the warnings that are there already."""
    before = headers.get("Warning")
    mine = header(texts)
    if not mine:
        return dict(headers)
    return {**headers, "Warning": f"{mine}\n{before}" if before else mine}


def warned(answer: Answer, *texts: str) -> Answer:
    """``answer`` with those of ``texts`` that are not empty: that its resource is deprecated, that credentials are."""
    told = [text for text in texts if text]
    if told and not isinstance(answer, Tunnel):
        answer.headers.update(with_warnings(answer.headers, told))
    return answer


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
    return text.replace("\\", "\\\\").replace('"', '\\"')
