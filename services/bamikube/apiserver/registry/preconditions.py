"""What is said to those who meant another object than the one that is there.

A client may name the uid, or the version, of the object it means. Updates (and bindings) are told of the store's
comparison, deletions (and evictions) of the record's::

    StorageError: invalid object, Code: 4, Key: /registry/pods/a/b, ResourceVersion: 0, AdditionalErrorMsg:
        Precondition failed: UID in precondition: 1, UID in object meta: 2
    the UID in the precondition (1) does not match the UID in record (2). The object might have been deleted and then
        recreated

Patches name nothing but the path: what they say of a uid is a change of it, which is refused as such.

Controllers read these sentences: an update with a uid of what has gone meanwhile is this conflict, with nothing after
the last colon, and not 404. Source: Kubernetes' ``storage.Preconditions`` and ``rest.BeforeDelete`` (behaviour).
"""

from __future__ import annotations

from typing import Any

from bamikube.api import errors
from bamikube.api.resources import Resource
from bamikube.apiserver.cache import keys


def another_object(resource: Resource, namespace: str, name: str, wanted: str, there: str) -> errors.ApiError:
    """409 for an update that means uid ``wanted`` where uid ``there`` is; ``there`` is empty where nothing is."""
    key = keys.key(resource, namespace, name).decode()
    message = (
        f"StorageError: invalid object, Code: 4, Key: {key}, ResourceVersion: 0, AdditionalErrorMsg: "
        f"Precondition failed: UID in precondition: {wanted}, UID in object meta: {there}"
    )
    return errors.conflict(resource.plural, name, message, resource.group)


def before_deletion(resource: Resource, metadata: dict[str, Any], uid: str, version: str) -> None:
    """Raises 409 when a deletion means another uid or version than that of ``metadata``; empty ones mean any."""
    there, at = metadata.get("uid", ""), metadata.get("resourceVersion", "")
    if uid and uid != there:
        fault = (
            f"the UID in the precondition ({uid}) does not match the UID in record ({there}). "
            "The object might have been deleted and then recreated"
        )
    elif version and version != at:
        fault = (
            f"the ResourceVersion in the precondition ({version}) does not match the ResourceVersion in record "
            f"({at}). The object might have been modified"
        )
    else:
        return
    raise errors.conflict(resource.kind, metadata["name"], fault, resource.group)


def frozen_uid(resource: Resource, name: str, uid: Any) -> errors.ApiError:
    """422 for a patch that gives an object another uid: unlike an update, it names what it means in its path alone."""
    cause = errors.Cause("FieldValueInvalid", f'Invalid value: "{uid}": field is immutable', "metadata.uid")
    return errors.invalid(resource.kind, name, [cause], resource.group)
