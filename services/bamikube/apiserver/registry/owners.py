"""Owner references that are given twice: one of them goes, and the author is told.

References that share their owner's uid but differ in anything else are left to validation. Source:
``k8s.io/apiserver/pkg/endpoints/handlers`` (behaviour); the texts are those people search for.
"""

from __future__ import annotations

from typing import Any

_REST = (
    "; API server dedups owner references in 1.20+, and may reject such requests as early as 1.24; please fix your "
    "requests; duplicate UID(s) observed: "
)
GIVEN = f".metadata.ownerReferences contains duplicate entries{_REST}"
ADMITTED = f".metadata.ownerReferences contains duplicate entries after mutating admission happens{_REST}"


def dedupe(metadata: dict[str, Any], text: str) -> list[str]:
    """Drop references that are there already, in place. The warning, if any were; ``text`` is how it begins."""
    references = metadata.get("ownerReferences")
    if not isinstance(references, list) or len(references) < 2:
        return []
    kept: list[Any] = []
    twice: list[str] = []
    for reference in references:
        if reference in kept:
            twice.append(str(reference.get("uid") or "") if isinstance(reference, dict) else "")
        else:
            kept.append(reference)
    if not twice:
        return []
    metadata["ownerReferences"] = kept
    return [text + ", ".join(twice)]
