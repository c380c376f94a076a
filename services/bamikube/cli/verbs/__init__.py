"""One file for each verb of bamictl."""

from __future__ import annotations
