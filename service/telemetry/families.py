"""The metric families: names, labels, buckets and what each means. One place, so that the documentation can be checked.

A call site names the family and the labels: `families.loads.labels(model, 3, "ok").inc()`. Labels that come from a client
go through `hoverboard.telemetry.calls`, which lets through only what the service knows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, Generic, TypeVar, cast

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, disable_created_metrics
from prometheus_client.metrics import MetricWrapperBase

from hoverboard.telemetry.sampling import Sampler
from hoverboard.telemetry.tally import BulkHistogram

__all__ = ["ALL", "SECONDS", "SIZES", "Family", "OftenSet", "Uncounted", "bind", "flush"]

SECONDS: Final = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
SIZES: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
_VERSION: Final = ("model", "version")
_CALL: Final = ("method", "model", "version", "role", "code")

log = structlog.get_logger(__name__)

_lines = Sampler(1)

F = TypeVar("F", bound=MetricWrapperBase)


class Family(Generic[F]):
    """A family that outlives a change of where metrics are kept, and whose children are found in a plain dict.

    Prometheus' own `labels` makes strings of all labels under a lock each time, which takes several times as long.

    Args:
        make: the family of prometheus-client, for a registry.
    """

    __slots__ = ("_children", "_make", "family")
    family: F

    def __init__(self, make: Callable[..., F]) -> None:
        self._make = make
        self._children: dict[tuple[object, ...], F] = {}

    def bind(self, registry: CollectorRegistry | None) -> None:
        """Begin anew, with no child."""
        self.family = self._make(registry=registry)
        self._children = {}

    def labels(self, *values: object) -> F:
        """The child with these labels; the family itself without any."""
        child = self._children.get(values)
        if child is None:
            try:
                child = self._children[values] = self.family.labels(*values) if values else self.family
            except OSError as reason:
                # No room on the disk, no descriptor left: counting is not worth a call. It is tried again next time.
                return cast(F, _uncounted(reason))
        return child


class OftenSet(Family[Gauge]):
    """A gauge that is set for every call: only what it is at the next flush is written to the metrics' files."""

    __slots__ = ("_latest",)

    def bind(self, registry: CollectorRegistry | None) -> None:
        """Begin anew; without labels it is 0 from the start."""
        super().bind(registry)
        self._latest: dict[tuple[object, ...], float] = {} if self.family._labelnames else {(): 0}  # noqa: SLF001

    def set(self, value: float, *labels: object) -> None:
        """Take note of the present value."""
        self._latest[labels] = value

    def flush(self) -> None:
        """Write the latest values out."""
        for labels, value in list(self._latest.items()):  # a copy: this runs on the flusher's thread
            self.labels(*labels).set(value)


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


ALL: Final[list[Family[Any]]] = []
"""Every family, in the order of the scrape."""


def bind(registry: CollectorRegistry | None) -> None:
    """Begin every family anew.

    Args:
        registry: where they report to; None in multi-process mode, where files are collected instead.

    Raises:
        OSError: there is no room for their files.
    """
    for family in ALL:
        family.bind(registry)


def flush() -> None:
    """Write out the gauges that are set often."""
    # On the flusher's thread, four times a second, and before each scrape.
    for gauge in (in_flight, queue_depth, queue_seconds):
        gauge.flush()


_Declared = TypeVar("_Declared", bound=Family[Any])


def _declared(family: _Declared) -> _Declared:
    ALL.append(family)
    return family


def _counter(name: str, text: str, labels: Sequence[str] = ()) -> Family[Counter]:
    return _declared(Family(partial(Counter, f"hoverboard_{name}", text, labels)))


def _histogram(name: str, text: str, buckets: tuple[float, ...], labels: Sequence[str]) -> Family[BulkHistogram]:
    return _declared(Family(partial(BulkHistogram, f"hoverboard_{name}", text, labels, buckets=buckets)))


def _gauge(name: str, text: str, labels: Sequence[str] = (), *, mode: Any = "livesum") -> Family[Gauge]:
    return _declared(Family(partial(Gauge, f"hoverboard_{name}", text, labels, multiprocess_mode=mode)))


def _often_set(name: str, text: str, labels: Sequence[str] = ()) -> OftenSet:
    return _declared(OftenSet(partial(Gauge, f"hoverboard_{name}", text, labels, multiprocess_mode="livesum")))


disable_created_metrics()

calls: Final = _counter(
    "calls_total",
    "JSON-RPC calls answered, by the version and role that answered; code 0 is success, -32800 a caller that has gone",
    _CALL,
)
call_seconds: Final = _histogram(
    "call_seconds",
    "Seconds from a call's arrival to its answer, in the api process; the labels are those of hoverboard_calls_total",
    SECONDS,
    _CALL,
)
violations: Final = _counter(
    "contract_violations_total",
    "Predict calls refused because a sample broke the model's contract, by the input at fault and how it was broken",
    ("model", "input", "kind"),
)
in_flight: Final = _often_set("in_flight_calls", "Calls that wait for an answer, over all api processes")
queue_depth: Final = _often_set("queue_depth", "Samples waiting in the engine for a batch", ("model",))
queue_seconds: Final = _often_set("queue_predicted_seconds", "Predicted seconds of work in the engine's queue")
batch_size: Final = _histogram("batch_size", "Samples in one executed batch", SIZES, ("model",))
execution_seconds: Final = _histogram(
    "execution_seconds", "Seconds one batch took to execute, by batch bucket", SECONDS, ("model", "version", "bucket")
)
loads: Final = _counter(
    "loads_total",
    "Loads of model versions: the outcome is ok, unloaded, or the check that refused the version; machine where the "
    "machine was at fault and it is tried again",
    ("model", "version", "outcome"),
)
retraces: Final = _counter(
    "retraces_total",
    "Graphs traced again after a version was ready; anything above 0 is a defect of the service",
    _VERSION,
)
dropped: Final = _counter(
    "dropped_calls_total",
    "Predict calls that never ran: refused on arrival, expired or cancelled while they waited",
    ("model", "why"),
)
shed: Final = _counter(
    "journal_shed_records_total",
    "Records that were dropped before the journal, because of its budget or a full disk; the table gaps counts them, too",
    ("model", "reason"),
)
restarts: Final = _counter("child_restarts_total", "Child processes started again after they died", ("child",))
live_version: Final = _gauge(
    "live_version", "Number of the version that fills a role; 0 where nothing does", ("model", "role"), mode="livemax"
)
memory_bytes: Final = _gauge(
    "model_memory_bytes", "Bytes of memory that a version's weights take; 0 once unloaded", _VERSION
)
recorder_connected: Final = _gauge(
    "recorder_connected",
    "1 while the recorder is connected to Postgres; 0 while Postgres is away, or has not answered for 10 s",
)
recorder_lag_rows: Final = _gauge("recorder_lag_rows", "Journaled records that are not in Postgres yet")
recorder_lag_bytes: Final = _gauge("recorder_lag_bytes", "Bytes of journals that are not in Postgres yet")
recorder_lag_seconds: Final = _gauge("recorder_lag_seconds", "Age of the oldest record that is not in Postgres yet")
recorded_rows: Final = _counter("recorded_rows_total", "Rows that the recorder has committed", ("table",))
recorded_chunks: Final = _counter("recorded_chunks_total", "Transactions in which the recorder has committed rows")
recorder_errors: Final = _counter(
    "recorder_errors_total",
    "Failures after which the recorder tries again, by Postgres' SQLSTATE, or `connection` or `journal`",
    ("sqlstate",),
)
gap_records: Final = _counter("gap_records_total", "Records that the table gaps counts as missing", ("reason",))
quarantined: Final = _counter("quarantined_records_total", "Records put aside because Postgres refused them")
implausible: Final = _counter(
    "implausible_clock_rows_total", "Rows whose clock cannot be right; they are in the default partitions"
)
flag_rate: Final = _gauge(
    "flag_rate", "Share of outliers among about the last ten thousand samples of a version", _VERSION
)
flag_rate_bound: Final = _gauge(
    "flag_rate_bound", "Share of normal samples that the version's calibration allows to be outliers", _VERSION
)
alarm_log10_e_value: Final = _gauge(
    "alarm_log10_e_value",
    "Decimal logarithm of the evidence that a version finds more outliers than its bound; the alarm is raised at that "
    "of the setting alarm_run_length",
    _VERSION,
)
alarm_raised: Final = _gauge(
    "alarm_raised",
    "1 while the alarm of a version is raised, until somebody resets it; else 0. `hoverboard postmortem MODEL` says why",
    _VERSION,
)
drift_js: Final = _gauge(
    "drift_js",
    "Jensen-Shannon divergence of a feature's last full window from the version's baseline, 0 to 1",
    ("model", "version", "feature"),
)
drifted_features: Final = _gauge(
    "drifted_features",
    "Features of a version that have drifted in its last full window: by more than chance explains, and by enough to matter",
    _VERSION,
)
issues: Final = _gauge(
    "issues",
    "Open issues of a model (kinds of outliers with at least 5 members): all of them (`open`), and those that are `new`, "
    "`escalating` or `regressed`",
    ("model", "state"),
)
ungrouped: Final = _counter(
    "ungrouped_outliers_total", "Outliers with features that joined no issue, by model and reason", ("model", "reason")
)
orphan_labels: Final = _gauge("orphan_labels", "Labels of the last hour whose sample is in no table")
impossible_labels: Final = _gauge(
    "impossible_labels", "Labels of the last hour that cannot be true of their sample: see the view label_problems"
)
judged_rows: Final = _gauge(
    "judged_rows", "Answers of a version whose label came in the last day and can be compared with them", _VERSION
)
accuracy: Final = _gauge(
    "accuracy",
    "Share of right answers among hoverboard_judged_rows, each weighed by 1 / incl_prob; NaN once no label has come for a day",
    _VERSION,
)
absolute_error: Final = _gauge(
    "absolute_error", "Mean absolute error of a regression over hoverboard_judged_rows, weighed likewise", _VERSION
)

# Until a process says where its metrics are kept, and in tests and offline commands, they stay in the process.
bind(CollectorRegistry())
