"""The generic verbs over HTTP: parameters and bodies in, shapes out.

By the time a request comes here it is authenticated and authorized, and its resource is known.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bamikube.api import errors, schema
from bamikube.api.errors import Cause
from bamikube.api.kinds import expect_kind, expect_stated
from bamikube.api.resources import Resource
from bamikube.apiserver import bodies, negotiation, websockets
from bamikube.apiserver.attributes import Attributes
from bamikube.apiserver.authz import Authorizer, denied
from bamikube.apiserver.cache import Filter, Item
from bamikube.apiserver.cache.watcher import Changes
from bamikube.apiserver.converting import calls_out
from bamikube.apiserver.decoding import decode_body, repeated_keys
from bamikube.apiserver.identity import User
from bamikube.apiserver.negotiation import JSON, Accepted, Shape
from bamikube.apiserver.registry import Registry, ownership, policy
from bamikube.apiserver.registry.applying import check_document, parse_document
from bamikube.apiserver.registry.deletion import DeleteOptions, check_dry_run
from bamikube.apiserver.registry.documents import Documents
from bamikube.apiserver.registry.patching import APPLY_PATCH, parse_patch
from bamikube.apiserver.registry.reading import ListOptions
from bamikube.apiserver.registry.scale import SCALE, patched_scale, scale_of
from bamikube.apiserver.registry.selection import make_filter
from bamikube.apiserver.registry.writing import Written, settle_namespace
from bamikube.apiserver.requestinfo import RequestInfo
from bamikube.apiserver.warnings import telling, with_warnings
from bamikube.kit.http import Answer, Request, Response, Stream
from bamikube.kit.world import World

_COLLECTION = frozenset({"list", "watch", "deletecollection"})
_GENERIC_SUBRESOURCES = frozenset({"", "status", "scale"})


class Endpoints:
    """Serves every stored resource through one code path."""

    def __init__(self, registry: Registry, world: World, authorizer: Authorizer | None = None) -> None:
        """``authorizer`` is asked when a patch or a PUT would create; None allows it."""
        self._registry = registry
        self._world = world
        self._authorizer = authorizer
        self._documents = Documents()

    async def serve(
        self, request: Request, info: RequestInfo, resource: Resource, namespace: str, user: User
    ) -> Answer:
        """Answer a generic verb. Raises ApiError."""
        verb, subresource = info.verb, info.subresource
        if info.rest or subresource not in _GENERIC_SUBRESOURCES:
            raise errors.no_such_path()
        if verb not in resource.verbs:
            raise errors.method_not_allowed()
        if verb == "create":
            if info.name:
                raise errors.method_not_allowed()
            if resource.custom is not None and resource.custom.family.terminating:
                raise errors.method_not_allowed(
                    "create not allowed while custom resource definition is terminating"
                )
            return await self._create(request, resource, namespace, user)
        if verb in _COLLECTION:
            if verb == "deletecollection":
                return await self._delete_collection(request, resource, namespace, user)
            wanted = self._filter(request, resource, namespace, info)
            options, stream = list_options(request), verb == "watch"
            # A watch that begins with a list is no table: rows of a list belong together.
            tables = not (stream and options.initial_events and options.bookmarks)
            shape = Shape.of(
                request, resource, self._world.clock.now, stream=stream, tables=tables, listed=True
            )
            if verb == "list":
                listed = await self._registry.list_items(resource, wanted, options)
                return shape.list(await self._raws(resource, shape, listed.items), listed.metadata())
            if "upgrade" in request.headers and websockets.asks_for_websocket(request):
                websockets.check(request)
                watch = shape.with_headers(await self._watch(resource, wanted, shape, options))
                return websockets.event_messages(request, watch)
            return shape.with_headers(await self._watch(resource, wanted, shape, options))
        if not info.name:  # PUT and PATCH of a collection
            raise errors.method_not_allowed()
        if resource.namespaced and not namespace:
            raise errors.no_such_path()
        name = info.name
        if subresource == "scale":
            return await self._scale(request, verb, resource, namespace, name, user)
        if verb == "get":
            shape = Shape.of(request, resource, self._world.clock.now)
            version = request.param("resourceVersion") if request.raw_query else ""
            item = await self._registry.get_item(resource, namespace, name, version)
            return shape.object((await self._raws(resource, shape, [item]))[0])
        if verb == "update":
            return await self._update(request, resource, namespace, name, subresource, user)
        if verb == "patch":
            return await self._patch(request, resource, namespace, name, subresource, user)
        if verb == "delete" and not subresource:
            return await self._delete(request, resource, namespace, name, user)
        raise errors.method_not_allowed()

    def _filter(self, request: Request, resource: Resource, namespace: str, info: RequestInfo) -> Filter:
        if not request.raw_query:
            if not info.name:
                return Filter(namespace)
            return make_filter(resource, namespace, "", f"metadata.name={info.name}")
        fields = request.param("fieldSelector")
        if info.name and "metadata.name" not in fields:  # the old /watch/.../name form
            fields = f"metadata.name={info.name}" + (f",{fields}" if fields else "")
        return make_filter(
            resource, namespace, request.param("labelSelector"), fields, self._registry.stored(resource)
        )

    async def _create(self, request: Request, resource: Resource, namespace: str, user: User) -> Answer:
        if resource.namespaced and not namespace:
            raise errors.method_not_allowed()
        options = write_options(request, "CreateOptions")
        shape = Shape.of(request, resource, self._world.clock.now)
        obj = decode_body(request, resource.kind)
        warnings = checked(request, resource, obj, options["fieldValidation"])
        with telling(warnings):
            written = await self._registry.create_item(
                resource,
                obj,
                namespace=namespace,
                user=user,
                dry_run=bool(options["dryRun"]),
                options=options,
                manager=ownership.manager_in(request),
            )
        return await self._answered(resource, shape, written, warnings)

    async def _update(
        self, request: Request, resource: Resource, namespace: str, name: str, subresource: str, user: User
    ) -> Answer:
        options = write_options(request, "UpdateOptions")
        shape = Shape.of(request, resource, self._world.clock.now)
        obj = decode_body(request, resource.kind)
        warnings = checked(request, resource, obj, options["fieldValidation"])
        with telling(warnings):
            written = await self._registry.update_item(
                resource,
                namespace,
                name,
                obj,
                subresource=subresource,
                user=user,
                dry_run=bool(options["dryRun"]),
                options=options,
                manager=ownership.manager_in(request),
                may_create=lambda: self._may_create(user, request, resource, namespace, name),
            )
        return await self._answered(resource, shape, written, warnings)

    async def _patch(
        self, request: Request, resource: Resource, namespace: str, name: str, subresource: str, user: User
    ) -> Answer:
        options = patch_options(request)
        shape = Shape.of(request, resource, self._world.clock.now)
        media = negotiation.content_type(request)
        if media == APPLY_PATCH:
            about = (resource, namespace, name, request.body)
            document, warnings = self._documents.take(about), list[str]()
            if document is None:
                doc, warnings = parse_document(request.body, options["fieldValidation"])
                document = check_document(resource, doc, namespace, name)
            written = await self._registry.apply_item(
                resource,
                namespace,
                name,
                document,
                options["fieldManager"],
                force=bool(options["force"]),
                subresource=subresource,
                user=user,
                dry_run=bool(options["dryRun"]),
                options=options,
                may_create=lambda: self._may_create(user, request, resource, namespace, name),
            )
            if not warnings:
                self._documents.keep(about, document)
            return await self._answered(resource, shape, written, warnings)
        patch = parse_patch(media, request.body, resource)
        written = await self._registry.patch_item(
            resource,
            namespace,
            name,
            media,
            patch,
            subresource=subresource,
            user=user,
            dry_run=bool(options["dryRun"]),
            field_validation=options["fieldValidation"],
            repeated=repeated_in_patch(request, patch, options["fieldValidation"]),
            options=options,
            manager=ownership.manager_in(request),
        )
        return await self._answered(resource, shape, written, [])

    def _may_create(
        self, user: User, request: Request, resource: Resource, namespace: str, name: str
    ) -> None:
        """Whoever applies, or puts, what does not exist must be allowed to create it. Raises 403."""
        if self._authorizer is None:
            return
        attributes = Attributes(
            user,
            "create",
            request.path,
            resource.group,
            resource.version,
            resource.plural,
            "",
            namespace,
            name,
            True,
        )
        verdict = self._authorizer.authorize(attributes)
        if not verdict.allowed:
            raise denied(attributes, verdict.reason)

    async def _scale(
        self, request: Request, verb: str, resource: Resource, namespace: str, name: str, user: User
    ) -> Answer:
        registry = self._registry
        shape = Shape.of(request, SCALE, self._world.clock.now)
        if verb == "get":
            scale = scale_of(resource, await registry.get(resource, namespace, name))
            return negotiation.answer_object(request, scale, shape=shape)
        options = patch_options(request) if verb == "patch" else write_options(request, "UpdateOptions")
        dry_run, validation = bool(options["dryRun"]), options["fieldValidation"]
        by, warnings = ownership.manager_in(request), list[str]()
        with telling(warnings):
            if verb == "update":
                body = decode_body(request, SCALE.kind)
                warnings += checked(request, SCALE, body, validation)
                settle_namespace(resource, dict(body.get("metadata") or {}), namespace)
                scale = await registry.write_scale(
                    resource,
                    namespace,
                    name,
                    lambda current: body,
                    warnings,
                    user=user,
                    dry_run=dry_run,
                    manager=by,
                )
            elif verb == "patch" and negotiation.content_type(request) == APPLY_PATCH:
                doc, repeated = parse_document(request.body, validation)
                warnings += repeated
                force = bool(options["force"])
                scale = await registry.apply_scale(
                    resource, namespace, name, doc, warnings, by, force=force, user=user, dry_run=dry_run
                )
            elif verb == "patch":
                media = negotiation.content_type(request)
                patch = parse_patch(media, request.body, resource)
                odd = repeated_in_patch(request, patch, validation)
                wanted = patched_scale(media, patch, validation, odd, warnings)
                scale = await registry.write_scale(
                    resource, namespace, name, wanted, warnings, user=user, dry_run=dry_run, manager=by
                )
            else:
                raise errors.method_not_allowed()
        answer = negotiation.answer_object(request, scale, shape=shape)
        if warnings:
            answer.headers.update(with_warnings({}, warnings))
        return answer

    async def _delete(
        self, request: Request, resource: Resource, namespace: str, name: str, user: User
    ) -> Answer:
        options = delete_options(request)
        shape = Shape.of(request, resource, self._world.clock.now)
        written = await self._registry.delete_item(resource, namespace, name, options, user=user)
        if not written.removed or resource.key in policy.RETURNS_DELETED:
            return await self._answered(resource, shape, written, [])
        details = {"name": name, "kind": resource.plural, "uid": written.item.obj["metadata"].get("uid", "")}
        if resource.group:
            details["group"] = resource.group
        status = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Success",
            "details": details,
        }
        answer = negotiation.answer_object(request, status)
        if written.warnings:
            answer.headers.update(with_warnings({}, written.warnings))
        return answer

    async def _delete_collection(
        self, request: Request, resource: Resource, namespace: str, user: User
    ) -> Answer:
        options = delete_options(request)
        wanted = make_filter(
            resource,
            namespace,
            request.param("labelSelector"),
            request.param("fieldSelector"),
            self._registry.stored(resource),
        )
        shape = Shape.of(request, resource, self._world.clock.now)
        items = await self._registry.delete_collection(
            resource, wanted, list_options(request), options, user=user
        )
        metadata = {"resourceVersion": str(self._registry.cache.revision)}
        return shape.list(await self._raws(resource, shape, items), metadata)

    # -- other versions ------------------------------------------------------------------------------------------

    async def _raws(self, resource: Resource, shape: Shape, items: Sequence[Item]) -> list[bytes]:
        """The bytes of items. Only versions that a webhook converts are waited for, and not for mere metadata."""
        converter = self._registry.converter
        if converter is None or not calls_out(resource) or shape.wanted.transform == "Partial":
            return [item.raw for item in items]
        return await converter.raws(resource, items)

    async def _watch(self, resource: Resource, wanted: Filter, shape: Shape, options: ListOptions) -> Stream:
        converter = self._registry.converter
        if converter is not None and wanted.deep and calls_out(resource):
            everything = Filter(wanted.namespace)
            source = await self._registry.watch(resource, everything, Changes(), options, content_type=JSON)
            return converter.stream(resource, source, shape, wanted)
        if converter is None or not calls_out(resource) or shape.wanted.transform == "Partial":
            return await self._registry.watch(
                resource, wanted, shape, options, content_type=shape.stream_type
            )
        plain = Shape(self._registry.stored(resource), Accepted(), now=self._world.clock.now)
        source = await self._registry.watch(resource, wanted, plain, options, content_type=JSON)
        return converter.stream(resource, source, shape)

    async def _answered(
        self, resource: Resource, shape: Shape, written: Written, warnings: list[str]
    ) -> Response:
        """The answer of a write, with the warnings that came up on the way."""
        raw = (await self._raws(resource, shape, [written.item]))[0]
        answer = shape.object(raw, 201 if written.created else 200)
        if warnings or written.warnings:
            answer.headers.update(with_warnings({}, [*warnings, *written.warnings]))
        return answer


def list_options(request: Request) -> ListOptions:
    """The parameters of list and watch. Raises 400."""
    if not request.raw_query:
        return _NO_OPTIONS
    initial = request.flag("sendInitialEvents") if "sendInitialEvents" in request.query else None
    timeout = _number(request, "timeoutSeconds")
    return ListOptions(
        request.param("resourceVersion"),
        request.param("resourceVersionMatch"),
        _number(request, "limit"),
        request.param("continue"),
        float(timeout) if timeout else None,
        request.flag("allowWatchBookmarks"),
        initial,
    )


_NO_OPTIONS = ListOptions()


def _number(request: Request, name: str) -> int:
    text = request.param(name)
    if not text:
        return 0
    try:
        value = int(text)
    except ValueError:
        raise errors.bad_request(f'{name}: strconv.ParseInt: parsing "{text}": invalid syntax') from None
    if value < 0:
        raise errors.bad_request(f"{name} must not be negative")
    if value >= 1 << 63:
        raise errors.bad_request(f'{name}: strconv.ParseInt: parsing "{text}": value out of range')
    return value


def write_options(request: Request, kind: str) -> dict[str, Any]:
    """dryRun, fieldValidation and fieldManager of create, update and patch. Raises 400 and 422.

    ``kind`` is what the options are called: CreateOptions, UpdateOptions, PatchOptions. What the request does not say
    stays empty, as webhooks see it; an empty fieldValidation means Warn.
    """
    if not request.raw_query:
        return {"dryRun": [], "fieldValidation": "", "fieldManager": ""}
    dry = request.query.get("dryRun") or []
    check_dry_run(dry, kind)
    validation = request.param("fieldValidation")
    if validation not in ("", "Ignore", "Warn", "Strict"):
        supported = 'supported values: "Ignore", "Strict", "Warn"'
        cause = Cause(
            "FieldValueNotSupported", f'Unsupported value: "{validation}": {supported}', "fieldValidation"
        )
        raise errors.invalid(kind, "", [cause], "meta.k8s.io")
    named = request.param("fieldManager")
    if named:
        ownership.check_manager(kind, named)
    return {"dryRun": dry, "fieldValidation": validation, "fieldManager": named}


def patch_options(request: Request) -> dict[str, Any]:
    """The options of a patch: an apply must name its manager, and alone may be forced. Raises 400 and 422."""
    options = write_options(request, "PatchOptions")
    applies = negotiation.content_type(request) == APPLY_PATCH
    force = request.param("force") if request.raw_query else ""
    if force and not applies:
        cause = Cause("FieldValueForbidden", "Forbidden: may not be specified for non-apply patch", "force")
        raise errors.invalid("PatchOptions", "", [cause], "meta.k8s.io")
    if applies:
        ownership.check_manager("PatchOptions", options["fieldManager"], required=True)
    return {**options, "force": request.flag("force")} if force else {**options, "force": None}


_DELETE_OPTIONS = "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions"


def delete_options(request: Request) -> DeleteOptions:
    """From the body (if there is one) and the query."""
    body: dict[str, Any] = {}
    if request.body:
        body = decode_body(request, "DeleteOptions")
        if body.get("kind") not in (None, "", "DeleteOptions"):
            raise errors.bad_request(f"the body of a DELETE is a DeleteOptions, not a {body['kind']}")
        report = schema.check_definition(_DELETE_OPTIONS, body)
        if report.errors:
            raise errors.bad_request(
                f"the body cannot be handled as a DeleteOptions: {report.errors[0].message}"
            )
    return DeleteOptions.of(body, request.query)


def repeated_in_patch(request: Request, patch: Any, field_validation: str) -> schema.Repeats:
    """What is odd about the text of a patch: keys given twice, and in operations keys that mean nothing."""
    if field_validation == "Ignore":
        return schema.NO_REPEATS
    if isinstance(patch, list):
        return bodies.odd_operations(request.body, patch)
    return schema.Repeats(bodies.duplicate_keys(request.body, patch).texts)


def checked(request: Request, resource: Resource, obj: dict[str, Any], field_validation: str) -> list[str]:
    """Kind, types, unknown fields and repeated keys of a body. Returns warnings. Raises 400."""
    repeated = schema.NO_REPEATS if field_validation == "Ignore" else repeated_keys(request, obj)
    if resource.custom is not None:
        expect_stated(resource, obj, request.body)
    expect_kind(resource, obj)
    return schema.ensure(resource, obj, field_validation, repeated)
