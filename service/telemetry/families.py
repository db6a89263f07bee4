"""The metric families: names, labels, buckets and what each means. One place, so that the documentation can be checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar, cast

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.metrics import MetricWrapperBase

from hoverboard.telemetry.sampling import Sampler
from hoverboard.telemetry.tally import BulkHistogram

__all__ = ["SECONDS", "SIZES", "Families", "Labelled", "Uncounted"]

SECONDS: Final = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
SIZES: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)

log = structlog.get_logger(__name__)

_lines = Sampler(1)

F = TypeVar("F", bound=MetricWrapperBase)


@dataclass(frozen=True, slots=True)
class Labelled(Generic[F]):
    """A family whose children are found in a plain dict, several times quicker than `family.labels(...)`."""

    family: F
    children: dict[tuple[str, ...], F] = field(default_factory=dict)

    def __call__(self, *labels: str) -> F:
        child = self.children.get(labels)
        if child is None:
            try:
                child = self.children[labels] = self.family.labels(*labels) if labels else self.family
            except OSError as reason:
                # No room on the disk, no descriptor left: counting is not worth a call. It is tried again next time.
                return cast(F, _uncounted(reason))
        return child


class Uncounted:
    """Stands in for a child that cannot be made."""

    def inc(self, _amount: float = 1) -> None:
        """Count nothing."""

    def set(self, _value: float) -> None:
        """Say nothing."""

    def observe(self, _amount: float) -> None:
        """Observe nothing."""

    def add(self, _counts: Sequence[int], _total: float) -> None:
        """Observe nothing."""


def _uncounted(reason: OSError) -> Uncounted:
    left_out = _lines.next()
    if left_out is not None:
        log.error("metric_not_counted", reason=reason.strerror, left_out=left_out)
    return Uncounted()


class Families:
    """Every family, made anew for each `init`.

    Args:
        registry: where they report to; None in multi-process mode, where files are collected instead.
    """

    def __init__(self, registry: CollectorRegistry | None) -> None:
        def counter(name: str, text: str, *labels: str) -> Labelled[Counter]:
            return Labelled(Counter(f"hoverboard_{name}", text, labels, registry=registry))

        def histogram(name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Labelled[BulkHistogram]:
            return Labelled(BulkHistogram(f"hoverboard_{name}", text, labels, registry=registry, buckets=buckets))

        def gauge(name: str, text: str, *labels: str, mode: Any = "livesum") -> Labelled[Gauge]:
            return Labelled(Gauge(f"hoverboard_{name}", text, labels, registry=registry, multiprocess_mode=mode))

        self.calls = counter(
            "calls_total",
            "JSON-RPC calls answered, by the version and role that answered; code 0 is success, -32800 a caller that has gone",
            "method",
            "model",
            "version",
            "role",
            "code",
        )
        self.call_seconds = histogram(
            "call_seconds",
            "Seconds from a call's arrival to its answer, in the api process; the labels are those of hoverboard_calls_total",
            SECONDS,
            "method",
            "model",
            "version",
            "role",
            "code",
        )
        self.violations = counter(
            "contract_violations_total",
            "Predict calls refused because a sample broke the model's contract, by the input at fault and how it was broken",
            "model",
            "input",
            "kind",
        )
        self.in_flight = gauge("in_flight_calls", "Calls that wait for an answer, over all api processes")
        self.queue_depth = gauge("queue_depth", "Samples waiting in the engine for a batch", "model")
        self.queue_seconds = gauge("queue_predicted_seconds", "Predicted seconds of work in the engine's queue")
        self.batch_size = histogram("batch_size", "Samples in one executed batch", SIZES, "model")
        self.execution_seconds = histogram(
            "execution_seconds",
            "Seconds one batch took to execute, by batch bucket",
            SECONDS,
            "model",
            "version",
            "bucket",
        )
        self.loads = counter(
            "loads_total",
            "Loads of model versions: the outcome is ok, unloaded, or the check that refused the version; machine where the "
            "machine was at fault and it is tried again",
            "model",
            "version",
            "outcome",
        )
        self.retraces = counter(
            "retraces_total",
            "Graphs traced again after a version was ready; anything above 0 is a defect of the service",
            "model",
            "version",
        )
        self.dropped = counter(
            "dropped_calls_total",
            "Predict calls that never ran: refused on arrival, expired or cancelled while they waited",
            "model",
            "why",
        )
        self.shed = counter(
            "journal_shed_records_total",
            "Records that were dropped before the journal, because of its budget or a full disk; the table gaps counts them, too",
            "model",
            "reason",
        )
        self.restarts = counter("child_restarts_total", "Child processes started again after they died", "child")
        self.live_version = gauge(
            "live_version",
            "Number of the version that fills a role; 0 where nothing does",
            "model",
            "role",
            mode="livemax",
        )
        self.memory_bytes = gauge(
            "model_memory_bytes",
            "Bytes of memory that a version's weights take; 0 once unloaded",
            "model",
            "version",
        )
        self.recorder_connected = gauge(
            "recorder_connected",
            "1 while the recorder is connected to Postgres; 0 while Postgres is away, or has not answered for 10 s",
        )
        self.recorder_lag_rows = gauge("recorder_lag_rows", "Journaled records that are not in Postgres yet")
        self.recorder_lag_bytes = gauge("recorder_lag_bytes", "Bytes of journals that are not in Postgres yet")
        self.recorder_lag_seconds = gauge(
            "recorder_lag_seconds", "Age of the oldest record that is not in Postgres yet"
        )
        self.recorded_rows = counter("recorded_rows_total", "Rows that the recorder has committed", "table")
        self.recorded_chunks = counter("recorded_chunks_total", "Transactions in which the recorder has committed rows")
        self.recorder_errors = counter(
            "recorder_errors_total",
            "Failures after which the recorder tries again, by Postgres' SQLSTATE, or `connection` or `journal`",
            "sqlstate",
        )
        self.gap_records = counter("gap_records_total", "Records that the table gaps counts as missing", "reason")
        self.quarantined = counter("quarantined_records_total", "Records put aside because Postgres refused them")
        self.implausible = counter(
            "implausible_clock_rows_total", "Rows whose clock cannot be right; they are in the default partitions"
        )
        self.flag_rate = gauge(
            "flag_rate",
            "Share of outliers among about the last ten thousand samples of a version",
            "model",
            "version",
        )
        self.flag_rate_bound = gauge(
            "flag_rate_bound",
            "Share of normal samples that the version's calibration allows to be outliers",
            "model",
            "version",
        )
        self.alarm_log10_e_value = gauge(
            "alarm_log10_e_value",
            "Decimal logarithm of the evidence that a version finds more outliers than its bound; the alarm is raised at that "
            "of the setting alarm_run_length",
            "model",
            "version",
        )
        self.alarm_raised = gauge(
            "alarm_raised",
            "1 while the alarm of a version is raised, until somebody resets it; else 0",
            "model",
            "version",
        )
        self.drift_js = gauge(
            "drift_js",
            "Jensen-Shannon divergence of a feature's last full window from the version's baseline, 0 to 1",
            "model",
            "version",
            "feature",
        )
        self.drifted_features = gauge(
            "drifted_features",
            "Features of a version that have drifted in its last full window: by more than chance explains, and by enough to matter",
            "model",
            "version",
        )
        self.orphan_labels = gauge("orphan_labels", "Labels of the last hour whose sample is in no table")
        self.impossible_labels = gauge(
            "impossible_labels",
            "Labels of the last hour that cannot be true of their sample: see the view label_problems",
        )
