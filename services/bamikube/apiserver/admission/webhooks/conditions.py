"""Match conditions of webhooks: is this hook to be called about this request?

Source: Kubernetes' "Dynamic Admission Control", matchConditions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bamikube.api import errors
from bamikube.api.resources import Resource
from bamikube.apiserver.admission.context import AdmissionContext
from bamikube.apiserver.admission.webhooks.hooks import Hook
from bamikube.apiserver.registry.reader import Reader

if TYPE_CHECKING:
    from bamikube.apiserver.authz.authorizer import Authorizer


class Conditions:
    """Judges the conditions of hooks. Nothing is loaded before a hook has some."""

    def __init__(self, reader: Reader, authorizer: Authorizer) -> None:
        self._reader = reader
        self._authorizer = authorizer

    def hold(self, hook: Hook, row: Resource, ctx: AdmissionContext) -> bool:
        """Whether the hook is to be called. Raises ApiError 403 when that cannot be said and the hook fails closed."""
        if not hook.conditions:
            return True
        from bamikube.apiserver.admission.expressions import ConditionFailed, Scene, conditions_hold

        try:
            return conditions_hold(hook.conditions, Scene(ctx, row, self._reader, self._authorizer).variables)
        except ConditionFailed as problem:
            if not hook.fails:
                return False
            raise errors.forbidden(ctx.resource.plural, ctx.name, str(problem), ctx.resource.group) from None
