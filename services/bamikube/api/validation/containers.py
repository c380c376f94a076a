"""Rules of containers: images, ports, environment, mounts, probes, resources."""

from __future__ import annotations

from typing import Any

from bamikube.api.errors import Cause
from bamikube.api.memory import Approved
from bamikube.api.names import (
    is_config_map_key,
    is_dns1123_label,
    is_dns1123_subdomain,
    is_http_header_name,
    is_port_name,
    is_qualified_name,
    is_relaxed_env_var_name,
)
from bamikube.api.quantity import Quantity
from bamikube.api.validation.rules import (
    duplicate,
    forbidden,
    invalid,
    named,
    not_found,
    not_negative,
    not_supported,
    one_of,
    port_number,
    required,
)
from bamikube.api.validation.security import container_context, proc_mount

PROTOCOLS = ("SCTP", "TCP", "UDP")
PULL_POLICIES = ("Always", "IfNotPresent", "Never")
_MESSAGE_POLICIES = ("FallbackToLogsOnError", "File")
_FIELD_PATHS = (
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
)
_ENV_FIELD_PATHS = tuple(
    each for each in _FIELD_PATHS if each not in ("metadata.annotations", "metadata.labels")
)
_RESOURCE_FIELDS = (
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
)
_STANDARD = ("cpu", "memory", "ephemeral-storage")
_APPROVED = Approved(2048)


def _port_list(field: str, ports: list[dict[str, Any]]) -> list[Cause]:
    causes: list[Cause] = []
    names: set[str] = set()
    for index, port in enumerate(ports):
        path = f"{field}[{index}]"
        name = port.get("name")
        if name:
            wrong = [invalid(f"{path}.name", name, message) for message in is_port_name(name)]
            causes += wrong
            if not wrong:
                if name in names:
                    causes.append(duplicate(f"{path}.name", name))
                names.add(name)
        number = port.get("containerPort", 0)
        if number == 0:
            causes.append(required(f"{path}.containerPort"))
        else:
            causes += port_number(f"{path}.containerPort", number)
        if port.get("hostPort"):
            causes += port_number(f"{path}.hostPort", port["hostPort"])
        causes += one_of(f"{path}.protocol", port.get("protocol"), PROTOCOLS)
    return causes


def field_ref(path: str, ref: dict[str, Any], allowed: tuple[str, ...] = _ENV_FIELD_PATHS) -> list[Cause]:
    """A reference to a field of the pod itself."""
    name = ref.get("fieldPath") or ""
    if not ref.get("apiVersion"):
        return [required(f"{path}.apiVersion")]
    if not name:
        return [required(f"{path}.fieldPath")]
    base, bracket, key = name.partition("['")
    if bracket:
        key = key.removesuffix("']")
        if base == "metadata.annotations":
            return [invalid(path, key, message) for message in is_qualified_name(key.lower())]
        if base == "metadata.labels":
            return [invalid(path, key, message) for message in is_qualified_name(key)]
        return [invalid(path, name, "does not support subscript")]
    if name not in _FIELD_PATHS:
        return [
            invalid(
                f"{path}.fieldPath", name, "error converting fieldPath: field label not supported: " + name
            )
        ]
    return [] if name in allowed else [not_supported(f"{path}.fieldPath", name, allowed)]


def downward_field(path: str, ref: dict[str, Any]) -> list[Cause]:
    """A field reference in a volume, where whole maps can be shown too."""
    volume = tuple(each for each in _FIELD_PATHS if each.startswith("metadata."))
    return field_ref(path, ref, volume)


def resource_field_ref(path: str, ref: dict[str, Any]) -> list[Cause]:
    """A reference to a request or limit."""
    name = ref.get("resource") or ""
    if not name:
        return [required(f"{path}.resource")]
    if name in _RESOURCE_FIELDS or name.startswith(("limits.hugepages-", "requests.hugepages-")):
        return []
    return [not_supported(f"{path}.resource", name, _RESOURCE_FIELDS)]


def _key_ref(path: str, ref: dict[str, Any]) -> list[Cause]:
    causes = named(f"{path}.name", ref.get("name"), is_dns1123_subdomain)
    return causes + named(f"{path}.key", ref.get("key"), is_config_map_key)


def _env(field: str, variables: list[dict[str, Any]]) -> list[Cause]:
    causes: list[Cause] = []
    for index, each in enumerate(variables):
        path = f"{field}[{index}]"
        causes += named(f"{path}.name", each.get("name"), is_relaxed_env_var_name)
        source = each.get("valueFrom")
        if source is None:
            continue
        path += ".valueFrom"
        kinds = [kind for kind in source if source[kind] is not None]
        if not kinds:
            causes.append(
                invalid(
                    path,
                    "",
                    "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, "
                    "`secretKeyRef` or `fileKeyRef`",
                )
            )
            continue
        if len(kinds) > 1 or each.get("value"):
            detail = "may not have more than one field specified at a time"
            causes.append(
                invalid(
                    path, "", detail if len(kinds) > 1 else "may not be specified when `value` is not empty"
                )
            )
        if "fieldRef" in kinds:
            causes += field_ref(f"{path}.fieldRef", source["fieldRef"])
        if "resourceFieldRef" in kinds:
            causes += resource_field_ref(f"{path}.resourceFieldRef", source["resourceFieldRef"])
        for kind in ("configMapKeyRef", "secretKeyRef"):
            if kind in kinds:
                causes += _key_ref(f"{path}.{kind}", source[kind])
    return causes


def _env_from(field: str, sources: list[dict[str, Any]]) -> list[Cause]:
    causes: list[Cause] = []
    for index, each in enumerate(sources):
        path = f"{field}[{index}]"
        kinds = [kind for kind in ("configMapRef", "secretRef") if each.get(kind) is not None]
        if not kinds:
            causes.append(invalid(path, "", "must specify one of: `configMapRef` or `secretRef`"))
        elif len(kinds) > 1:
            causes.append(invalid(path, "", "may not have more than one field specified at a time"))
        for kind in kinds:
            causes += named(f"{path}.{kind}.name", each[kind].get("name"), is_dns1123_subdomain)
        if each.get("prefix"):
            causes += [
                invalid(f"{path}.prefix", each["prefix"], m) for m in is_relaxed_env_var_name(each["prefix"])
            ]
    return causes


def _mounts(field: str, mounts: list[dict[str, Any]], volumes: set[str]) -> list[Cause]:
    causes: list[Cause] = []
    paths: set[str] = set()
    for index, mount in enumerate(mounts):
        path = f"{field}[{index}]"
        name, where = mount.get("name"), mount.get("mountPath")
        if not name:
            causes.append(required(f"{path}.name"))
        elif name not in volumes:
            causes.append(not_found(f"{path}.name", name))
        if not where:
            causes.append(required(f"{path}.mountPath"))
        elif where in paths:
            causes.append(invalid(f"{path}.mountPath", where, "must be unique"))
        paths.add(where or "")
        for kind in ("subPath", "subPathExpr"):
            inside = mount.get(kind) or ""
            if inside.startswith("/"):
                causes.append(invalid(f"{path}.{kind}", inside, "must be a relative path"))
            elif ".." in inside.split("/"):
                causes.append(invalid(f"{path}.{kind}", inside, "must not contain '..'"))
        if mount.get("subPath") and mount.get("subPathExpr"):
            causes.append(
                invalid(
                    f"{path}.subPathExpr",
                    mount["subPathExpr"],
                    "subPathExpr and subPath are mutually exclusive",
                )
            )
        if mount.get("mountPropagation"):
            supported = ("Bidirectional", "HostToContainer", "None")
            causes += one_of(f"{path}.mountPropagation", mount["mountPropagation"], supported)
    return causes


def _devices(
    field: str, devices: list[dict[str, Any]], holder: dict[str, Any], volumes: set[str]
) -> list[Cause]:
    causes: list[Cause] = []
    mounted = {each.get("mountPath") for each in holder.get("volumeMounts") or ()}
    mounts = {each.get("name") for each in holder.get("volumeMounts") or ()}
    names: set[str] = set()
    paths: set[str] = set()
    for index, device in enumerate(devices):
        path = f"{field}[{index}]"
        name, where = device.get("name") or "", device.get("devicePath") or ""
        if not name:
            causes.append(required(f"{path}.name"))
        elif name not in volumes:
            causes.append(not_found(f"{path}.name", name))
        elif name in names:
            causes.append(invalid(f"{path}.name", name, "must be unique"))
        elif name in mounts:
            causes.append(invalid(f"{path}.name", name, "must not already exist in volumeMounts"))
        if not where:
            causes.append(required(f"{path}.devicePath"))
        elif where in paths:
            causes.append(invalid(f"{path}.devicePath", where, "must be unique"))
        elif where in mounted:
            causes.append(
                invalid(f"{path}.devicePath", where, "must not already exist as a path in volumeMounts")
            )
        elif ".." in where.split("/"):
            causes.append(invalid(f"{path}.devicePath", where, "must not contain '..'"))
        names.add(name)
        paths.add(where)
    return causes


def _resize_policy(field: str, policies: list[dict[str, Any]]) -> list[Cause]:
    causes: list[Cause] = []
    names: set[str] = set()
    for index, policy in enumerate(policies):
        name = policy.get("resourceName") or ""
        if name in names:
            causes.append(duplicate(f"{field}[{index}]", name))
        names.add(name)
        causes += one_of(field, name, ("cpu", "memory"))
        causes += one_of(field, policy.get("restartPolicy"), ("NotRequired", "RestartContainer"))
    return causes


def _http_get(path: str, action: dict[str, Any]) -> list[Cause]:
    causes = [] if action.get("path") else [required(f"{path}.path")]
    causes += port_ref(f"{path}.port", action.get("port"))
    causes += one_of(f"{path}.scheme", action.get("scheme"), ("HTTP", "HTTPS"))
    for index, header in enumerate(action.get("httpHeaders") or ()):
        name = header.get("name") or ""
        causes += [invalid(f"{path}.httpHeaders[{index}].name", name, m) for m in is_http_header_name(name)]
    return causes


def port_ref(path: str, value: Any) -> list[Cause]:
    """A port by number or by name."""
    if isinstance(value, str):
        return [invalid(path, value, message) for message in is_port_name(value)]
    return port_number(path, value if value is not None else 0)


def _handler(path: str, handler: dict[str, Any], kinds: tuple[str, ...]) -> list[Cause]:
    causes: list[Cause] = []
    given = [kind for kind in kinds if handler.get(kind) is not None]
    for kind in given[1:]:
        causes.append(forbidden(f"{path}.{kind}", "may not specify more than 1 handler type"))
    if not given:
        return [required(path, "must specify a handler type")]
    kind, action = given[0], handler[given[0]]
    if kind == "exec" and not action.get("command"):
        causes.append(required(f"{path}.exec.command"))
    elif kind == "httpGet":
        causes += _http_get(f"{path}.httpGet", action)
    elif kind == "tcpSocket":
        causes += port_ref(f"{path}.tcpSocket.port", action.get("port"))
    elif kind == "grpc":
        causes += port_number(f"{path}.grpc.port", action.get("port", 0))
    elif kind == "sleep" and not action.get("seconds", 0) >= 0:
        causes.append(
            invalid(f"{path}.sleep.seconds", action["seconds"], "must be greater than or equal to 0")
        )
    return causes


def _probe(path: str, probe: dict[str, Any], *, counts_successes: bool) -> list[Cause]:
    causes = _handler(path, probe, ("exec", "httpGet", "tcpSocket", "grpc"))
    for name in (
        "initialDelaySeconds",
        "timeoutSeconds",
        "periodSeconds",
        "successThreshold",
        "failureThreshold",
    ):
        causes += not_negative(f"{path}.{name}", probe.get(name))
    if not counts_successes and probe.get("successThreshold", 1) != 1:
        causes.append(invalid(f"{path}.successThreshold", probe["successThreshold"], "must be 1"))
    grace = probe.get("terminationGracePeriodSeconds")
    if grace is not None:
        if counts_successes:
            causes.append(
                invalid(
                    f"{path}.terminationGracePeriodSeconds",
                    grace,
                    "must not be set for readinessProbes",
                )
            )
        elif grace <= 0:
            causes.append(invalid(f"{path}.terminationGracePeriodSeconds", grace, "must be greater than 0"))
    return causes


def _resource_name(path: str, name: str) -> list[Cause]:
    causes = [invalid(path, name, message) for message in is_qualified_name(name)]
    if not causes and "/" not in name and name not in _STANDARD and not name.startswith("hugepages-"):
        causes.append(invalid(path, name, "must be a standard resource type or fully qualified"))
    return causes


def resources(field: str, given: dict[str, Any], claims: set[str] | None = None) -> list[Cause]:
    """Requests and limits: known names, no negative amounts, requests within limits."""
    causes: list[Cause] = []
    limits, requests = given.get("limits") or {}, given.get("requests") or {}
    for kind, amounts in (("limits", limits), ("requests", requests)):
        for name, amount in amounts.items():
            path = f"{field}.{kind}[{name}]" if "/" in name else f"{field}.{kind}.{name}"
            causes += _resource_name(f"{field}.{kind}", name)
            quantity = Quantity.parse(amount)
            if quantity.sign() < 0:
                causes.append(invalid(path, str(amount), "must be greater than or equal to 0"))
            elif "/" in name and not quantity.is_whole():
                causes.append(invalid(path, str(amount), "must be an integer"))
    for name, amount in requests.items():
        limit = limits.get(name)
        if limit is None:
            continue
        difference = Quantity.parse(amount).compare(Quantity.parse(limit))
        if difference > 0:
            causes.append(
                invalid(
                    f"{field}.requests", str(amount), f"must be less than or equal to {name} limit of {limit}"
                )
            )
        elif difference < 0 and ("/" in name or name.startswith("hugepages-")):
            causes.append(
                invalid(f"{field}.requests", str(amount), f"must be equal to {name} limit of {limit}")
            )
    huge = any(name.startswith("hugepages-") for name in (*limits, *requests))
    if huge and not any(name in amounts for amounts in (limits, requests) for name in ("cpu", "memory")):
        causes.append(forbidden(field, "HugePages require cpu or memory"))
    for index, claim in enumerate(given.get("claims") or ()):
        name = claim.get("name") or ""
        if not name:
            causes.append(required(f"{field}.claims[{index}].name"))
        elif claims is not None and name not in claims:
            causes.append(not_found(f"{field}.claims[{index}]", name))
    return causes


def _lifecycle(field: str, lifecycle: dict[str, Any]) -> list[Cause]:
    causes: list[Cause] = []
    for name in ("postStart", "preStop"):
        if lifecycle.get(name) is not None:
            causes += _handler(f"{field}.{name}", lifecycle[name], ("exec", "httpGet", "tcpSocket", "sleep"))
    return causes


def fits(image: str | None) -> bool:
    """Whether there is nothing to say about an image."""
    return bool(image) and image == image.strip()  # type: ignore[union-attr]


def container(path: str, each: dict[str, Any], volumes: set[str], claims: set[str]) -> list[Cause]:
    """The rules every kind of container shares."""
    causes: list[Cause] = []
    image = each.get("image") or ""
    if not image:
        causes.append(required(f"{path}.image"))
    elif image.strip() != image:
        causes.append(invalid(f"{path}.image", image, "must not have leading or trailing whitespace"))
    # Everything else is what pods of one series, and versions of one workload, have in common.
    rest = [name_and_value for name_and_value in each.items() if name_and_value[0] not in ("image", "name")]
    about = (rest, sorted(volumes), sorted(claims))
    return causes + _APPROVED.judge(about, lambda: _parts(path, each, volumes, claims))


def _parts(path: str, each: dict[str, Any], volumes: set[str], claims: set[str]) -> list[Cause]:
    """The rules of everything but a container's name and image."""
    causes: list[Cause] = []
    if each.get("lifecycle") is not None:
        causes += _lifecycle(f"{path}.lifecycle", each["lifecycle"])
    for name in ("livenessProbe", "readinessProbe", "startupProbe"):
        if each.get(name) is not None:
            causes += _probe(f"{path}.{name}", each[name], counts_successes=name == "readinessProbe")
    causes += one_of(
        f"{path}.terminationMessagePolicy", each.get("terminationMessagePolicy"), _MESSAGE_POLICIES
    )
    if each.get("ports"):
        causes += _port_list(f"{path}.ports", each["ports"])
    if each.get("env"):
        causes += _env(f"{path}.env", each["env"])
    if each.get("envFrom"):
        causes += _env_from(f"{path}.envFrom", each["envFrom"])
    if each.get("resizePolicy"):
        causes += _resize_policy(f"{path}.resizePolicy", each["resizePolicy"])
    if each.get("volumeDevices"):
        causes += _devices(f"{path}.volumeDevices", each["volumeDevices"], each, volumes)
    if each.get("volumeMounts"):
        causes += _mounts(f"{path}.volumeMounts", each["volumeMounts"], volumes)
    causes += one_of(f"{path}.imagePullPolicy", each.get("imagePullPolicy"), PULL_POLICIES)
    if each.get("resources"):
        causes += resources(f"{path}.resources", each["resources"], claims)
    if each.get("securityContext"):
        causes += container_context(f"{path}.securityContext", each["securityContext"])
    return causes


def _no_hooks(path: str, each: dict[str, Any], names: tuple[str, ...], detail: str) -> list[Cause]:
    return [forbidden(f"{path}.{name}", detail) for name in names if each.get(name) is not None]


_HOOKS = ("lifecycle", "livenessProbe", "readinessProbe", "startupProbe")


def _host_ports(field: str, listed: list[dict[str, Any]]) -> list[Cause]:
    causes: list[Cause] = []
    used: set[str] = set()
    for index, each in enumerate(listed):
        for place, port in enumerate(each.get("ports") or ()):
            if port.get("hostPort"):
                text = f"{port.get('hostIP', '')}/{port['hostPort']}/{port.get('protocol')}"
                if text in used:
                    shown = f"{port.get('protocol')}/{port.get('hostIP', '')}/{port['hostPort']}"
                    causes.append(duplicate(f"{field}[{index}].ports[{place}].hostPort", shown))
                used.add(text)
    return causes


def all_containers(spec: dict[str, Any], field: str, volumes: set[str]) -> list[Cause]:
    """App, init and ephemeral containers of a pod, whose names are unique together."""
    causes: list[Cause] = []
    names: set[str] = set()
    claims = {each.get("name", "") for each in spec.get("resourceClaims") or ()}
    apps = spec.get("containers") or []
    if not apps:
        causes.append(required(f"{field}.containers"))
    for kind in ("containers", "initContainers", "ephemeralContainers"):
        for index, each in enumerate(spec.get(kind) or ()):
            path = f"{field}.{kind}[{index}]"
            name = each.get("name")
            causes += named(f"{path}.name", name, is_dns1123_label)
            if name:
                if name in names:
                    causes.append(duplicate(f"{path}.name", name))
                names.add(name)
            causes += container(path, each, volumes, claims)
            causes += proc_mount(f"{path}.securityContext", each.get("securityContext") or {}, spec)
            restart = each.get("restartPolicy")
            if kind == "initContainers":
                if restart is not None and restart != "Always":
                    causes.append(not_supported(f"{path}.restartPolicy", restart, ("Always",)))
                if restart != "Always":
                    causes += _no_hooks(
                        path, each, _HOOKS, "may not be set for init containers without restartPolicy=Always"
                    )
            elif restart is not None:
                causes.append(forbidden(f"{path}.restartPolicy", "may not be set for non-init containers"))
            if kind == "ephemeralContainers":
                detail = "cannot be set for an Ephemeral Container"
                causes += _no_hooks(path, each, ("ports", *_HOOKS), detail)
                if each.get("resources"):
                    causes.append(forbidden(f"{path}.resources", detail))
    return causes + _host_ports(f"{field}.containers", apps)
