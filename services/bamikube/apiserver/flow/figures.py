"""What flow control counts, under Kubernetes' names."""

from __future__ import annotations

from prometheus_client import Counter, Gauge

from bamikube.kit.metrics import REGISTRY

DISPATCHED = Counter(
    "apiserver_flowcontrol_dispatched_requests",
    "Number of requests executed by API Priority and Fairness subsystem",
    ["flow_schema", "priority_level"],
    registry=REGISTRY,
)
REJECTED = Counter(
    "apiserver_flowcontrol_rejected_requests",
    "Number of requests rejected by API Priority and Fairness subsystem",
    ["priority_level", "reason"],
    registry=REGISTRY,
)
EXECUTING = Gauge(
    "apiserver_flowcontrol_current_executing_seats",
    "Concurrency (number of seats) occupied by the currently executing requests",
    ["priority_level"],
    registry=REGISTRY,
)
WAITING = Gauge(
    "apiserver_flowcontrol_current_inqueue_requests",
    "Number of requests currently pending in queues",
    ["priority_level"],
    registry=REGISTRY,
)
NOMINAL = Gauge(
    "apiserver_flowcontrol_nominal_limit_seats",
    "Nominal number of execution seats configured for each priority level",
    ["priority_level"],
    registry=REGISTRY,
)
