"""Options of a log that exclude each other are refused before the node is asked."""

from __future__ import annotations

import pytest

from bamikube.api.errors import ApiError
from bamikube.apiserver.subresources.streams import log_query
from bamikube.kit.http import Request


def test_the_tail_of_one_stream_cannot_be_had() -> None:
    def query(text: str) -> list[tuple[str, str]]:
        return log_query(Request.make("GET", f"/log?{text}"))

    assert query("stream=Stderr") == [("stream", "Stderr")]
    assert query("stream=All&tailLines=1") == [("tailLines", "1"), ("stream", "All")]
    with pytest.raises(ApiError, match="mutually exclusive") as caught:
        query("stream=Stderr&tailLines=1")
    assert caught.value.code == 422
