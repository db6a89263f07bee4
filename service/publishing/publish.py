"""Publish: save, load again as the server would, derive the signature, record golden samples, prove, commit."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from hoverboard.backends.authoring import Draft
from hoverboard.backends.executor import GraphError, OutOfMemory, run_in_pieces
from hoverboard.contract.outlier import DEFAULT_ALPHA
from hoverboard.contract.signature import Array, Head, Signature, TensorSpec
from hoverboard.errors import PublishError, VersionRefused
from hoverboard.outliers import CALIBRATION_FILE, OUTLIERS_FILE, save_features, save_package
from hoverboard.publishing.agreement import agreement
from hoverboard.publishing.arguments import (
    check_contract,
    check_notes,
    check_parent,
    check_types,
    check_version,
    labels_of,
    names_of,
    rows_of,
)
from hoverboard.publishing.baseline import make_baseline
from hoverboard.publishing.calibration import Progress, calibrate, silent
from hoverboard.publishing.calibration_file import CalibrationRows, read_calibration
from hoverboard.publishing.eager import check_saved, check_trace
from hoverboard.publishing.exported import said_before, tell_doubts
from hoverboard.publishing.framework import authoring, keras
from hoverboard.publishing.golden import golden_set
from hoverboard.publishing.lengths import Lengths
from hoverboard.publishing.names import keep_names, tell_names, translated
from hoverboard.publishing.previous import compare_with_previous, numbers, previous
from hoverboard.publishing.signature import (
    apply_contract,
    default_labels,
    head_of,
    infer_task,
    main_first,
    thresholds_of,
)
from hoverboard.version import __version__
from hoverboard.versions import GoldenSet, Manifest, VersionWriter
from hoverboard.versions.baseline import BASELINE_FILE, Baseline, write_baseline
from hoverboard.versions.golden import GOLDEN_FILE
from hoverboard.versions.manifest import MANIFEST_FILE, check_name, format_of, size_problem

__all__ = ["publish"]

_TRIES = 20
_ROWS_AT_ONCE = 256


def publish(
    model: Any,
    *,
    name: str,
    models_dir: Path | str,
    samples: Sequence[Any] | Mapping[str, Any] | Array | None = None,
    labels: Sequence[str] | Array | None = None,
    task: str | None = None,
    output: str | None = None,
    head: str | None = None,
    thresholds: Mapping[str, float] | None = None,
    contract: Mapping[str, Any] | None = None,
    version: int | None = None,
    parent: int | None = None,
    notes: Any = None,
    max_batch: int | None = None,
    breaking: bool = False,
    calibration: Path | str | CalibrationRows | None = None,
    ignore_columns: Sequence[str] = (),
    alpha: float = DEFAULT_ALPHA,
    feature_layer: str | None = None,
    detector: str | None = None,
    allow_ops: Sequence[str] = (),
    export: bool = False,
    signature: str | None = None,
    progress: Progress | None = None,
) -> Path:
    """Write a model as a version, whole or not at all, and prove that it can be served.

        hoverboard.publish(model, name="digits", models_dir="models", samples=images[:8], labels=list("0123456789"))

    Args:
        model: a built `keras.Model` (functional or Sequential), or a path to a `.keras` file or SavedModel directory.
        name: the model's name, also its directory's.
        models_dir: the models directory.
        samples: instances in row form, as a client would send them, or as an array; or arrays by input name. Up to eight become
            golden samples. Without them they are drawn from the signature.
        labels: names by index, of classes or of labels; they make the model a classification, or multi-label. An array will do.
        task: `classification` (one class holds), `multi-label` (several may), `regression`, `embedding` or `raw`; told from
            labels and head when left out.
        output: name of the main output, the one that answers are read from. Left out, it is the only one with a column
            for each label, else the first; the names of a dict are sorted.
        head: what the main output holds: `softmax`, `sigmoid` or `logits`; read from the graph's last operation when left out.
        thresholds: multi-label: label -> from which probability on it holds; 0.5 for those left out.
        contract: input name -> declared limits: `min`, `max`, `min_length`, `max_length`, `allowed`, `finite`, `description`.
        version: its number; the next free one when left out.
        parent: the version it was made from.
        notes: anything JSON that is worth keeping: data, figures, licence.
        max_batch: largest batch it may be run with.
        breaking: publish it even where callers of the version before it may break on it.
        calibration: samples like those to come, with labels, none of which the model was trained on: the path of a file
            (`.npz`, `.parquet`, `.csv` or `.jsonl`) with a column for each input and one named `label`, or `CalibrationRows`.
            With them the version answers how usual each sample is.
        ignore_columns: columns of the calibration file that are neither inputs nor labels.
        alpha: the share of normal samples that may be called outliers.
        feature_layer: whose output detectors look at; the one before the last dense layer when left out.
        detector: the one that answers, by name; the best at telling classes left out when left out.
        allow_ops: operations that the graph may hold beside the usual ones, by TensorFlow's names.
        export: write a Keras model as a SavedModel, which needs no Python of its own; features for outliers are then outputs or inputs.
        signature: which signature of a SavedModel answers; `serving_default`, or the only one, when left out.
        progress: told the step that runs now, and the share of it that is done: `reading`, `golden`, `comparing`, those of
            calibration (`features`, `choosing`, `fitting`), `trial`, `writing`.

    Returns:
        The version's directory.

    Raises:
        PublishError: what was given cannot become a version; one sentence that says why.
    """
    check_types(model, locals())
    try:
        check_name(name)
    except ValueError as error:
        raise PublishError(str(error)) from error
    check_version(version)
    check_contract(contract)
    check_notes(notes)
    rows, classes, ignored, ops = (
        rows_of(samples),
        labels_of(labels),
        names_of(ignore_columns, "ignore_columns"),
        names_of(allow_ops, "allow_ops"),
    )
    if not isinstance(calibration, Path | str | CalibrationRows | None):
        raise PublishError("calibration: expected the path of a file, or CalibrationRows")
    if calibration is None and alpha != DEFAULT_ALPHA:
        raise PublishError("alpha is for outliers: give calibration samples, too")
    report = progress or silent
    extra = authoring().further_ops(ops)
    with VersionWriter(Path(models_dir) / name) as writer:
        check_parent(parent, numbers(writer.model_dir))
        report("reading", 0.0)
        written = authoring().write(model, writer.path, extra, export=export, signature=signature)
        written, kept = keep_names(written, previous(writer.model_dir, version))
        graph, called, names = written.graph, written.called, written.names
        report("golden", 0.0)
        agreed, golden = _contract_of(
            graph,
            rows,
            classes,
            task,
            contract and {translated(key, names.inputs): limits for key, limits in contract.items()},
            output=output and translated(output, names.outputs),
            head=head,
            doubt=written.doubt,
        )
        agreed = replace(agreed, thresholds=thresholds_of(agreed.labels, agreed.task, thresholds))
        report("comparing", 0.0)
        if not export:  # which names outputs in its own way
            check_saved(model, agreed, golden, names)
        check_trace(called, graph, agreed, golden)
        (writer.path / GOLDEN_FILE).write_bytes(golden.to_json(agreed))
        manifest = Manifest(
            name=name,
            version=version or 1,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            artifact=written.artifact,
            task=agreed.task,
            inputs=agreed.inputs,
            outputs=agreed.outputs,
            labels=agreed.labels,
            head=agreed.head,
            thresholds=agreed.thresholds,
            format=format_of(agreed.task, signature, names),
            saved_signature=signature,
            graph_names=names,
            software=_software(),
            parent=parent,
            max_batch=max_batch,
            breaking=breaking,
            outliers=None if calibration is None else {},
            sha256={},
            allowed_ops=extra,
            notes=notes,
        )
        problem = manifest.problem() or size_problem(manifest.to_json())
        if problem:
            raise PublishError(problem)
        compare_with_previous(writer.model_dir, manifest, version)  # now, since calibration may take long
        if calibration is not None:
            if not isinstance(calibration, CalibrationRows):
                calibration = replace(
                    read_calibration(Path(calibration), agreed, ignore=ignored),
                    notes=(*tell_doubts(Path(calibration), alpha), *said_before(Path(calibration))),
                )
            report("features", 0.0)
            outliers = _calibrated(
                graph,
                agreed,
                calibration,
                writer.path,
                alpha=alpha,
                layer=feature_layer,
                detector=detector,
                progress=report,
                max_batch=max_batch,
            )
            manifest = replace(manifest, outliers=outliers)
        elif feature_layer is not None or detector is not None:
            what = "a feature layer" if detector is None else "a detector"
            raise PublishError(f"{what} is for outliers: give calibration samples, too")
        manifest = replace(manifest, sha256=writer.checksums())
        report("trial", 0.0)
        _prove(writer.path, manifest)
        report("writing", 0.0)
        place = _commit(writer, manifest, version)
    tell_names(manifest, kept)
    return place


def _contract_of(
    graph: Draft,
    instances: Sequence[Any] | None,
    labels: Sequence[str] | None,
    task: str | None,
    contract: Mapping[str, Any] | None,
    *,
    output: str | None,
    head: str | None,
    doubt: str,
) -> tuple[Signature, GoldenSet]:
    """The signature, and golden samples that suit it with the outputs they give; `doubt` is told where they do not."""
    graph = _traced(graph)
    outputs = main_first(graph.outputs, output, labels, task)
    first = outputs[0]
    ends = _head_in(graph, outputs) if labels or task in ("classification", "multi-label") else None
    found = infer_task(task, labels, first, head or ends)
    names = tuple(labels) if labels else None
    labelled = found in ("classification", "multi-label")
    if labelled and names is None:
        names = default_labels(first)
    if names and len(set(names)) != len(names):
        raise PublishError("labels: two of them are the same")
    if head is not None and not labelled:
        raise PublishError(
            f"head: {head} is what an output of classes or labels holds, and this one has none; give labels"
        )
    inputs = apply_contract(graph.inputs, contract)
    signature = Signature(found, inputs, outputs, names if labelled else None)
    try:
        lengths = Lengths(graph, signature)
        golden = golden_set(graph, signature, lengths, instances)
    except PublishError as error:
        raise PublishError(f"{error}{doubt}") from error
    signature = replace(signature, inputs=lengths.least(golden))
    if labelled and len(first.shape) == 1:
        rows = np.concatenate([sample.outputs[0] for sample in golden.samples])
        signature = replace(signature, head=head_of(ends, head, found, first, rows))
    return signature, golden


def _traced(graph: Draft) -> Draft:
    try:
        return graph.as_traced()
    except VersionRefused as refusal:
        raise PublishError(str(refusal)) from refusal


def _head_in(graph: Draft, outputs: Sequence[TensorSpec]) -> Head | None:
    try:
        return graph.head(Signature("raw", graph.inputs, tuple(outputs)))
    except VersionRefused as refusal:
        raise PublishError(str(refusal)) from refusal


def _calibrated(
    graph: Draft,
    signature: Signature,
    rows: CalibrationRows,
    directory: Path,
    *,
    alpha: float,
    layer: str | None,
    detector: str | None,
    progress: Progress,
    max_batch: int | None,
) -> Mapping[str, Any]:
    """Write `outliers.npz`, `calibration.npz` and `baseline.arrow`; returns what the manifest says of outliers."""
    # Not all rows at once where the publisher says so: a graph may mix the rows of a batch.
    at_once = min(max_batch or _ROWS_AT_ONCE, _ROWS_AT_ONCE)
    extractor = graph.extractor(signature, layer, rows=at_once)
    try:
        package = calibrate(
            extractor,
            rows,
            inputs=signature.inputs,
            classes=signature.labels if signature.task == "classification" else None,
            layer=extractor.layer,
            detector=detector,
            alpha=alpha,
            progress=progress,
        )
        scored = graph.watched(package).executor(signature)
        *outputs, _ = run_in_pieces(scored, rows.columns, at_once)
        baseline = _baseline(signature, rows, outputs, package.points)
        package = replace(package, notes=(*package.notes, *agreement(signature, outputs[0], rows.labels)))
    except (GraphError, OutOfMemory) as error:
        raise PublishError(f"calibration: the model fails on one of the samples: {error}") from error
    save_package(package, directory / OUTLIERS_FILE)
    if package.kept is not None:
        save_features(package.kept, directory / CALIBRATION_FILE)
    write_baseline(directory / BASELINE_FILE, baseline)
    return package.summary()


def _baseline(signature: Signature, rows: CalibrationRows, outputs: Sequence[Array], points: int) -> Baseline:
    """Bins and counts of what was calibrated on: what later traffic is compared with."""
    # As those of normal samples are: these rows' own would not do, since the detector was fitted on some of them.
    p_values = np.arange(1, points + 2) / (points + 1)
    return make_baseline(signature, rows.columns, outputs, p_values)


def _prove(directory: Path, manifest: Manifest) -> None:
    """Load it the way the server does, in a process that knows nothing of this one: every bucket, every golden sample."""
    from hoverboard.engine.models.proofs import try_version

    (directory / MANIFEST_FILE).write_bytes(manifest.to_json())
    try:
        try_version(directory, manifest.max_batch or 64)
    except VersionRefused as error:
        said = (
            "the version could not be tried on this machine now"
            if error.passing
            else "the server would refuse this version"
        )
        raise PublishError(f"{said}: {error}") from error


def _commit(writer: VersionWriter, manifest: Manifest, version: int | None) -> Path:
    """Take the wished-for number, or the next free one even while others publish."""
    if version is not None:
        compare_with_previous(writer.model_dir, manifest, version)
        return writer.commit(manifest)
    # Two who publish at once may have seen the same highest number; the rename lets only one of them have it.
    for _ in range(_TRIES):
        compare_with_previous(writer.model_dir, manifest, None)
        number = max(numbers(writer.model_dir), default=0) + 1
        try:
            return writer.commit(replace(manifest, version=number))
        except PublishError:
            if not (writer.model_dir / str(number)).exists():
                raise
    raise PublishError(f"{writer.model_dir}: others publish too quickly; try again")


def _software() -> dict[str, str]:
    return {**keras().software(), "python": platform.python_version(), "hoverboard": __version__}
