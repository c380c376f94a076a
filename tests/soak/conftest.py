"""The lab of the soak tests: the same as that of the e2e tests."""

from __future__ import annotations

from tests.support.lab import bamikube, eventually, kubeconfig, kubectl, lab

__all__ = ["bamikube", "eventually", "kubeconfig", "kubectl", "lab"]  # fixtures
