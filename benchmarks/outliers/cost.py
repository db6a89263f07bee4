"""`python -m benchmarks.outliers.cost`: execution time of each shipped version with its outlier score, and without.

The same graph on the same batches, in turn: bare, with its detector, and with the watch over the inputs beside the detector, as
it would be published today. Ratios are taken between neighbours, and their medians are shown.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from benchmarks.outliers.studies import ROOT, SHIPPED
from hoverboard.backends.executor import Executor
from hoverboard.backends.tensorflow import artifact, device
from hoverboard.backends.tensorflow.graph import TensorFlowGraph
from hoverboard.contract.signature import Array, Signature
from hoverboard.errors import VersionRefused
from hoverboard.outliers import OutlierPackage, load_package
from hoverboard.outliers.input_watch_fit import fit_scale, fit_watch
from hoverboard.versions import read_version
from hoverboard.versions.store import read_golden

__all__ = ["main"]

BATCHES: Final = (1, 64)
ROWS: Final = 400


def main() -> None:
    """Measure and print Markdown."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.outliers.cost", description=__doc__)
    parser.add_argument("--runs", type=int, default=2000, help="of each, for each batch size")
    options = parser.parse_args()
    device.configure(1, 1)
    print(
        "| version | run by | detector | batch | bare, us | detector / bare (quartiles) | with the watch / bare (quartiles) |"
    )
    print("|---|---|---|---|---|---|---|")
    for name in SHIPPED:
        directory = ROOT / "models" / name
        manifest = read_version(directory)
        package = load_package(directory / "outliers.npz")
        graph = artifact.load_artifact(directory / "model.keras")
        golden = [sample.inputs for sample in read_golden(directory, manifest).samples]
        today = graph.watched(_with_watch(package, manifest.signature, golden))
        ways = [_served(each, manifest.signature) for each in (graph, graph.watched(package), today)]
        for batch in BATCHES:
            rows = [golden[row % len(golden)] for row in range(batch)]
            columns = [np.concatenate(column) for column in zip(*rows, strict=True)]
            found = _times(ways, columns, options.runs)
            cells = []
            for way in (1, 2):
                low, middle, high = statistics.quantiles([times[way] / times[0] for times in found], n=4)
                cells.append(f"{middle:.2f} ({low:.2f} to {high:.2f})")
            bare = statistics.median(times[0] for times in found) * 1e6
            print(f"| {name} | {ways[-1].name} | {package.chosen} | {batch} | {bare:.0f} | {' | '.join(cells)} |")


def _with_watch(package: OutlierPackage, signature: Signature, golden: Sequence[Sequence[Array]]) -> OutlierPackage:
    """With a watch over all inputs that can be watched; fitted on made-up rows, since only its cost counts here."""
    draw = np.random.default_rng(0)
    columns = {}
    for place, spec in enumerate(signature.inputs):
        column = np.concatenate([sample[place] for sample in golden])[draw.integers(0, len(golden), ROWS)]
        columns[spec.name] = (
            column * draw.pareto(3, column.shape).astype(column.dtype) if column.dtype.kind == "f" else column
        )
    watch = fit_watch(signature.inputs, columns, package.alpha)
    calibration = package.detector.calibration
    scale = fit_scale(calibration, np.max(list(watch.by_input(columns).values()), axis=0)) if watch.watched else None
    return replace(package, watch=replace(watch, scale=scale, calibration=calibration))


def _served(graph: TensorFlowGraph, signature: Signature) -> Executor:
    """As the engine runs it: directly, where that can be."""
    try:
        return graph.direct(signature, 1)
    except VersionRefused:
        return graph.executor(signature, jit=False)


def _times(ways: Sequence[Executor], columns: Sequence[Array], runs: int) -> list[list[float]]:
    """Seconds of each way, neighbour by neighbour."""
    found = []
    for _ in range(runs + runs // 10):
        times = []
        for executor in ways:
            started = time.perf_counter()
            executor.run(columns)
            times.append(time.perf_counter() - started)
        found.append(times)
    return found[runs // 10 :]


if __name__ == "__main__":
    main()
