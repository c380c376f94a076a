"""What is counted of the admission chain, under Kubernetes' names: how long each plugin took, and each of the two steps."""

from __future__ import annotations

from dataclasses import dataclass

from bamikube.kit.tallies import Histograms, Series

ADMIT = "admit"
VALIDATE = "validate"
_SECONDS = (0.005, 0.025, 0.1, 0.5, 1.0, 2.5)

_PLUGINS = Histograms(
    "apiserver_admission_controller_admission_duration_seconds",
    "Admission controller latency histogram in seconds, identified by name and broken out for each operation and API "
    "resource and type (validate or admit).",
    ("name", "operation", "rejected", "type"),
    _SECONDS,
)
_STEPS = Histograms(
    "apiserver_admission_step_admission_duration_seconds",
    "Admission sub-step latency histogram in seconds, broken out for each operation and API resource and step type "
    "(validate or admit).",
    ("operation", "rejected", "type"),
    _SECONDS,
)


@dataclass(frozen=True, slots=True)
class Timed:
    """How long something took when it let a request pass, and when it refused one."""

    passed: Series
    refused: Series


def of_plugin(name: str, operation: str, kind: str) -> Timed:
    """``kind`` is ADMIT or VALIDATE."""
    return Timed(*(_PLUGINS.of(name, operation, rejected, kind) for rejected in ("false", "true")))


def of_step(operation: str, kind: str) -> Timed:
    return Timed(*(_STEPS.of(operation, rejected, kind) for rejected in ("false", "true")))
