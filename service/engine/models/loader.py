"""From a directory to a version that may answer: checksums, safe load, signature, warm-up, timings, golden samples.

Runs on the loader's own thread. Tracing and compiling happen there; every timed or golden run is one job of its own on
the execution thread, between the batches of what serves meanwhile.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import structlog

from hoverboard.backends.backend import Backend, configured
from hoverboard.engine.buckets import CostModel
from hoverboard.engine.live import LiveVersion
from hoverboard.engine.models.executor_choice import Chooser, RunJob
from hoverboard.engine.models.golden_batches import Company
from hoverboard.engine.models.lengths import with_least
from hoverboard.engine.models.proofs import Proofs
from hoverboard.engine.models.timings import Measured, file_for, processor, recall, remember
from hoverboard.errors import VersionRefused
from hoverboard.machine import check_of
from hoverboard.outliers import OUTLIERS_FILE, OutlierPackage, load_package
from hoverboard.versions import Manifest, VersionOnDisk, read_version, verify_checksums
from hoverboard.versions.store import read_golden

__all__ = ["Loader"]

_log = structlog.get_logger(__name__)
_GPU_TOLERANCE: Final = 100.0
"""Of golden samples on a GPU, as a multiple: its sums run in another order, and in a different one for each batch size."""


@dataclass(frozen=True, slots=True)
class Loader:
    """Loads versions.

    Attributes:
        run_job: runs a function on the execution thread and waits.
        max_batch: largest bucket unless the version or its model says otherwise.
        xla: whether XLA may be tried.
        timings_dir: where timings are remembered by weights and machine; None to measure each time.
        threads: within an operation and operations at once, as they are set; part of what makes a machine.
        proofs: tries versions in a process of their own before they are loaded here; None trusts them.
        backend: finds the backend of a kind of artifact.
    """

    run_job: RunJob[Any]
    max_batch: int
    xla: bool = True
    timings_dir: Path | None = None
    threads: tuple[int, int] = (1, 1)
    proofs: Proofs | None = None
    backend: Callable[[str, tuple[int, int]], Backend] = configured

    def load(self, place: VersionOnDisk, max_batch: int | None = None) -> LiveVersion:
        """Do everything that stands between a directory and its first answer.

        Args:
            place: the directory.
            max_batch: the model's own limit from `serving.toml`.

        Raises:
            VersionRefused: at the first check that fails, with the reason.
        """
        try:
            return self._load(place, max_batch)
        except VersionRefused:
            raise
        except Exception as error:
            check = check_of(error, "load")
            if check == "load":
                _log.exception("load_failed", model=place.path.parent.name, version=place.number)
            message = f"loading failed: {type(error).__name__}: {str(error)[:200]}"
            raise VersionRefused(message, check=check) from error

    def _load(self, place: VersionOnDisk, max_batch: int | None) -> LiveVersion:
        manifest = read_version(place.path)
        verify_checksums(place.path, manifest)
        if self.proofs is None:
            return self.prove(place.path, manifest, max_batch)
        # In a process of its own first: what crashes, hangs or eats memory must not do so here, where others are served.
        software = self.backend(manifest.artifact, self.threads).software()
        tried = self.proofs.require(place.path, manifest, software)
        live = self.prove(place.path, replace(manifest, inputs=tried.with_lengths(manifest.inputs)), max_batch)
        live.sandbox = tried.sandbox
        return live

    def prove(self, directory: Path, manifest: Manifest, max_batch: int | None = None) -> LiveVersion:
        """Load a version whose files are known to be whole: everything `load` does but the checksums.

        The least lengths of its inputs are looked for where the manifest does not say them.

        Raises:
            VersionRefused: at the first check that fails, with the reason.
        """
        started = time.perf_counter()
        golden = read_golden(directory, manifest)
        backend = self.backend(manifest.artifact, self.threads)
        graph = backend.load(directory, manifest)
        # Before the detectors are put into the graph: what they look at has no part in what lengths it can answer.
        manifest = replace(manifest, inputs=with_least(graph, manifest.signature, golden))
        signature = manifest.signature
        outliers = _outliers(directory, manifest)
        graph = graph if outliers is None else graph.watched(outliers)
        largest = min(limit for limit in (max_batch or self.max_batch, manifest.max_batch) if limit)
        chooser = Chooser(
            signature,
            golden,
            Company(signature, golden),
            largest,
            self.run_job,
            _GPU_TOLERANCE if backend.device_kind() == "gpu" else 1.0,
        )
        memory = self._memory_path(manifest, largest)
        known = None if memory is None else recall(memory)
        ways = graph.ways(signature, self.threads, xla=self.xla)
        chosen = chooser.choose(partial(graph.executor, signature), ways, known)
        if memory is not None and (known is None or known.executor != chosen.executor.name):
            remember(memory, Measured(chosen.executor.name, list(chosen.timings)))
        return LiveVersion(
            manifest=manifest,
            executor=chosen.executor,
            costs=CostModel({timing.size: timing.mean_ms / 1e3 for timing in chosen.timings}),
            timings=chosen.timings,
            memory_bytes=graph.memory_bytes,
            load_ms=(time.perf_counter() - started) * 1e3,
            outliers=outliers,
            extract=None if outliers is None else graph.extractor(signature, outliers.layer, outliers.space),
        )

    def _memory_path(self, manifest: Manifest, largest: int) -> Path | None:
        """Where this version's timings are remembered: by everything that they depend on."""
        if self.timings_dir is None:
            return None
        backend = self.backend(manifest.artifact, self.threads)
        parts = (
            manifest.weights_sha256,
            manifest.sha256.get(OUTLIERS_FILE, ""),
            str(largest),
            " ".join(backend.executors),
            str(self.xla),
            str(self.threads),
            backend.device_kind(),
            platform.machine(),
            processor(),
            *(f"{name}={version}" for name, version in backend.software().items()),
        )
        return file_for(self.timings_dir, parts)


def _outliers(directory: Path, manifest: Manifest) -> OutlierPackage | None:
    if manifest.outliers is None:
        return None
    package = load_package(directory / OUTLIERS_FILE)
    # Clients are told the manifest's alpha and bound, and the engine goes by the file: they must not say two things.
    if package.summary() != dict(manifest.outliers):
        raise VersionRefused(f"{OUTLIERS_FILE} is not what the manifest says of it", check="outliers")
    return package
