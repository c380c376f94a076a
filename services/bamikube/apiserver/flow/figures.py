"""What flow control counts, under Kubernetes' names."""

from __future__ import annotations

from prometheus_client import Gauge

from bamikube.kit.metrics import REGISTRY
from bamikube.kit.tallies import Counters, Histograms

_FLOW = ("flow_schema", "priority_level")
_WAITS = (0, 0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30)

DISPATCHED = Counters(
    "apiserver_flowcontrol_dispatched_requests",
    "Number of requests executed by API Priority and Fairness subsystem",
    _FLOW,
)
REJECTED = Counters(
    "apiserver_flowcontrol_rejected_requests",
    "Number of requests rejected by API Priority and Fairness subsystem",
    (*_FLOW, "reason"),
)
WAITED = Histograms(
    "apiserver_flowcontrol_request_wait_duration_seconds",
    "Length of time a request spent waiting in its queue",
    (*_FLOW, "execute"),
    _WAITS,
)
RUNNING = Gauge(
    "apiserver_flowcontrol_current_executing_requests",
    "Number of requests in initial (for a WATCH) or any (for a non-WATCH) execution stage in the API Priority and "
    "Fairness subsystem",
    _FLOW,
    registry=REGISTRY,
)
WAITING = Gauge(
    "apiserver_flowcontrol_current_inqueue_requests",
    "Number of requests currently pending in queues of the API Priority and Fairness subsystem",
    _FLOW,
    registry=REGISTRY,
)
_LEVEL = ["priority_level"]
EXECUTING = Gauge(
    "apiserver_flowcontrol_current_executing_seats",
    "Concurrency (number of seats) occupied by the currently executing (initial stage for a WATCH, any stage otherwise) "
    "requests in the API Priority and Fairness subsystem",
    _LEVEL,
    registry=REGISTRY,
)
NOMINAL = Gauge(
    "apiserver_flowcontrol_nominal_limit_seats",
    "Nominal number of execution seats configured for each priority level",
    _LEVEL,
    registry=REGISTRY,
)
LOWER = Gauge(
    "apiserver_flowcontrol_lower_limit_seats",
    "Configured lower bound on number of execution seats available to each priority level",
    _LEVEL,
    registry=REGISTRY,
)
UPPER = Gauge(
    "apiserver_flowcontrol_upper_limit_seats",
    "Configured upper bound on number of execution seats available to each priority level",
    _LEVEL,
    registry=REGISTRY,
)
CURRENT = Gauge(
    "apiserver_flowcontrol_current_limit_seats",
    "current derived number of execution seats available to each priority level",
    _LEVEL,
    registry=REGISTRY,
)
