"""``/metrics/resource``: the few figures that metrics-server reads. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from bamikube.nodeagent.stats.exposition import Exposition
from bamikube.nodeagent.stats.groups import Figures
from bamikube.nodeagent.stats.sampler import NODE, Sample

_CPU = "[STABLE] Cumulative cpu time consumed by the {} in core-seconds"
_MEMORY = "[STABLE] Current working set of the {} in bytes"
_SWAP = "[ALPHA] Current swap usage of the {} in bytes. Reported only on non-windows systems"
_CONTAINER_SWAP = (
    "[ALPHA] Current amount of the container swap {} in bytes. Reported only on non-windows systems"
)
_STARTED = "[STABLE] Start time of the container since unix epoch in seconds"
_FAILED = "[STABLE] 1 if there was an error while getting container metrics, 0 otherwise"


def resource_metrics(sample: Sample) -> bytes:
    """The text of the page."""
    out = Exposition()
    if (node := sample.figures.get(NODE)) is not None:
        _use(out, "node", {}, node)
        memory = sample.memory
        swap = memory.get("SwapTotal", 0) - memory.get("SwapFree", 0)
        out.add("node_swap_usage_bytes", "gauge", _SWAP.format("node"), {}, swap, sample.time)
    for subject in sample.subjects:
        pod = {"namespace": subject.namespace, "pod": subject.name}
        if (figures := sample.figures.get(subject.group)) is not None:
            _use(out, "pod", pod, figures)
            out.add("pod_swap_usage_bytes", "gauge", _SWAP.format("pod"), pod, figures.swap, figures.time)
        for member in subject.members:
            labels = {"container": member.container.name, **pod}
            started = member.container.started_at or member.container.created_at
            if (figures := sample.figures.get(member.group)) is None:
                continue
            _use(out, "container", labels, figures)
            limit = max(0, figures.swap_limit - figures.limit)
            for name, text, value in (
                ("container_swap_usage_bytes", "usage", figures.swap),
                ("container_swap_limit_bytes", "limit", limit),
            ):
                out.add(name, "gauge", _CONTAINER_SWAP.format(text), labels, value, figures.time)
            out.add("container_start_time_seconds", "gauge", _STARTED, labels, started)
    out.add("resource_scrape_error", "gauge", _FAILED, {}, float(sample.failed))
    return out.text()


def _use(out: Exposition, what: str, labels: Mapping[str, str], figures: Figures) -> None:
    cpu, memory = f"{what}_cpu_usage_seconds_total", f"{what}_memory_working_set_bytes"
    out.add(cpu, "counter", _CPU.format(what), labels, figures.cpu / 1e9, figures.time)
    out.add(memory, "gauge", _MEMORY.format(what), labels, figures.working_set, figures.time)
