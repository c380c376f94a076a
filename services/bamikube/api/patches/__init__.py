"""Patches: what a client wants changed, in the dialects of the API.

- :func:`json_patch` -- RFC 6902, a list of operations;
- :func:`merge_patch` -- RFC 7396, a document with ``null`` for what has to go;
- :func:`strategic_merge_patch` -- Kubernetes' own: knows which lists merge, and by which key;
- :func:`three_way` and :func:`two_way` -- the patch that leads from one document to another (client-side apply).

No function changes its arguments; results share what did not change with them. Faults are :class:`PatchError`.
"""

from __future__ import annotations

from bamikube.api.patches.errors import PatchError
from bamikube.api.patches.json_patch import json_patch
from bamikube.api.patches.merge import merge_patch
from bamikube.api.patches.strategic import strategic_merge_patch
from bamikube.api.patches.three_way import three_way, two_way

__all__ = ["PatchError", "json_patch", "merge_patch", "strategic_merge_patch", "three_way", "two_way"]
