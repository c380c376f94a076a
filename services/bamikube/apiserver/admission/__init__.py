"""Admission: what is added to an object, and what is refused, between authorization and the store."""

from bamikube.apiserver.admission.chain import Admission, Plugin
from bamikube.apiserver.admission.context import AdmissionContext

__all__ = ["Admission", "AdmissionContext", "Plugin"]
