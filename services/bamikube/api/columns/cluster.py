"""Rows of nodes, namespaces, events, configuration, leases, roles and requests for certificates."""

from __future__ import annotations

from typing import Any

from bamikube.api.columns import age
from bamikube.api.columns.model import AGE, CREATED, NAME, NONE, Printer, column, created, name

_ROLE_PREFIX = "node-role.kubernetes.io/"
_ROLE_LABEL = "kubernetes.io/role"
UNKNOWN = "<unknown>"


def _node_status(obj: dict[str, Any]) -> str:
    words = []
    for each in (obj.get("status") or {}).get("conditions") or ():
        if each.get("type") == "Ready":
            words.append("Ready" if each.get("status") == "True" else "NotReady")
    words = words or ["Unknown"]
    if (obj.get("spec") or {}).get("unschedulable"):
        words.append("SchedulingDisabled")
    return ",".join(words)


def _roles(obj: dict[str, Any]) -> str:
    roles = set()
    for key, value in ((obj.get("metadata") or {}).get("labels") or {}).items():
        if key.startswith(_ROLE_PREFIX) and len(key) > len(_ROLE_PREFIX):
            roles.add(key.removeprefix(_ROLE_PREFIX))
        elif key == _ROLE_LABEL and value:
            roles.add(value)
    return ",".join(sorted(roles)) or NONE


def _node(obj: dict[str, Any], now: float) -> list[Any]:
    status = obj.get("status") or {}
    info = status.get("nodeInfo") or {}
    addresses: dict[str, str] = {}
    for each in status.get("addresses") or ():
        addresses.setdefault(each.get("type", ""), each.get("address", ""))
    return [
        name(obj),
        _node_status(obj),
        _roles(obj),
        age.of(obj, now),
        info.get("kubeletVersion", ""),
        addresses.get("InternalIP") or NONE,
        addresses.get("ExternalIP") or NONE,
        info.get("osImage") or UNKNOWN,
        info.get("kernelVersion") or UNKNOWN,
        info.get("containerRuntimeVersion") or UNKNOWN,
    ]


def _namespace(obj: dict[str, Any], now: float) -> list[Any]:
    return [name(obj), (obj.get("status") or {}).get("phase", ""), age.of(obj, now)]


def _event_object(about: dict[str, Any]) -> str:
    kind = (about.get("kind") or "").lower()
    return f"{kind}/{about.get('name', '')}" if about.get("name") else kind


def _event(obj: dict[str, Any], now: float) -> list[Any]:
    """Both kinds of events; an event without count and times of its own has those of its series or its making."""
    about = obj.get("involvedObject") or obj.get("regarding") or {}
    source = obj.get("source") or obj.get("deprecatedSource") or {}
    series = obj.get("series") or {}
    first = obj.get("firstTimestamp") or obj.get("deprecatedFirstTimestamp") or obj.get("eventTime")
    last = obj.get("lastTimestamp") or obj.get("deprecatedLastTimestamp") or first
    count = obj.get("count") or obj.get("deprecatedCount") or 1
    if series:
        last = series.get("lastObservedTime") or last
        count = series.get("count") or count
    component = (
        source.get("component") or obj.get("reportingComponent") or obj.get("reportingController") or ""
    )
    host = source.get("host") or ""
    return [
        age.since(last, now),
        obj.get("type", ""),
        obj.get("reason", ""),
        _event_object(about),
        about.get("fieldPath", ""),
        f"{component}, {host}" if host else component,
        (obj.get("message") or obj.get("note") or "").strip(),
        age.since(first, now),
        count,
        name(obj),
    ]


def _config_map(obj: dict[str, Any], now: float) -> list[Any]:
    return [name(obj), len(obj.get("data") or ()) + len(obj.get("binaryData") or ()), age.of(obj, now)]


def _secret(obj: dict[str, Any], now: float) -> list[Any]:
    return [name(obj), obj.get("type", ""), len(obj.get("data") or ()), age.of(obj, now)]


def _service_account(obj: dict[str, Any], now: float) -> list[Any]:
    return [name(obj), len(obj.get("secrets") or ()), age.of(obj, now)]


def _lease(obj: dict[str, Any], now: float) -> list[Any]:
    return [name(obj), (obj.get("spec") or {}).get("holderIdentity") or "", age.of(obj, now)]


def _named_at(obj: dict[str, Any], now: float) -> list[Any]:
    return [name(obj), created(obj)]


def _binding(obj: dict[str, Any], now: float) -> list[Any]:
    ref = obj.get("roleRef") or {}
    users, groups, accounts = [], [], []
    for subject in obj.get("subjects") or ():
        who = subject.get("name", "")
        if subject.get("kind") == "ServiceAccount":
            accounts.append(f"{subject.get('namespace', '')}/{who}")
        elif subject.get("kind") == "Group":
            groups.append(who)
        else:
            users.append(who)
    lists = [", ".join(each) for each in (users, groups, accounts)]
    return [name(obj), f"{ref.get('kind', '')}/{ref.get('name', '')}", age.of(obj, now), *lists]


def _quota(obj: dict[str, Any], now: float) -> list[Any]:
    status = obj.get("status") or {}
    hard, used = status.get("hard") or {}, status.get("used") or {}
    requests: list[str] = []
    limits: list[str] = []
    for key in sorted(hard):
        shown = f"{key}: {used.get(key, '0')}/{hard[key]}"
        (limits if key.startswith("limits.") else requests).append(shown)
    return [name(obj), ", ".join(requests), ", ".join(limits), age.of(obj, now)]


def _priority_class(obj: dict[str, Any], now: float) -> list[Any]:
    policy = obj.get("preemptionPolicy") or "PreemptLowerPriority"
    return [name(obj), obj.get("value", 0), bool(obj.get("globalDefault")), age.of(obj, now), policy]


def _signing_request(obj: dict[str, Any], now: float) -> list[Any]:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    kinds = [each.get("type") for each in status.get("conditions") or ()]
    words = [kind for kind in ("Approved", "Denied", "Failed") if kind in kinds] or ["Pending"]
    if status.get("certificate"):
        words.append("Issued")
    seconds = spec.get("expirationSeconds")
    duration = NONE if seconds is None else age.human(seconds)
    user = spec.get("username", "")
    return [name(obj), age.of(obj, now), spec.get("signerName") or NONE, user, duration, ",".join(words)]


def _webhooks(obj: dict[str, Any], now: float) -> list[Any]:
    return [name(obj), len(obj.get("webhooks") or ()), age.of(obj, now)]


def _admission_policy(obj: dict[str, Any], now: float) -> list[Any]:
    spec = obj.get("spec") or {}
    kind = spec.get("paramKind")
    shown = f"{kind.get('apiVersion', '')}/{kind.get('kind', '')}" if kind else UNSET_VALUE
    rules = spec.get("validations") or spec.get("mutations") or ()
    return [name(obj), len(rules), shown, age.of(obj, now)]


def _admission_policy_binding(obj: dict[str, Any], now: float) -> list[Any]:
    spec = obj.get("spec") or {}
    ref = spec.get("paramRef") or {}
    owner = ref.get("name") or ""
    shown = (f"{ref['namespace']}/{owner}" if ref.get("namespace") else owner) or UNSET_VALUE
    return [name(obj), spec.get("policyName", ""), shown, age.of(obj, now)]


UNSET_VALUE = "<unset>"


def _runtime_class(obj: dict[str, Any], now: float) -> list[Any]:
    return [name(obj), obj.get("handler", ""), age.of(obj, now)]


def _flow_schema(obj: dict[str, Any], now: float) -> list[Any]:
    spec = obj.get("spec") or {}
    missing = "?"
    for each in (obj.get("status") or {}).get("conditions") or ():
        if each.get("type") == "Dangling":
            missing = each.get("status", "?")
    method = (spec.get("distinguisherMethod") or {}).get("type") or NONE
    level = (spec.get("priorityLevelConfiguration") or {}).get("name", "")
    return [name(obj), level, spec.get("matchingPrecedence", 0), method, age.of(obj, now), missing]


def _priority_level(obj: dict[str, Any], now: float) -> list[Any]:
    spec = obj.get("spec") or {}
    limited = spec.get("limited") or spec.get("exempt") or {}
    queuing = (limited.get("limitResponse") or {}).get("queuing") or {}
    numbers = [
        str(queuing[key]) if key in queuing else NONE for key in ("queues", "handSize", "queueLengthLimit")
    ]
    shares = str(limited.get("nominalConcurrencyShares", NONE))
    return [name(obj), spec.get("type", ""), shares, *numbers, age.of(obj, now)]


def _api_service(obj: dict[str, Any], now: float) -> list[Any]:
    service = (obj.get("spec") or {}).get("service")
    where = f"{service.get('namespace', '')}/{service.get('name', '')}" if service else "Local"
    shown = "Unknown"
    for each in (obj.get("status") or {}).get("conditions") or ():
        if each.get("type") == "Available":
            shown = each.get("status", "Unknown")
            if shown == "False" and each.get("reason"):
                shown = f"False ({each['reason']})"
    return [name(obj), where, shown, age.of(obj, now)]


def _component(obj: dict[str, Any], now: float) -> list[Any]:
    for each in obj.get("conditions") or ():
        if each.get("type") == "Healthy":
            word = {"True": "Healthy", "False": "Unhealthy"}.get(each.get("status", ""), "Unknown")
            return [name(obj), word, each.get("message", ""), each.get("error", "")]
    return [name(obj), "Unknown", "", ""]


_WEBHOOKS = Printer(
    (NAME, column("Webhooks", "integer", about="How many webhooks it names."), AGE), _webhooks
)
_BINDING = Printer(
    (
        NAME,
        column("Role", about="What is granted."),
        AGE,
        column("Users", wide=True, about="Users it is granted to."),
        column("Groups", wide=True, about="Groups it is granted to."),
        column("ServiceAccounts", wide=True, about="Service accounts it is granted to."),
    ),
    _binding,
)
_EVENT = Printer(
    (
        column("Last Seen", about="Time since it happened last."),
        column("Type", about="Normal or Warning."),
        column("Reason", about="What happened, in one word."),
        column("Object", about="What it happened to."),
        column("Subobject", wide=True, about="Which part of it."),
        column("Source", wide=True, about="Who says so."),
        column("Message", about="What happened, in a sentence."),
        column("First Seen", wide=True, about="Time since it happened first."),
        column("Count", wide=True, about="How often it happened."),
        {**NAME, "priority": 1},
    ),
    _event,
)
_NODE = Printer(
    (
        NAME,
        column("Status", about="Whether the node takes pods."),
        column("Roles", about="What the node is for."),
        AGE,
        column("Version", about="Version of its node agent."),
        column("Internal-IP", wide=True, about="Its address inside the cluster."),
        column("External-IP", wide=True, about="Its address outside the cluster."),
        column("OS-Image", wide=True, about="Its operating system."),
        column("Kernel-Version", wide=True, about="Its kernel."),
        column("Container-Runtime", wide=True, about="What runs its containers."),
    ),
    _node,
)
_RBAC = "rbac.authorization.k8s.io"
_ADMISSION = "admissionregistration.k8s.io"
_FLOW = "flowcontrol.apiserver.k8s.io"
_NAMED_AT = Printer((NAME, CREATED), _named_at)

PRINTERS = {
    ("", "nodes"): _NODE,
    ("", "namespaces"): Printer((NAME, column("Status", about="Active or Terminating."), AGE), _namespace),
    ("", "events"): _EVENT,
    ("events.k8s.io", "events"): _EVENT,
    ("", "configmaps"): Printer((NAME, column("Data", about="How many entries it has."), AGE), _config_map),
    ("", "secrets"): Printer(
        (
            NAME,
            column("Type", about="What the secret is for."),
            column("Data", about="How many entries it has."),
            AGE,
        ),
        _secret,
    ),
    ("", "serviceaccounts"): Printer(
        (NAME, column("Secrets", about="How many secrets it names."), AGE), _service_account
    ),
    ("", "limitranges"): _NAMED_AT,
    ("", "resourcequotas"): Printer(
        (
            NAME,
            column("Request", about="Requests: used and allowed."),
            column("Limit", about="Limits: used and allowed."),
            AGE,
        ),
        _quota,
    ),
    ("", "componentstatuses"): Printer(
        (NAME, column("Status"), column("Message"), column("Error")), _component
    ),
    ("coordination.k8s.io", "leases"): Printer((NAME, column("Holder", about="Who holds it."), AGE), _lease),
    (_RBAC, "roles"): _NAMED_AT,
    (_RBAC, "clusterroles"): _NAMED_AT,
    (_RBAC, "rolebindings"): _BINDING,
    (_RBAC, "clusterrolebindings"): _BINDING,
    ("apiextensions.k8s.io", "customresourcedefinitions"): _NAMED_AT,
    ("scheduling.k8s.io", "priorityclasses"): Printer(
        (
            NAME,
            column("Value", "integer", about="The priority."),
            column("Global-Default", "boolean", about="Whether pods without a class get it."),
            AGE,
            column("PreemptionPolicy", about="Whether its pods may push others out."),
        ),
        _priority_class,
    ),
    ("certificates.k8s.io", "certificatesigningrequests"): Printer(
        (
            NAME,
            AGE,
            column("SignerName", about="Who is asked to sign."),
            column("Requestor", about="Who asks."),
            column("RequestedDuration", about="For how long."),
            column("Condition", about="What became of it."),
        ),
        _signing_request,
    ),
    (_ADMISSION, "mutatingwebhookconfigurations"): _WEBHOOKS,
    (_ADMISSION, "validatingwebhookconfigurations"): _WEBHOOKS,
    (_ADMISSION, "mutatingadmissionpolicies"): Printer(
        (NAME, column("Mutations", "integer"), column("ParamKind"), AGE), _admission_policy
    ),
    (_ADMISSION, "mutatingadmissionpolicybindings"): Printer(
        (NAME, column("PolicyName"), column("ParamRef"), AGE), _admission_policy_binding
    ),
    (_ADMISSION, "validatingadmissionpolicies"): Printer(
        (NAME, column("Validations", "integer"), column("ParamKind"), AGE), _admission_policy
    ),
    (_ADMISSION, "validatingadmissionpolicybindings"): Printer(
        (NAME, column("PolicyName"), column("ParamRef"), AGE), _admission_policy_binding
    ),
    ("node.k8s.io", "runtimeclasses"): Printer(
        (NAME, column("Handler", about="What the runtime calls it."), AGE), _runtime_class
    ),
    (_FLOW, "flowschemas"): Printer(
        (
            NAME,
            column("PriorityLevel"),
            column("MatchingPrecedence", "integer"),
            column("DistinguisherMethod"),
            AGE,
            column("MissingPL"),
        ),
        _flow_schema,
    ),
    (_FLOW, "prioritylevelconfigurations"): Printer(
        (
            NAME,
            column("Type"),
            column("NominalConcurrencyShares"),
            column("Queues"),
            column("HandSize"),
            column("QueueLengthLimit"),
            AGE,
        ),
        _priority_level,
    ),
    ("apiregistration.k8s.io", "apiservices"): Printer(
        (NAME, column("Service", about="Who serves it."), column("Available"), AGE), _api_service
    ),
}
