"""The Pod Security Standards: three levels, what each forbids, and since which version.

:func:`evaluate` is given a level with a version and a pod's metadata and spec, and returns every violation with its
reason and detail. Source: Kubernetes' "Pod Security Standards" and "Pod Security Admission".
"""

from bamikube.api.podsecurity.evaluation import Violation, details, evaluate, reasons
from bamikube.api.podsecurity.policy import (
    LATEST,
    PREFIX,
    PRIVILEGED,
    Policy,
    PolicyLevel,
    asked,
    policy_of,
    stricter,
)

__all__ = [
    "LATEST",
    "PREFIX",
    "PRIVILEGED",
    "Policy",
    "PolicyLevel",
    "Violation",
    "asked",
    "details",
    "evaluate",
    "policy_of",
    "reasons",
    "stricter",
]
