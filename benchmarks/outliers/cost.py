"""`python -m benchmarks.outliers.cost`: execution time of each shipped version with its outlier score, and without.

The same graph on the same batches, the two in turn; the ratio is taken between neighbours, and its median is shown.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence
from typing import Final

import numpy as np

from benchmarks.outliers.studies import ROOT, SHIPPED
from service.engine import artifact, runtime
from service.engine.executor import Executor
from service.errors import VersionRefused
from service.outliers import load_package
from service.types import Array, Signature
from service.versions import read_version
from service.versions.store import read_golden

__all__ = ["main"]

BATCHES: Final = (1, 64)


def main() -> None:
    """Measure and print Markdown."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.outliers.cost", description=__doc__)
    parser.add_argument("--runs", type=int, default=2000, help="of each, for each batch size")
    options = parser.parse_args()
    runtime.configure(1, 1)
    print("| version | run by | detector | batch | without, us | with, us | with / without (quartiles) |")
    print("|---|---|---|---|---|---|---|")
    for name in SHIPPED:
        directory = ROOT / "models" / name
        manifest = read_version(directory)
        package = load_package(directory / "outliers.npz")
        graph = artifact.load_artifact(directory / "model.keras")
        bare, watched = (_served(each, manifest.signature) for each in (graph, graph.watched(package)))
        golden = [sample.inputs for sample in read_golden(directory, manifest).samples]
        for batch in BATCHES:
            rows = [golden[row % len(golden)] for row in range(batch)]
            columns = [np.concatenate(column) for column in zip(*rows, strict=True)]
            pairs = _times(bare, watched, columns, options.runs)
            ratios = [b / a for a, b in pairs]
            low, middle, high = statistics.quantiles(ratios, n=4)
            without, with_ = (statistics.median(one) * 1e6 for one in zip(*pairs, strict=True))
            print(
                f"| {name} | {watched.name} | {package.chosen} | {batch} | {without:.0f} | {with_:.0f} "
                f"| {middle:.2f} ({low:.2f} to {high:.2f}) |"
            )


def _served(graph: runtime.Graph, signature: Signature) -> Executor:
    """As the engine runs it: directly, where that can be."""
    try:
        return graph.direct(signature, 1)
    except VersionRefused:
        return graph.executor(signature, jit=False)


def _times(bare: Executor, watched: Executor, columns: Sequence[Array], runs: int) -> list[tuple[float, float]]:
    """Seconds without and with the score, neighbour by neighbour."""
    found = []
    for _ in range(runs + runs // 10):
        pair = []
        for executor in (bare, watched):
            started = time.perf_counter()
            executor.run(columns)
            pair.append(time.perf_counter() - started)
        found.append((pair[0], pair[1]))
    return found[runs // 10 :]


if __name__ == "__main__":
    main()
