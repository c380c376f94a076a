"""Rows of nodes, namespaces, events, configuration, leases, roles and requests for certificates."""

from __future__ import annotations

from typing import Any

from bamikube.api.columns import age
from bamikube.api.columns.model import AGE, CREATED, NAME, NONE, Printer, column, created, name

_ROLE_PREFIX = "node-role.kubernetes.io/"
_ROLE_LABEL = "kubernetes.io/role"
UNKNOWN = "<unknown>"


def _node_status(obj: dict[str, Any]) -> str:
    words = ["Unknown"]
    for each in (obj.get("status") or {}).get("conditions") or ():
        if each.get("type") == "Ready":
            words = ["Ready" if each.get("status") == "True" else "NotReady"]
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
        addresses.get("InternalIP", NONE),
        addresses.get("ExternalIP", NONE),
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
        last, count = series.get("lastObservedTime"), series.get("count", 0)
    component = (
        source.get("component") or obj.get("reportingComponent") or obj.get("reportingController") or ""
    )
    host = source.get("host") or obj.get("reportingInstance") or ""
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
    kinds = {each.get("type") for each in status.get("conditions") or ()}
    words = ["Denied" if "Denied" in kinds else "Approved" if "Approved" in kinds else "Pending"]
    if "Failed" in kinds:
        words.append("Failed")
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
    shown = UNSET_VALUE
    if ref.get("name"):
        shown = f"{ref.get('namespace') or '*'}/{ref['name']}"
    elif ref.get("selector") is not None:
        shown = _go_selector(ref["selector"])
    return [name(obj), spec.get("policyName", ""), shown, age.of(obj, now)]


def _go_selector(selector: dict[str, Any]) -> str:
    """A label selector as Go's generated code prints the struct."""
    labels = selector.get("matchLabels") or {}
    pairs = "".join(f"{key}: {labels[key]}," for key in sorted(labels))
    expressions = "".join(
        f"LabelSelectorRequirement{{Key:{each.get('key', '')},Operator:{each.get('operator', '')},"
        f"Values:[{' '.join(each.get('values') or ())}],}},"
        for each in selector.get("matchExpressions") or ()
    )
    return (
        f"&LabelSelector{{MatchLabels:map[string]string{{{pairs}}},"
        f"MatchExpressions:[]LabelSelectorRequirement{{{expressions}}},}}"
    )


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
    limited = spec.get("limited") or {}
    queuing = (limited.get("limitResponse") or {}).get("queuing")
    fields = ("queues", "handSize", "queueLengthLimit")
    numbers = [NONE if queuing is None else queuing.get(field, 0) for field in fields]
    shares = limited.get("nominalConcurrencyShares", NONE)
    return [name(obj), spec.get("type", ""), shares, *numbers, age.of(obj, now)]


def _api_service(obj: dict[str, Any], now: float) -> list[Any]:
    service = (obj.get("spec") or {}).get("service")
    where = f"{service.get('namespace', '')}/{service.get('name', '')}" if service else "Local"
    shown = "Unknown"
    for each in (obj.get("status") or {}).get("conditions") or ():
        if each.get("type") == "Available":
            shown = each.get("status", "Unknown")
            if shown != "True" and each.get("reason"):
                shown = f"{shown} ({each['reason']})"
    return [name(obj), where, shown, age.of(obj, now)]


def _component(obj: dict[str, Any], now: float) -> list[Any]:
    for each in obj.get("conditions") or ():
        if each.get("type") == "Healthy":
            word = "Healthy" if each.get("status") == "True" else "Unhealthy"
            return [name(obj), word, each.get("message", ""), each.get("error", "")]
    return [name(obj), "Unknown", "", ""]


def _precedence(obj: dict[str, Any]) -> tuple[int, str]:
    return (obj.get("spec") or {}).get("matchingPrecedence", 0), name(obj)


_WEBHOOKS = Printer(
    (
        NAME,
        column(
            "Webhooks",
            "integer",
            about="Webhooks indicates the number of webhooks registered in this configuration",
        ),
        AGE,
    ),
    _webhooks,
)


def _bindings(kind: str, shown: str) -> Printer:
    return Printer(
        (
            NAME,
            column("Role", about=f"=rbac.v1.{kind}.roleRef"),
            AGE,
            column("Users", wide=True, about=f"Users in the {shown}"),
            column("Groups", wide=True, about=f"Groups in the {shown}"),
            column("ServiceAccounts", wide=True, about=f"ServiceAccounts in the {shown}"),
        ),
        _binding,
    )


_EVENT = Printer(
    (
        column("Last Seen", about="=core.v1.Event.lastTimestamp"),
        column("Type", about="=core.v1.Event.type"),
        column("Reason", about="=core.v1.Event.reason"),
        column("Object", about="=core.v1.Event.involvedObject"),
        column("Subobject", wide=True, about="=core.v1.ObjectReference.fieldPath"),
        column("Source", wide=True, about="=core.v1.Event.source"),
        column("Message", about="=core.v1.Event.message"),
        column("First Seen", wide=True, about="=core.v1.Event.firstTimestamp"),
        column("Count", wide=True, about="=core.v1.Event.count"),
        {**NAME, "priority": 1},
    ),
    _event,
)
_INFO = "core.v1.NodeSystemInfo"
_NODE = Printer(
    (
        NAME,
        column("Status", about="The status of the node"),
        column("Roles", about="The roles of the node"),
        AGE,
        column("Version", about=f"={_INFO}.kubeletVersion"),
        column("Internal-IP", wide=True, about="=core.v1.NodeStatus.addresses"),
        column("External-IP", wide=True, about="=core.v1.NodeStatus.addresses"),
        column("OS-Image", wide=True, about=f"={_INFO}.osImage"),
        column("Kernel-Version", wide=True, about=f"={_INFO}.kernelVersion"),
        column("Container-Runtime", wide=True, about=f"={_INFO}.containerRuntimeVersion"),
    ),
    _node,
)
_POLICY_BINDING = Printer(
    (
        NAME,
        column(
            "PolicyName",
            about="PolicyName indicates the policy definition which the policy binding binded to",
        ),
        column("ParamRef", about="ParamRef indicates the param resource which sets the configration param"),
        AGE,
    ),
    _admission_policy_binding,
)


def _policies(column_: str, about: str) -> Printer:
    kind = "ParamKind specifies the kind of resources used to parameterize this policy"
    shown = (NAME, column(column_, "integer", about=about), column("ParamKind", about=kind), AGE)
    return Printer(shown, _admission_policy)


_RBAC = "rbac.authorization.k8s.io"
_ADMISSION = "admissionregistration.k8s.io"
_FLOW = "flowcontrol.apiserver.k8s.io"
_SIGNING = "certificates.v1.CertificateSigningRequestSpec"
_PRIORITY, _QUEUING = "scheduling.v1.PriorityClass", "flowcontrol.v1.QueuingConfiguration"
_LIMITED = "flowcontrol.v1.LimitedPriorityLevelConfiguration"
_NAMED_AT = Printer((NAME, CREATED), _named_at)

PRINTERS = {
    ("", "nodes"): _NODE,
    ("", "namespaces"): Printer(
        (NAME, column("Status", about="The status of the namespace"), AGE), _namespace
    ),
    ("", "events"): _EVENT,
    ("events.k8s.io", "events"): _EVENT,
    ("", "configmaps"): Printer((NAME, column("Data", about="=core.v1.ConfigMap.data"), AGE), _config_map),
    ("", "secrets"): Printer(
        (
            NAME,
            column("Type", about="=core.v1.Secret.type"),
            column("Data", about="=core.v1.Secret.data"),
            AGE,
        ),
        _secret,
    ),
    ("", "serviceaccounts"): Printer(
        (NAME, column("Secrets", about="=core.v1.ServiceAccount.secrets"), AGE), _service_account
    ),
    ("", "limitranges"): _NAMED_AT,
    ("", "resourcequotas"): Printer(
        (
            NAME,
            column(
                "Request",
                about="Request represents a minimum amount of cpu/memory that a container may consume.",
            ),
            column(
                "Limit",
                about="Limits control the maximum amount of cpu/memory that a container may use independent of "
                "contention on the node.",
            ),
            AGE,
        ),
        _quota,
    ),
    ("", "componentstatuses"): Printer(
        (
            NAME,
            column("Status", about="Status of the component conditions"),
            column("Message", about="Message of the component conditions"),
            column("Error", about="Error of the component conditions"),
        ),
        _component,
    ),
    ("coordination.k8s.io", "leases"): Printer(
        (NAME, column("Holder", about="=coordination.v1.LeaseSpec.holderIdentity"), AGE), _lease
    ),
    (_RBAC, "roles"): _NAMED_AT,
    (_RBAC, "clusterroles"): _NAMED_AT,
    (_RBAC, "rolebindings"): _bindings("RoleBinding", "roleBinding"),
    (_RBAC, "clusterrolebindings"): _bindings("ClusterRoleBinding", "clusterRoleBinding"),
    ("apiextensions.k8s.io", "customresourcedefinitions"): _NAMED_AT,
    ("scheduling.k8s.io", "priorityclasses"): Printer(
        (
            NAME,
            column("Value", "integer", about=f"={_PRIORITY}.value"),
            column("Global-Default", "boolean", about=f"={_PRIORITY}.globalDefault"),
            AGE,
            column("PreemptionPolicy", about=f"={_PRIORITY}.preemptionPolicy"),
        ),
        _priority_class,
    ),
    ("certificates.k8s.io", "certificatesigningrequests"): Printer(
        (
            NAME,
            AGE,
            column("SignerName", about=f"={_SIGNING}.signerName"),
            column("Requestor", about=f"={_SIGNING}.request"),
            column("RequestedDuration", about=f"={_SIGNING}.expirationSeconds"),
            column("Condition", about="=certificates.v1.CertificateSigningRequestStatus.conditions"),
        ),
        _signing_request,
    ),
    ("certificates.k8s.io", "clustertrustbundles"): Printer(
        (NAME, column("SignerName", about="=certificates.v1beta1.ClusterTrustBundleSpec.signerName")),
        lambda obj, now: [name(obj), (obj.get("spec") or {}).get("signerName") or NONE],
    ),
    (_ADMISSION, "mutatingwebhookconfigurations"): _WEBHOOKS,
    (_ADMISSION, "validatingwebhookconfigurations"): _WEBHOOKS,
    (_ADMISSION, "mutatingadmissionpolicies"): _policies(
        "Mutations", "Mutation indicates the number of mutations rules defined in this configuration"
    ),
    (_ADMISSION, "mutatingadmissionpolicybindings"): _POLICY_BINDING,
    (_ADMISSION, "validatingadmissionpolicies"): _policies(
        "Validations", "Validations indicates the number of validation rules defined in this configuration"
    ),
    (_ADMISSION, "validatingadmissionpolicybindings"): _POLICY_BINDING,
    ("node.k8s.io", "runtimeclasses"): Printer((NAME, column("Handler"), AGE), _runtime_class),
    (_FLOW, "flowschemas"): Printer(
        (
            NAME,
            column("PriorityLevel", about="=flowcontrol.v1.PriorityLevelConfigurationReference.name"),
            column("MatchingPrecedence", about="=flowcontrol.v1.FlowSchemaSpec.matchingPrecedence"),
            column("DistinguisherMethod", about="=flowcontrol.v1.FlowSchemaSpec.distinguisherMethod"),
            AGE,
            column("MissingPL", about="references a broken or non-existent PriorityLevelConfiguration"),
        ),
        _flow_schema,
        order=_precedence,
    ),
    (_FLOW, "prioritylevelconfigurations"): Printer(
        (
            NAME,
            column("Type", about="=flowcontrol.v1.PriorityLevelConfigurationSpec.type"),
            column("NominalConcurrencyShares", about=f"={_LIMITED}.nominalConcurrencyShares"),
            column("Queues", about=f"={_QUEUING}.queues"),
            column("HandSize", about=f"={_QUEUING}.handSize"),
            column("QueueLengthLimit", about=f"={_QUEUING}.queueLengthLimit"),
            AGE,
        ),
        _priority_level,
    ),
    ("apiregistration.k8s.io", "apiservices"): Printer(
        (
            NAME,
            column("Service", about="The reference to the service that hosts this API endpoint."),
            column("Available", about="Whether this service is available."),
            AGE,
        ),
        _api_service,
    ),
}
