"""The metrics, as the table that serves them has them."""

from __future__ import annotations

from docs.reference.tables import table
from noria.engine.metrics import METRICS, Kind, Label, Metric

HEAD = """# Metrics

Made from the table that `/metrics` is served from. How to have them scraped, and the dashboard
and alerts that come with Noria: [watch a job](../how-to/watch.md).

All names are in base units; counters end in `_total`. No label ever holds an object's name: each
has the values that the second table lists, and "other".

There are also `noria_job_info`, whose label `job_id` is the job's, `noria_build_info` with the
version, and the driver's own `process_*`. While a job is planned there are its phase and its
version alone.

"""


def metrics_page() -> str:
    """The text of reference/metrics.md."""
    rows = [
        (
            f"`{shown_name(metric)}`",
            metric.kind.value,
            ", ".join(f"`{label.name}`" for label in metric.labels),
            metric.help,
        )
        for metric in METRICS
    ]
    labels: dict[Label, list[str]] = {}
    for metric in METRICS:
        for label in metric.labels:
            labels.setdefault(label, []).append(f"`{shown_name(metric)}`")
    values = [
        (
            f"`{label.name}`",
            ", ".join(names),
            "the hosts that run workers"
            if label.values is None
            else ", ".join(f"`{value}`" for value in label.values),
        )
        for label, names in labels.items()
    ]
    return (
        HEAD
        + table(("metric", "kind", "labels", "meaning"), rows)
        + "\n## Labels\n\n"
        + table(("label", "of", "values"), values)
    )


def shown_name(metric: Metric) -> str:
    """The name under which Prometheus has it."""
    return metric.name + ("_total" if metric.kind is Kind.COUNTER else "")
