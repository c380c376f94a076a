"""How the node's API says no: a status and a line of plain text, as the kubelet answers.

There is one exception. kubectl before 1.29 tries to read what refuses a stream as an object, in YAML, too; a line with a
colon in it is one to YAML, without a message, and ``Error from server:`` is all that would be shown. Such a line is sent as
a Status object.
"""

from __future__ import annotations

import orjson

from bamikube.api.errors import ApiError, reason_of
from bamikube.kit.http import Response

TEXT = "text/plain; charset=utf-8"


class Refusal(Exception):
    """``code`` is the HTTP status, ``text`` the body."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code, self.text = code, text

    def response(self, *, to_stream: bool = False) -> Response:
        """``to_stream``: it refuses an upgrade of the connection."""
        if to_stream and ": " in self.text:
            refused = ApiError(self.code, reason_of(self.code), self.text)
            return Response(self.code, orjson.dumps(refused.status()))
        return Response(self.code, self.text.encode(), content_type=TEXT)


def no_page() -> Refusal:
    return Refusal(404, "404: Page Not Found")


def wrong_method() -> Refusal:
    return Refusal(405, "405: Method Not Allowed")


def no_pod() -> Refusal:
    return Refusal(404, "pod does not exist")
