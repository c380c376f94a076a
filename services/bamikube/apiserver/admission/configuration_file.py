"""Reading the file of ``--admission-control-config-file``: its form, and complaints that name the place."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

FLAG = "--admission-control-config-file"
_CONFIG = ("apiserver.config.k8s.io/v1", "apiserver.k8s.io/v1alpha1")
_WEBHOOKS = (*_CONFIG, "apiserver.config.k8s.io/v1alpha1")
# The kinds of objects in the file, with the versions that Kubernetes reads.
KINDS: Mapping[str, tuple[str, ...]] = {
    "AdmissionConfiguration": _CONFIG,
    "PodSecurityConfiguration": tuple(
        f"pod-security.admission.config.k8s.io/{version}" for version in ("v1", "v1beta1", "v1alpha1")
    ),
    "ResourceQuotaConfiguration": ("apiserver.config.k8s.io/v1",),
    "WebhookAdmissionConfiguration": _WEBHOOKS,
    "WebhookAdmission": _WEBHOOKS,  # its name before v1
    "Configuration": (
        "eventratelimit.admission.k8s.io/v1alpha1",
        "podtolerationrestriction.admission.k8s.io/v1alpha1",
        "resourcequota.admission.k8s.io/v1beta1",
    ),
}


def complaint(where: str, why: str) -> ValueError:
    """``where`` is the file and the path of the field in it."""
    return ValueError(f"{FLAG} {where}: {why}")


def within(where: str, field: str) -> str:
    """The place of a field: ``file: plugins`` at the top of a file, ``file: plugins[0].name`` below."""
    return f"{where}.{field}" if ": " in where else f"{where}: {field}"


def load(path: Path, *kinds: str) -> dict[str, Any]:
    """The object in the file at ``path``. Raises ValueError."""
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise complaint(str(path), str(error.strerror)) from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise complaint(str(path), str(error)) from error
    check_kind(document, str(path), *kinds)
    return dict(document)


def check_kind(document: Any, where: str, *kinds: str) -> None:
    """Raises ValueError unless ``document`` is an object of one of ``kinds``, in a version of it."""
    kind = document.get("kind") if isinstance(document, dict) else None
    if kind not in kinds:
        raise complaint(where, f"expected an object of the kind {' or '.join(kinds)}")
    if document.get("apiVersion") not in KINDS[kind]:
        raise complaint(within(where, "apiVersion"), f"must be one of {', '.join(KINDS[kind])}")


def only(section: Any, known: tuple[str, ...], where: str) -> None:
    """Raises ValueError for a field that nobody would read."""
    if not isinstance(section, Mapping):
        raise complaint(where, "expected a mapping")
    if unknown := sorted(str(field) for field in section if field not in known):
        raise complaint(where, f"unknown fields {', '.join(unknown)}; known are {', '.join(known)}")


def items(section: Mapping[str, Any], field: str, where: str) -> list[Any]:
    """The list in a field, empty when there is none. Raises ValueError."""
    found = section.get(field)
    if found is None:
        return []
    if not isinstance(found, list):
        raise complaint(within(where, field), "expected a list")
    return found
