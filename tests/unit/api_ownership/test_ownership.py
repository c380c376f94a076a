"""Plain writes and applies: who owns what, and what happens to the object."""

from __future__ import annotations

from typing import Any

from bamikube.api import ownership
from bamikube.api.fields import elements, object_type, sets
from bamikube.api.ownership import Author, Version
from bamikube.api.ownership.managers import APPLY, UPDATE
from tests.unit.api_ownership.people import DEPLOYMENT, SERVICE, Stage


def web(image: str = "a", replicas: int | None = 3, **more: Any) -> dict[str, Any]:
    spec: dict[str, Any] = {"template": {"spec": {"containers": [{"name": "web", "image": image, **more}]}}}
    if replicas is not None:
        spec["replicas"] = replicas
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": spec}


IMAGE = '.spec.template.spec.containers[name="web"].image'


def test_a_creator_owns_what_he_wrote_and_no_structs_that_are_always_there() -> None:
    stage = Stage(DEPLOYMENT)
    obj = web()
    obj["metadata"] |= {"labels": {"app": "web"}, "uid": "u", "creationTimestamp": "t", "generation": 1}
    obj["spec"]["strategy"] = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}
    stage.update("kubectl-create", obj)
    assert stage.owned() == {
        "kubectl-create/Update": [
            ".metadata.labels",
            ".metadata.labels.app",
            ".spec.replicas",
            ".spec.strategy.rollingUpdate",
            ".spec.strategy.rollingUpdate.maxSurge",
            ".spec.strategy.type",
            '.spec.template.spec.containers[name="web"]',
            IMAGE,
            '.spec.template.spec.containers[name="web"].name',
        ]
    }


def test_an_update_takes_what_it_changes_and_nothing_else() -> None:
    stage = Stage(DEPLOYMENT)
    stage.update("kubectl-create", web())
    stage.update("scaler", web(replicas=5))
    assert stage.owned()["scaler/Update"] == [".spec.replicas"]
    assert ".spec.replicas" not in stage.owned()["kubectl-create/Update"]
    before = stage.obj
    stage.update("idler", web(replicas=5))
    assert stage.obj == before, "who changes nothing owns nothing, and moves no time"


def test_what_an_update_removes_is_nobodys() -> None:
    stage = Stage(DEPLOYMENT)
    stage.update("kubectl-create", web())
    stage.update("other", web(replicas=None))
    assert ".spec.replicas" not in [path for paths in stage.owned().values() for path in paths]


def test_the_endpoint_decides_what_can_be_owned() -> None:
    stage = Stage(DEPLOYMENT)
    stage.update("kubectl", web())
    with_status = web() | {"status": {"replicas": 3}}
    stage.update("kubectl", with_status, reset={"f:status": {}})
    assert stage.owned().keys() == {"kubectl/Update"}
    stage.obj = {**web(), "metadata": stage.obj["metadata"]} if stage.obj else None
    stage.update("controller", {**with_status, "spec": {}}, "status", {"f:spec": {}})
    assert stage.owned()["controller/Update"] == [".status.replicas"]
    assert ".spec.replicas" in stage.owned()["kubectl/Update"]


def test_metadata_stays_when_its_last_field_is_given_up() -> None:
    stage = Stage(DEPLOYMENT)
    doc = web() | {"metadata": {"name": "web", "labels": {"a": "b"}, "finalizers": ["example.com/f"]}}
    stage.apply("me", doc)
    assert stage.obj is not None
    stage.obj["metadata"] |= {"uid": "u", "namespace": "default"}
    assert stage.apply("me", web())["metadata"] == {"name": "web", "uid": "u", "namespace": "default"}


def test_applying_owns_what_the_document_says_without_its_containers() -> None:
    stage = Stage(DEPLOYMENT)
    stage.apply("ci", web() | {"metadata": {"name": "web", "labels": {"app": "web"}}})
    assert stage.owned() == {
        "ci/Apply": [
            ".metadata.labels.app",
            ".spec.replicas",
            '.spec.template.spec.containers[name="web"]',
            IMAGE,
            '.spec.template.spec.containers[name="web"].name',
        ]
    }


def test_a_conflict_names_the_field_and_its_owner() -> None:
    stage = Stage(DEPLOYMENT)
    stage.apply("ci", web())
    stage.update("scaler", web(replicas=5))
    outcome = stage.try_apply("kubectl", web("b", 4))
    assert stage.conflicts(outcome) == [("ci", IMAGE), ("scaler", ".spec.replicas")]
    error = ownership.conflict_error(outcome.conflicts)
    assert error.code == 409 and error.reason == "Conflict"
    assert error.message == (
        f'Apply failed with 2 conflicts: conflicts with "ci":\n- {IMAGE}\n'
        'conflicts with "scaler" using apps/v1 at 2026-01-01T00:00:02Z:\n- .spec.replicas'
    )
    assert error.details is not None
    assert error.details["causes"][0] == {
        "reason": "FieldManagerConflict",
        "message": 'conflict with "ci"',
        "field": IMAGE,
    }
    one = stage.try_apply("kubectl", web("b", 5))
    assert ownership.conflict_error(one.conflicts).message == (
        f'Apply failed with 1 conflict: conflict with "ci": {IMAGE}'
    )


def test_force_takes_the_field_over() -> None:
    stage = Stage(DEPLOYMENT)
    stage.apply("ci", web())
    applied = stage.apply("kubectl", web("b", None), force=True)
    assert applied["spec"]["template"]["spec"]["containers"][0]["image"] == "b"
    assert applied["spec"]["replicas"] == 3
    assert IMAGE not in stage.owned()["ci/Apply"] and IMAGE in stage.owned()["kubectl/Apply"]


def test_saying_what_is_there_shares_the_ownership() -> None:
    stage = Stage(DEPLOYMENT)
    stage.apply("ci", web())
    stage.apply("kubectl", web())
    assert IMAGE in stage.owned()["ci/Apply"] and IMAGE in stage.owned()["kubectl/Apply"]
    # Whoever leaves first takes nothing along; the last one does.
    assert stage.apply("ci", web(replicas=None))["spec"]["replicas"] == 3
    assert "replicas" not in stage.apply("kubectl", web(replicas=None))["spec"]


def test_what_a_manager_gives_up_goes_with_the_struct_it_was_in() -> None:
    stage = Stage(DEPLOYMENT)
    probe = {"livenessProbe": {"httpGet": {"port": 80, "path": "/"}}}
    stage.apply("ci", web(**probe))
    assert stage.obj is not None
    container = stage.obj["spec"]["template"]["spec"]["containers"][0]
    container["livenessProbe"]["periodSeconds"] = 10  # a default: nobody's
    assert "livenessProbe" not in stage.apply("ci", web())["spec"]["template"]["spec"]["containers"][0]


def test_an_updaters_field_keeps_the_struct_it_is_in() -> None:
    stage = Stage(DEPLOYMENT)
    probe = {"livenessProbe": {"httpGet": {"port": 80, "path": "/"}}}
    stage.apply("ci", web(**probe))
    changed = {"livenessProbe": {"httpGet": {"port": 80, "path": "/"}, "periodSeconds": 7}}
    stage.update("tuner", web(**changed))
    left = stage.apply("ci", web())["spec"]["template"]["spec"]["containers"][0]
    assert left["livenessProbe"] == {"periodSeconds": 7}


def test_elements_of_lists_are_owned_by_their_keys() -> None:
    stage = Stage(SERVICE, "v1")

    def service(*ports: dict[str, Any]) -> dict[str, Any]:
        return {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "s"},
            "spec": {"ports": list(ports)},
        }

    stage.apply("one", service({"port": 80, "name": "http"}))
    # The key that was left out has its default: the same port of the same protocol.
    both = stage.apply(
        "two", service({"port": 80, "protocol": "TCP", "name": "http"}, {"port": 443, "name": "tls"})
    )
    assert [port["port"] for port in both["spec"]["ports"]] == [80, 443]
    assert '.spec.ports[port=443,protocol="TCP"]' in stage.owned()["two/Apply"]
    left = stage.apply("two", service())
    assert [port["port"] for port in left["spec"]["ports"]] == [80]
    outcome = stage.try_apply("two", service({"port": 80, "name": "web"}))
    assert stage.conflicts(outcome) == [("one", '.spec.ports[port=80,protocol="TCP"].name')]


def test_atomic_values_have_one_owner() -> None:
    stage = Stage(DEPLOYMENT)
    one = web()
    one["spec"]["selector"] = {"matchLabels": {"a": "b"}}
    stage.apply("ci", one)
    assert ".spec.selector" in stage.owned()["ci/Apply"]
    two = web()
    two["spec"]["selector"] = {"matchLabels": {"c": "d"}}
    assert stage.conflicts(stage.try_apply("kubectl", two)) == [("ci", ".spec.selector")]
    args = web(args=["a", "b"])
    assert stage.apply("ci", args)["spec"]["template"]["spec"]["containers"][0]["args"] == ["a", "b"]


def test_sets_are_owned_value_by_value() -> None:
    stage = Stage(DEPLOYMENT)

    def held(*finalizers: str) -> dict[str, Any]:
        return web() | {"metadata": {"name": "web", "finalizers": list(finalizers)}}

    stage.apply("one", held("x/a"))
    assert stage.apply("two", held("x/b"))["metadata"]["finalizers"] == ["x/a", "x/b"]
    assert '.metadata.finalizers[="x/b"]' in stage.owned()["two/Apply"]
    assert stage.apply("one", web())["metadata"]["finalizers"] == ["x/b"]


def test_without_a_schema_maps_are_deduced_and_lists_are_one_thing() -> None:
    stage = Stage("", "example.com/v1")
    base = {"apiVersion": "example.com/v1", "kind": "Thing", "metadata": {"name": "t"}}
    stage.apply("one", base | {"spec": {"a": {"b": 1}, "list": [1, 2]}})
    merged = stage.apply("two", base | {"spec": {"a": {"c": 0}}})
    assert merged["spec"] == {"a": {"b": 1, "c": 0}, "list": [1, 2]}
    assert stage.owned()["one/Apply"] == [".spec.a.b", ".spec.list"]
    assert stage.conflicts(stage.try_apply("two", base | {"spec": {"list": [3]}})) == [("one", ".spec.list")]


def test_structural_schemas_say_what_lists_are() -> None:
    kind = object_type(
        {
            "type": "object",
            "properties": {
                "spec": {
                    "type": "object",
                    "properties": {
                        "hosts": {
                            "type": "array",
                            "x-kubernetes-list-type": "map",
                            "x-kubernetes-list-map-keys": ["name", "zone"],
                            "items": {
                                "type": "object",
                                "properties": {
                                    "name": {"type": "string"},
                                    "zone": {"type": "string", "default": "a"},
                                    "weight": {"x-kubernetes-int-or-string": True},
                                },
                            },
                        },
                        "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                        "pod": {
                            "type": "object",
                            "x-kubernetes-embedded-resource": True,
                            "x-kubernetes-preserve-unknown-fields": True,
                        },
                    },
                }
            },
        }
    )
    stage = Stage(api_version="example.com/v1", kind=kind)
    base = {"apiVersion": "example.com/v1", "kind": "Thing", "metadata": {"name": "t"}}
    spec = {"hosts": [{"name": "h", "weight": 1}], "free": {"x": {"y": 1}}, "pod": {"kind": "Pod"}}
    stage.apply("one", base | {"spec": spec})
    assert stage.owned()["one/Apply"] == [
        ".spec.free.x.y",
        '.spec.hosts[name="h",zone="a"]',
        '.spec.hosts[name="h",zone="a"].name',
        '.spec.hosts[name="h",zone="a"].weight',
        ".spec.pod.kind",
    ]
    faults = kind.check(base | {"spec": {"hosts": [{"name": "h", "x": 1}, {"name": "h"}, {}], "nope": 1}})
    problems = [f"{path}: {what}" for path, what in faults or ()]
    assert problems == [
        '.spec.hosts[name="h",zone="a"].x: field not declared in schema',
        '.spec.hosts: duplicate entries for key [name="h",zone="a"]',
        ".spec.nope: field not declared in schema",
    ]


def test_a_null_is_owned_and_empties_the_field() -> None:
    stage = Stage(DEPLOYMENT)
    stage.update("kubectl", web())
    doc = web(replicas=None)
    doc["spec"]["replicas"] = None
    applied = stage.try_apply("ci", doc, force=True)
    assert applied.object["spec"]["replicas"] is None  # the schema's check takes it out


def test_the_first_apply_keeps_what_was_there_apart() -> None:
    stage = Stage(DEPLOYMENT)
    stage.obj = web()
    stage.apply("ci", web("a", 3))
    assert stage.owned().keys() == {"ci/Apply", "before-first-apply/Update"}
    stage.obj = web()
    assert stage.conflicts(stage.try_apply("ci", web("b", 3))) == [("before-first-apply", IMAGE)]


def test_managers_can_be_reset_and_are_then_not_tracked() -> None:
    stage = Stage(DEPLOYMENT)
    stage.update("kubectl", web())
    stage.update("kubectl", web() | {"metadata": {"name": "web", "managedFields": [{}]}})
    assert stage.owned() == {}
    stage.update("scaler", web(replicas=9))
    assert stage.owned() == {}


def test_a_client_may_rewrite_managers_but_not_break_them() -> None:
    stage = Stage(DEPLOYMENT)
    stage.update("kubectl", web())
    assert stage.obj is not None
    mine = {
        "manager": "me",
        "operation": "Apply",
        "apiVersion": "apps/v1",
        "fieldsType": "FieldsV1",
        "fieldsV1": {"f:spec": {"f:replicas": {}}},
    }
    stage.update("me", web() | {"metadata": {"name": "web", "managedFields": [mine]}})
    assert stage.owned() == {"me/Apply": [".spec.replicas"]}
    for broken in ({**mine, "operation": "X"}, {**mine, "fieldsType": "V2"}, {**mine, "fieldsV1": {"x": {}}}):
        stage.update("me", web() | {"metadata": {"name": "web", "managedFields": [broken]}})
        assert stage.owned() == {"me/Apply": [".spec.replicas"]}
    stage.update("me", web() | {"metadata": {"name": "web", "managedFields": []}})
    assert stage.owned() == {"me/Apply": [".spec.replicas"]}, "left out is not taken away"


def test_the_oldest_updaters_become_one() -> None:
    stage = Stage(DEPLOYMENT)
    obj = web() | {"metadata": {"name": "web", "labels": {}}}
    for number in range(14):
        obj["metadata"]["labels"] |= {f"l{number}": "x"}
        stage.update(f"m{number:02}", obj)
    owned = stage.owned()
    assert len(owned) == 10 and "m13/Update" in owned and "m00/Update" not in owned
    assert {f".metadata.labels.l{number}" for number in range(5)} <= set(owned["ancient-changes/Update"])


def test_entries_come_in_order_and_have_kubernetes_form() -> None:
    stage = Stage(DEPLOYMENT)
    stage.update("b", web())
    stage.update("a", web(replicas=5), "scale")
    stage.apply("z", web(replicas=5))
    assert stage.obj is not None
    managed = stage.obj["metadata"]["managedFields"]
    assert [entry["manager"] for entry in managed] == ["z", "b", "a"]
    assert list(managed[2]) == [
        "manager",
        "operation",
        "apiVersion",
        "time",
        "fieldsType",
        "fieldsV1",
        "subresource",
    ]


def test_versions_are_compared_in_their_own_shape() -> None:
    """A field that is called otherwise in another version is one and the same field."""
    schema = {
        "type": "object",
        "properties": {"spec": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
    }
    kind = object_type(schema)

    def renamed(one: str, two: str) -> Any:
        def convert(obj: dict[str, Any]) -> dict[str, Any]:
            spec = {two if name == one else name: value for name, value in (obj.get("spec") or {}).items()}
            return {**obj, "spec": spec}

        return convert

    known = {"v2": Version(kind), "v1": Version(kind, renamed("size", "count"), renamed("count", "size"))}
    base = {"apiVersion": "v2", "metadata": {"name": "t"}}
    made = {**base, "spec": {"size": 1, "color": "red"}}

    def said(spec: dict[str, Any]) -> tuple[dict[str, Any], sets.FieldSet]:
        return {**base, "spec": spec}, kind.stated({**base, "spec": spec})

    entry = {
        "manager": "old",
        "operation": "Apply",
        "apiVersion": "v1",
        "fieldsType": "FieldsV1",
        "fieldsV1": {"f:spec": {"f:count": {}, "f:color": {}}},
    }
    live = {**made, "metadata": {"name": "t", "managedFields": [entry]}}
    author = Author("new", APPLY, "v2")
    outcome = ownership.apply(live, *said({"size": 2}), author, known.get, "t")
    assert [elements.text(one.path) for one in outcome.conflicts] == [".spec.count"]
    # The old manager comes back in the new version, and gives up the color.
    again = ownership.apply(live, *said({"size": 1}), Author("old", APPLY, "v2"), known.get, "t")
    assert again.conflicts == () and again.object["spec"] == {"size": 1}
    # A version that is gone takes its managers along.
    gone = ownership.apply(live, *said({"size": 2}), author, {"v2": known["v2"]}.get, "t")
    assert [entry.manager for entry in gone.managers.values()] == ["new"]
    # What an updater of another version owns stays.
    updater = {**entry, "manager": "up", "operation": "Update", "fieldsV1": {"f:spec": {"f:count": {}}}}
    mine = {
        **entry,
        "manager": "new",
        "apiVersion": "v2",
        "fieldsV1": {"f:spec": {"f:size": {}, "f:color": {}}},
    }
    live["metadata"]["managedFields"] = [mine, updater]
    kept = ownership.apply(live, *said({"other": 1}), author, known.get, "t")
    assert kept.object["spec"] == {"size": 1, "other": 1}


def test_a_list_that_has_become_atomic_is_owned_as_one() -> None:
    def kind(list_type: str) -> Any:
        keys = {"x-kubernetes-list-map-keys": ["name"]} if list_type == "map" else {}
        items = {"type": "object", "properties": {"name": {"type": "string"}, "v": {"type": "integer"}}}
        hosts = {"type": "array", "items": items, "x-kubernetes-list-type": list_type, **keys}
        spec = {"type": "object", "properties": {"hosts": hosts, "size": {"type": "integer"}}}
        return object_type({"type": "object", "properties": {"spec": spec}})

    stage = Stage(api_version="x/v1", kind=kind("map"))
    base = {"apiVersion": "x/v1", "kind": "Thing", "metadata": {"name": "t"}}
    stage.apply("one", base | {"spec": {"hosts": [{"name": "a", "v": 1}], "size": 1}})
    stage.apply("two", base | {"spec": {"hosts": [{"name": "b", "v": 2}]}})
    stage.kind = kind("atomic")
    stage.evolves = True
    outcome = stage.try_apply("two", base | {"spec": {"hosts": [{"name": "c"}]}})
    assert stage.conflicts(outcome) == [("one", ".spec.hosts")]
    stage.update("three", base | {"spec": {"hosts": [], "size": 1}})
    assert stage.owned() == {"one/Apply": [".spec.size"], "three/Update": [".spec.hosts"]}


def test_an_author_without_a_name_is_unknown() -> None:
    assert Author("", UPDATE, "v1").key[0] == "unknown"
    assert sets.EMPTY == {}
