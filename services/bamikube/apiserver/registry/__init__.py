"""The generic verbs over every stored resource: one code path, driven by the table."""

from __future__ import annotations

from bamikube.apiserver.registry.registry import Registry

__all__ = ["Registry"]
