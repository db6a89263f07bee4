"""Metrics as plain functions, cheap enough for every call (half a microsecond), for Prometheus to scrape.

Each process writes its own memory-mapped files, named by its place in the service (`api-0`) and not by its pid, so
that a restarted process goes on counting where it stopped and the number of files stays bounded. Any api process can
answer for all. Before `init`, and in tests and offline commands, everything stays in the process.

Labels that come from a client are only used once they are known to the service; anything else is `unknown`.
"""

from __future__ import annotations

import atexit
import os
import struct
import threading
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

import structlog
from prometheus_client import CollectorRegistry, disable_created_metrics, generate_latest, values
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from hoverboard.contract.catalog import Catalog, ModelStatus
from hoverboard.errors import BY_KIND, Cancelled, Violation
from hoverboard.telemetry.families import SECONDS, Families, Uncounted
from hoverboard.telemetry.files import install
from hoverboard.telemetry.recording_state import silence
from hoverboard.telemetry.tally import Flusher, Tally

__all__ = [
    "CONTENT_TYPE",
    "close",
    "count_dropped",
    "count_gap",
    "count_implausible",
    "count_load",
    "count_quarantined",
    "count_recorded",
    "count_recorder_error",
    "count_restart",
    "count_retraces",
    "count_shed",
    "count_violation",
    "exposition",
    "forget",
    "init",
    "know_catalog",
    "know_methods",
    "observe_batch",
    "observe_call",
    "set_alarm",
    "set_drift",
    "set_impossible_labels",
    "set_in_flight",
    "set_live",
    "set_memory",
    "set_orphan_labels",
    "set_queue",
    "set_queue_seconds",
    "set_recorder_connected",
    "set_recorder_lag",
]

log = structlog.get_logger(__name__)

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
UNKNOWN: Final = "unknown"

_ROLES: Final = frozenset({"", "stable", "pinned", "canary", "shadow"})
_CODES: Final = frozenset({0, Cancelled.code, *(error.code for error in BY_KIND.values())})

_CallKey = tuple[str, str | None, int | None, str | None, int]


class _State:
    """What `init` replaces: the families of this process, and the labels it knows."""

    def __init__(self, directory: Path | None) -> None:
        self.directory = directory
        self.registry = CollectorRegistry() if directory is None else None
        self.families = Families(self.registry)
        self.methods: frozenset[str] = frozenset()
        self.versions: Mapping[str, frozenset[int]] = {}
        self.inputs: Mapping[str, frozenset[str]] = {}
        self.calls: dict[_CallKey, Tally] = {}
        self.tallies: dict[tuple[str, ...], Tally] = {}
        self.in_flight = 0
        self.queued: dict[str, int] = {}
        self.queue_seconds = 0.0
        self.flushing = threading.Lock()
        self.flusher = None if directory is None else Flusher(self.flush)

    def flush(self) -> None:
        """Carry over to Prometheus what is counted in plain Python."""
        with self.flushing:
            for tally in list(self.tallies.values()):
                tally.flush()
            self.families.in_flight().set(self.in_flight)
            self.families.queue_seconds().set(self.queue_seconds)
            for model, depth in list(self.queued.items()):
                self.families.queue_depth(model).set(depth)

    def close(self) -> None:
        """Flush a last time."""
        if self.flusher is not None:
            self.flusher.close()
            self.flusher = None


def init(name: str, directory: Path | None) -> None:
    """Start this process's metrics.

    Args:
        name: the process's place in the service, such as `api-0`; no underscore.
        directory: where the processes of one service share their files; None keeps everything in this process.
    """
    global _state  # noqa: PLW0603 - a process has one set of metrics, and hooks are plain functions
    _state.close()
    if directory is None:
        values.ValueClass = values.MutexValue
    else:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = os.fspath(directory)
        forget(name, directory)
        install()
        values.ValueClass = values.MultiProcessValue(process_identifier=lambda: name)
    try:
        _state = _State(directory)
    except OSError as reason:  # a service without metrics is better than none
        log.critical("metrics_off", directory=directory, reason=reason.strerror, until="the process starts again")
        values.ValueClass = values.MutexValue
        _state = _State(None)


def close() -> None:
    """Write out what is counted but not yet written; at the end of a process."""
    _state.close()


def forget(name: str, directory: Path) -> None:
    """Drop what a dead process last said of its present state (queues, calls in flight); its counts stay."""
    for file in directory.glob(f"gauge_live*_{name}.db"):
        file.unlink(missing_ok=True)


def exposition() -> bytes:
    """All processes' metrics in Prometheus' text format. Takes milliseconds: call it off the event loop."""
    _state.flush()
    if _state.registry is not None:
        return generate_latest(_state.registry)
    try:
        return _collect()
    except (struct.error, FileNotFoundError):  # a process made or dropped a file between our listing and our reading
        return _collect()


def _collect() -> bytes:
    registry = CollectorRegistry()
    directory = _state.directory or Path()
    collector = MultiProcessCollector(None, path=os.fspath(directory))
    registry.register(collector if silence(directory.parent) is None else _WithoutRecorder(collector))
    return generate_latest(registry)


class _WithoutRecorder(Collector):
    """What is collected while the recorder lives and says nothing: how far behind it is, it last said long ago."""

    def __init__(self, collector: Collector) -> None:
        self._collector = collector

    def collect(self) -> Iterator[Metric]:
        for family in self._collector.collect():
            if family.name == "hoverboard_recorder_connected":
                family.samples = [sample._replace(value=0.0) for sample in family.samples]
            if not family.name.startswith("hoverboard_recorder_lag_"):
                yield family


def know_methods(names: Iterable[str]) -> None:
    """Which JSON-RPC methods may appear as a label."""
    _state.methods = frozenset(names)
    _state.calls.clear()


def know_catalog(catalog: Catalog) -> None:
    """Which models, versions and inputs may appear as labels of calls."""
    _state.versions = {
        name: frozenset(status.version for status in model.versions) for name, model in catalog.models.items()
    }
    _state.inputs = {name: _inputs(model) for name, model in catalog.models.items()}
    _state.calls.clear()


def _inputs(model: ModelStatus) -> frozenset[str]:
    signatures = [status.signature for status in model.versions if status.signature is not None]
    return frozenset(spec.name for signature in signatures for spec in signature.inputs)


def observe_call(  # noqa: PLR0917 - called for every call; positional arguments are quicker
    method: str,
    model: str | None,
    version: int | None,
    role: str | None,
    code: int,
    seconds: float,
) -> None:
    """One answered call.

    Args:
        method: as the client named it.
        model: likewise; None where the method has none.
        version: the number that answered; None where none did.
        role: the role it answered in; None when asked for by number.
        code: the JSON-RPC error code, 0 for success.
        seconds: from arrival to answer.
    """
    key = (method, model, version, role, code)
    (_state.calls.get(key) or _resolve(key)).add(seconds)


def _resolve(key: _CallKey) -> Tally:
    """The tally of one kind of call; found by `key` only where every label is known: strangers cannot grow the dict."""
    method, model, version, role, code = key
    known = _state.versions.get(model) if model else None
    labels = (
        method if method in _state.methods else UNKNOWN,
        "" if not model else UNKNOWN if known is None else model,
        "" if version is None else str(version) if known and version in known else UNKNOWN,
        (role or "") if (role or "") in _ROLES else UNKNOWN,
        str(code) if code in _CODES else UNKNOWN,
    )
    tally = _state.tallies.get(labels)
    if tally is None:
        families = _state.families
        counter, histogram = families.calls(*labels), families.call_seconds(*labels)
        tally = Tally(SECONDS, counter, histogram)
        if isinstance(counter, Uncounted) or isinstance(histogram, Uncounted):
            return tally
        _state.tallies[labels] = tally
    if UNKNOWN not in labels:
        _state.calls[key] = tally
    return tally


def count_violation(model: str | None, input_name: str | None, violation: Violation) -> None:
    """One predict call whose sample broke the model's contract; no input where the sample as a whole did."""
    inputs = _state.inputs.get(model) if model else None
    _state.families.violations(
        model if model and inputs is not None else UNKNOWN,
        input_name if input_name and inputs is not None and input_name in inputs else UNKNOWN,
        violation,
    ).inc()


def set_in_flight(calls: int) -> None:
    """Calls that wait for an answer in this api process."""
    _state.in_flight = calls


def observe_batch(model: str, version: int, bucket: int, size: int, seconds: float) -> None:
    """One executed batch: `size` samples ran in `bucket` for `seconds`."""
    families = _state.families
    families.batch_size(model).observe(size)
    families.execution_seconds(model, str(version), str(bucket)).observe(seconds)


def set_queue(model: str, depth: int) -> None:
    """Samples of one model that wait in this engine."""
    _state.queued[model] = depth


def set_queue_seconds(seconds: float) -> None:
    """Predicted work in this engine's queue, over all models."""
    _state.queue_seconds = seconds


def count_load(model: str, version: int, outcome: str) -> None:
    """One load of a version ended: `ok`, `unloaded`, or the check that refused it, such as `checksum` or `golden`."""
    _state.families.loads(model, str(version), outcome).inc()


def count_shed(model: str, reason: str, records: int) -> None:
    """Records that were not journaled, and are counted in a gap instead."""
    _state.families.shed(model, reason).inc(records)


def count_retraces(model: str, version: int, traces: int = 1) -> None:
    """Graphs of a ready version were traced again."""
    _state.families.retraces(model, str(version)).inc(traces)


def count_dropped(model: str, why: str) -> None:
    """One predict call that never ran: `refused`, `expired` or `cancelled`."""
    _state.families.dropped(model, why).inc()


def count_restart(child: str, times: int = 1) -> None:
    """A child process was started again; `times=0` makes its series appear."""
    _state.families.restarts(child).inc(times)


def set_live(model: str, version: int | None, role: str) -> None:
    """Which version fills a role now; None for no one."""
    _state.families.live_version(model, role).set(version or 0)


def set_memory(model: str, version: int, size: int) -> None:
    """Bytes that a version's weights take; 0 once it is unloaded."""
    _state.families.memory_bytes(model, str(version)).set(size)


def set_recorder_connected(*, connected: bool) -> None:
    """Whether the recorder has Postgres."""
    _state.families.recorder_connected().set(int(connected))


def set_recorder_lag(rows: int, size: int, seconds: float) -> None:
    """How far Postgres is behind the journals: records, bytes, and the age of the oldest record."""
    families = _state.families
    families.recorder_lag_rows().set(rows)
    families.recorder_lag_bytes().set(size)
    families.recorder_lag_seconds().set(seconds)


def count_recorded(rows: Mapping[str, int]) -> None:
    """One committed chunk: rows by table."""
    families = _state.families
    if rows:
        families.recorded_chunks().inc()
    for table, count in rows.items():
        families.recorded_rows(table).inc(count)


def count_recorder_error(sqlstate: str) -> None:
    """The recorder failed and tries again: Postgres' code, or `connection`, or `journal`."""
    _state.families.recorder_errors(sqlstate).inc()


def count_gap(reason: str, records: int) -> None:
    """Records are counted as missing."""
    _state.families.gap_records(reason).inc(records)


def count_quarantined(records: int) -> None:
    """Records were put aside."""
    _state.families.quarantined().inc(records)


def count_implausible(rows: int) -> None:
    """Rows have a clock that cannot be right."""
    _state.families.implausible().inc(rows)


def set_orphan_labels(labels: int) -> None:
    """Labels of the last hour whose sample is in no table."""
    _state.families.orphan_labels().set(labels)


def set_impossible_labels(labels: int) -> None:
    """Labels of the last hour that cannot be true of their sample."""
    _state.families.impossible_labels().set(labels)


def set_alarm(model: str, version: int, *, rate: float, bound: float, log10_e: float, raised: bool) -> None:
    """How a version's alarm stands: the share that was flagged lately, its bound, and the evidence."""
    families, labels = _state.families, (model, str(version))
    families.flag_rate(*labels).set(rate)
    families.flag_rate_bound(*labels).set(bound)
    families.alarm_log10_e_value(*labels).set(log10_e)
    families.alarm_raised(*labels).set(int(raised))


def set_drift(model: str, version: int, divergences: Mapping[str, float], drifted: int) -> None:
    """What a version's last full window says: Jensen-Shannon divergences by feature, and how many have drifted."""
    families, number = _state.families, str(version)
    for feature, divergence in divergences.items():
        families.drift_js(model, number, feature).set(divergence)
    families.drifted_features(model, number).set(drifted)


disable_created_metrics()
_state = _State(None)
atexit.register(close)
