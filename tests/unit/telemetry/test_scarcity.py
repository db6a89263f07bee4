"""Metrics without descriptors or disk: nothing is raised, nobody is killed, and counting goes on afterwards."""

import subprocess
import sys
import textwrap
from pathlib import Path

from hoverboard.telemetry.sampling import Sampler
from tests.disks import small_disk

COUNT = """
    import os, resource, sys
    from pathlib import Path
    from hoverboard.telemetry import families, logs, metrics
    from hoverboard.telemetry.calls import calls
    from hoverboard.contract.catalog import Catalog, ModelStatus, VersionStatus
    logs.configure("info", "json")
"""


def run(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    code = textwrap.dedent(COUNT) + textwrap.dedent(script)
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)


def test_without_descriptors_nothing_is_raised_and_counting_goes_on_afterwards(tmp_path: Path) -> None:
    done = run(
        """
        metrics.init("api-0", Path(sys.argv[1]))
        calls.know_methods(["predict"])
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
        for _ in range(1000):
            calls.observe("predict", None, None, None, 0, 0.1)
            families.shed.labels("m", "disk").inc(1)
            families.live_version.labels("m", "stable").set(1)
        resource.setrlimit(resource.RLIMIT_NOFILE, (100, hard))
        calls.observe("predict", None, None, None, 0, 0.1)
        metrics.close()
        print(metrics.exposition().decode())
        """,
        str(tmp_path),
    )
    assert done.returncode == 0, done.stderr
    assert 'hoverboard_calls_total{code="0",method="predict",model="",role="",version=""}' in done.stdout
    assert done.stderr.count("metric_not_counted") <= 3


def test_on_a_full_disk_the_process_goes_on_without_metrics(tmp_path: Path) -> None:
    script = """
        folder = Path(sys.argv[1])
        metrics.init("api-0", folder)
        calls.know_catalog(Catalog({"m": ModelStatus("m", {}, tuple(VersionStatus(n, "live") for n in range(2000)))}))
        calls.know_methods(["predict"])
        for version in range(2000):
            calls.observe("predict", "m", version, "stable", 0, 0.1)
        metrics.close()
        metrics.init("api-1", folder)
        calls.observe("predict", "m", 1, "stable", 0, 0.1)
        print("went on")
    """
    with small_disk(tmp_path / "small", "size=256k") as small:
        done = run(script, str(small))
    assert done.returncode == 0, done.stderr[-2000:]
    assert "went on" in done.stdout
    assert "metric_not_counted" in done.stderr
    assert "metrics_off" in done.stderr


def test_a_flood_of_lines_is_cut_and_what_was_left_out_is_counted() -> None:
    now = [0.0]
    lines = Sampler(2, clock=lambda: now[0])
    assert [lines.next() for _ in range(5)] == [0, 0, None, None, None]
    now[0] = 1.5
    assert [lines.next() for _ in range(3)] == [3, 0, None]
