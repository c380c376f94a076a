"""MutatingAdmissionWebhook and ValidatingAdmissionWebhook: asking others.

::

    configurations (cache) ──hooks.py──► hooks about this request, in order
    request ──review.py──► AdmissionReview ──outbound──► the webhook ──review.py──► verdict
    verdicts ──mutating.py, one after the other; validating.py, all at once──► object, warnings, refusal

Source: Kubernetes' "Dynamic Admission Control" and the API reference (admission.k8s.io/v1).
"""

from bamikube.apiserver.admission.webhooks.mutating import MutatingAdmissionWebhook
from bamikube.apiserver.admission.webhooks.validating import ValidatingAdmissionWebhook

__all__ = ["MutatingAdmissionWebhook", "ValidatingAdmissionWebhook"]
