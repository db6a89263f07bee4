import subprocess
import sys
import textwrap
import timeit
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from hoverboard.contract.catalog import Catalog, ModelStatus, VersionStatus
from hoverboard.telemetry import families, metrics
from hoverboard.telemetry.calls import calls

CATALOG = Catalog(
    {"digits": ModelStatus("digits", {"stable": 2}, (VersionStatus(1, "available"), VersionStatus(2, "live")))}
)


@pytest.fixture(params=["in_process", "multi_process"])
def fresh(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Metrics that start at nothing, in both ways they can be kept."""
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", "")
    metrics.init("api-0", tmp_path if request.param == "multi_process" else None)
    calls.know_methods(["predict", "models.list"])
    calls.know_catalog(CATALOG)
    yield
    metrics.init("api-0", None)


def samples(name: str) -> dict[tuple[str, ...], float]:
    """Label values (sorted by label name) -> value of one series, as a scraper reads it."""
    text = metrics.exposition().decode()
    return {
        tuple(value for _, value in sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == f"hoverboard_{name}"
    }


@pytest.mark.usefixtures("fresh")
class TestCalls:
    def test_are_counted_by_method_model_version_role_and_code(self) -> None:
        for _ in range(3):
            calls.observe("predict", "digits", 2, "stable", 0, 0.003)
        calls.observe("predict", "digits", None, None, -32602, 0.001)
        assert samples("calls_total") == {
            ("0", "predict", "digits", "stable", "2"): 3,
            ("-32602", "predict", "digits", "", ""): 1,
        }

    def test_fall_into_the_bucket_of_their_duration(self) -> None:
        for seconds in (0.0005, 0.0006, 0.3, 60.0):
            calls.observe("predict", "digits", 2, "stable", 0, seconds)
        buckets = {le: value for (_, le, *_), value in samples("call_seconds_bucket").items()}
        assert buckets["0.0005"] == 1
        assert buckets["0.001"] == 2
        assert buckets["0.2"] == 2
        assert buckets["0.5"] == 3
        assert buckets["10.0"] == 3
        assert buckets["+Inf"] == 4
        assert samples("call_seconds_sum") == {("0", "predict", "digits", "stable", "2"): pytest.approx(60.3011)}
        assert samples("call_seconds_count") == {("0", "predict", "digits", "stable", "2"): 4}

    def test_durations_are_told_apart_by_all_that_calls_are_counted_by(self) -> None:
        calls.observe("predict", "digits", 2, "stable", 0, 0.003)
        calls.observe("predict", "digits", 1, None, 0, 0.3)
        calls.observe("predict", "digits", None, None, -32602, 0.001)
        calls.observe("predict", "made up", 9, "boss", -1, 0.5)
        assert samples("call_seconds_count") == samples("calls_total")
        assert samples("call_seconds_sum") == pytest.approx(
            {
                ("0", "predict", "digits", "stable", "2"): 0.003,
                ("0", "predict", "digits", "", "1"): 0.3,
                ("-32602", "predict", "digits", "", ""): 0.001,
                ("unknown", "predict", "unknown", "unknown", "unknown"): 0.5,
            }
        )

    def test_are_counted_once_however_often_they_are_scraped(self) -> None:
        calls.observe("predict", "digits", 2, "stable", 0, 0.003)
        metrics.exposition()
        calls.observe("predict", "digits", 2, "stable", 0, 0.003)
        metrics.exposition()
        assert samples("call_seconds_count") == {("0", "predict", "digits", "stable", "2"): 2}

    def test_with_labels_a_stranger_made_up_are_unknown(self) -> None:
        for number in range(1000):
            calls.observe(f"method{number}", f"model{number}", number + 10, f"role{number}", -number - 1, 0.003)
        assert samples("calls_total") == {("unknown",) * 5: 1000}
        assert len(calls._by_key) == 0

    def test_with_a_model_that_became_known_are_named_from_then_on(self) -> None:
        calls.observe("predict", "new", 1, "stable", 0, 0.003)
        calls.know_catalog(Catalog({"new": ModelStatus("new", {"stable": 1}, (VersionStatus(1, "live"),))}))
        calls.observe("predict", "new", 1, "stable", 0, 0.003)
        assert samples("calls_total") == {
            ("0", "predict", "unknown", "stable", "unknown"): 1,
            ("0", "predict", "new", "stable", "1"): 1,
        }

    def test_cost_a_few_microseconds_at_most(self) -> None:
        runs = 20_000
        each = timeit.timeit(lambda: calls.observe("predict", "digits", 2, "stable", 0, 0.003), number=runs) / runs
        assert each < 5e-6, f"{each * 1e6:.2f} us a call"


@pytest.mark.usefixtures("fresh")
class TestEngine:
    def test_batches_are_observed_by_size_and_bucket(self) -> None:
        families.batch_size.labels("digits").observe(50)
        families.execution_seconds.labels("digits", 2, 64).observe(0.004)
        assert samples("batch_size_sum") == {("digits",): 50}
        assert samples("execution_seconds_count") == {("64", "digits", "2"): 1}

    def test_queue_and_calls_in_flight_show_their_present_state(self) -> None:
        for depth in (9, 4):
            families.queue_depth.set(depth, "digits")
            families.queue_seconds.set(depth / 10)
            families.in_flight.set(depth)
        assert samples("queue_depth") == {("digits",): 4}
        assert samples("queue_predicted_seconds") == {(): 0.4}
        assert samples("in_flight_calls") == {(): 4}

    def test_loads_drops_retraces_and_restarts_are_counted(self) -> None:
        families.loads.labels("digits", 2, "ok").inc()
        families.loads.labels("digits", 3, "golden").inc()
        families.dropped.labels("digits", "expired").inc()
        families.retraces.labels("digits", 2).inc(3)
        families.restarts.labels("engine-0").inc()
        families.restarts.labels("api-0").inc(0)
        assert samples("loads_total") == {("digits", "ok", "2"): 1, ("digits", "golden", "3"): 1}
        assert samples("dropped_calls_total") == {("digits", "expired"): 1}
        assert samples("retraces_total") == {("digits", "2"): 3}
        assert samples("child_restarts_total") == {("engine-0",): 1, ("api-0",): 0}

    def test_the_live_version_is_the_latest_one_set(self) -> None:
        families.live_version.labels("digits", "stable").set(3)
        families.live_version.labels("digits", "stable").set(2)
        families.live_version.labels("products", "stable").set(0)
        families.memory_bytes.labels("digits", 2).set(12_345)
        assert samples("live_version") == {("digits", "stable"): 2, ("products", "stable"): 0}
        assert samples("model_memory_bytes") == {("digits", "2"): 12_345}

    def test_every_family_is_prefixed_and_documented(self) -> None:
        calls.observe("predict", "digits", 2, "stable", 0, 0.003)
        families.batch_size.labels("digits").observe(50)
        families.execution_seconds.labels("digits", 2, 64).observe(0.004)
        scraped = list(text_string_to_metric_families(metrics.exposition().decode()))
        assert len(scraped) >= 4
        for family in scraped:
            assert family.name.startswith("hoverboard_")
            assert len(family.documentation) > 20


def in_another_process(name: str, directory: Path, code: str) -> None:
    script = f"from pathlib import Path\nfrom hoverboard.telemetry import families, metrics\nfrom hoverboard.telemetry.calls import calls\nmetrics.init({name!r}, Path({str(directory)!r}))\n"
    subprocess.run([sys.executable, "-c", script + textwrap.dedent(code)], check=True)


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", "")
    metrics.init("api-0", tmp_path)
    yield tmp_path
    metrics.init("api-0", None)


def test_one_process_answers_for_all(shared: Path) -> None:
    in_another_process(
        "engine-0", shared, "families.batch_size.labels('digits').observe(5); families.queue_depth.set(7, 'digits')"
    )
    in_another_process("api-1", shared, "families.in_flight.set(2); calls.observe('x', None, None, None, 0, 0.1)")
    families.in_flight.set(3)
    assert samples("batch_size_count") == {("digits",): 1}
    assert samples("queue_depth") == {("digits",): 7}
    assert samples("in_flight_calls") == {(): 5}
    assert samples("calls_total") == {("0", "unknown", "", "", ""): 1}


def test_a_restarted_process_counts_on_but_forgets_its_present_state(shared: Path) -> None:
    for _ in range(2):
        in_another_process("engine-0", shared, "families.loads.labels('digits', 2, 'ok').inc()")
    in_another_process("engine-0", shared, "families.queue_depth.set(7, 'digits')")
    in_another_process("engine-0", shared, "families.loads.labels('digits', 2, 'ok').inc()")
    assert samples("loads_total") == {("digits", "ok", "2"): 3}
    assert samples("queue_depth") == {}
    assert len(list(shared.glob("counter_engine-0.db"))) == 1


def test_a_dead_process_leaves_its_counts_and_takes_its_present_state(shared: Path) -> None:
    in_another_process(
        "engine-0", shared, "families.queue_depth.set(7, 'digits'); families.loads.labels('digits', 2, 'ok').inc()"
    )
    metrics.forget("engine-0", shared)
    assert samples("queue_depth") == {}
    assert samples("loads_total") == {("digits", "ok", "2"): 1}


def test_what_is_counted_reaches_the_other_processes_without_a_scrape_here(shared: Path) -> None:
    code = """
        import os, time
        calls.observe('x', None, None, None, 0, 0.1)
        time.sleep(1.0)
        os._exit(0)
    """
    in_another_process("api-1", shared, code)
    assert samples("calls_total") == {("0", "unknown", "", "", ""): 1}
