"""What the person at the terminal is told when something does not work, in kubectl's words."""

from __future__ import annotations

from typing import Any


class CliError(Exception):
    """Ends the command: ``message`` goes to standard error as it is."""

    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(message)
        self.message = message
        self.code = code


def usage(message: str) -> CliError:
    """The command line is wrong."""
    return CliError(f"error: {message}")


class ServerError(CliError):
    """The server answered with a ``Status`` that is a failure."""

    def __init__(self, http_code: int, status: dict[str, Any]) -> None:
        self.http_code = http_code
        self.reason = str(status.get("reason") or "")
        text = str(status.get("message") or "the server answered without a message")
        if http_code == 401:
            shown = "error: You must be logged in to the server (Unauthorized)"
        elif self.reason == "Invalid":
            shown = text  # kubectl shows these without a prefix
        elif self.reason:
            shown = f"Error from server ({self.reason}): {text}"
        else:
            shown = f"Error from server: {text}"
        super().__init__(shown)
