"""How the node's API says no: a status and a line of plain text, as the kubelet answers (no Status objects)."""

from __future__ import annotations

from bamikube.kit.http import Response

TEXT = "text/plain; charset=utf-8"


class Refusal(Exception):
    """``code`` is the HTTP status, ``text`` the body."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code, self.text = code, text

    def response(self) -> Response:
        return Response(self.code, self.text.encode(), content_type=TEXT)


def no_page() -> Refusal:
    return Refusal(404, "404: Page Not Found")


def wrong_method() -> Refusal:
    return Refusal(405, "405: Method Not Allowed")


def no_pod() -> Refusal:
    return Refusal(404, "pod does not exist")
