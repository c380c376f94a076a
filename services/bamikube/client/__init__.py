"""Everybody else's only way to state: API client, informers, leader election, events."""

from __future__ import annotations

from bamikube.client.client import Client, WatchEvent
from bamikube.client.transport import HttpTransport, InProcessTransport

__all__ = ["Client", "HttpTransport", "InProcessTransport", "WatchEvent"]
