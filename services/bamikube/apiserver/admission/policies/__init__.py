"""Admission policies in CEL: what they are, which are about a request, what they say and what they change."""

from bamikube.apiserver.admission.policies.mutating import MutatingAdmissionPolicy
from bamikube.apiserver.admission.policies.validating import ValidatingAdmissionPolicy

__all__ = ["MutatingAdmissionPolicy", "ValidatingAdmissionPolicy"]
