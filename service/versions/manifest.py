"""`manifest.json`: what a version is, what it takes and answers, and the checksums of its files."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from hoverboard.contract.heads import two_in_one
from hoverboard.contract.signature import NUMERIC_DTYPES, STRING, Head, Signature, Task, TensorSpec
from hoverboard.errors import VersionRefused

__all__ = [
    "ARTIFACTS",
    "FORMAT",
    "KERAS_FILE",
    "MANIFEST_FILE",
    "MOST_BYTES",
    "SAVED_MODEL_DIR",
    "GraphNames",
    "Manifest",
    "check_name",
    "format_of",
    "least_problem",
    "size_problem",
]

FORMAT: Final = 3
_FIRST_FORMAT: Final = 1
MANIFEST_FILE: Final = "manifest.json"
KERAS_FILE: Final = "model.keras"
SAVED_MODEL_DIR: Final = "saved_model"
ARTIFACTS: Final[Mapping[str, str]] = {KERAS_FILE: "tensorflow", SAVED_MODEL_DIR: "tensorflow"}
"""What a model's file (with a suffix) or directory (without) is called -> the folder of `backends/` that runs it."""
_KIB: Final = 1024
MOST_BYTES: Final = 4 * _KIB * _KIB
"""Of the whole file."""
_MOST_OF: Final[Mapping[str, int]] = {
    "created": 100,
    "notes": 64 * _KIB,
    "software": 64 * _KIB,
    "allowed_ops": 64 * _KIB,
    "saved_signature": _KIB,
    "graph_names": 1024 * _KIB,
    "outliers": 512 * _KIB,
    "outputs": 1024 * _KIB,
    "thresholds": 2048 * _KIB,
    "inputs": 3072 * _KIB,
    "labels": 3072 * _KIB,
}
"""Bytes of a field's JSON: every process keeps what a version says of itself, and tells it again with each change."""
_MOST_LABELS: Final = 100_000
_MOST_SPECS: Final = 10_000
_LONGEST_LABEL: Final = 1024
_LONGEST_DESCRIPTION: Final = 2048
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


def check_name(name: str) -> str:
    """Return a model's name if it can be a directory, a label and part of a URL.

    Raises:
        ValueError: one sentence that says what a name may be.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(f"model name {name!r}: use 1 to 64 letters, digits, '_', '-' or '.', not starting with a sign")
    return name


@dataclass(frozen=True, slots=True)
class GraphNames:
    """What the graph itself calls a version's inputs and outputs, by the version's names; those that are the same are left out."""

    inputs: Mapping[str, str] = field(default_factory=dict)
    outputs: Mapping[str, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.inputs or self.outputs)

    def after(self, first: GraphNames) -> GraphNames:
        """Names of names: these, of a graph that was renamed before."""
        return GraphNames(_after(self.inputs, first.inputs), _after(self.outputs, first.outputs))


def _after(names: Mapping[str, str], first: Mapping[str, str]) -> dict[str, str]:
    rest = {name: own for name, own in first.items() if name not in names.values()}
    return rest | {name: first.get(own, own) for name, own in names.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What `manifest.json` holds.

    Attributes:
        format: of this file; a reader refuses a newer one. A higher one is written only where older readers would be wrong
            (`format_of`).
        name, version: also the directory's.
        created: ISO 8601, UTC.
        artifact: the model's file or directory, one of `ARTIFACTS`.
        task, inputs, outputs, labels, head, thresholds: the signature.
        software: versions that wrote the model, by package; `backend` is Keras's.
        parent: the version this one was made from.
        outliers: what the version promises about outliers, `OutlierPackage.summary()`; None without calibration.
        max_batch: largest batch bucket the publisher allows; None for the server's default.
        breaking: whether the publisher knew that it breaks callers of the version before it (`compare`); None in a
            manifest from before versions were compared.
        allowed_ops: operations of the graph that the publisher allows beside the usual ones, by name.
        saved_signature: which signature of a SavedModel answers, where its publisher said so; without it `serving_default`,
            or the first.
        graph_names: where inputs or outputs are called otherwise than in the graph.
        sha256: relative path -> hex digest of every other file.
        notes: the publisher's own, JSON.
    """

    format: int = _FIRST_FORMAT
    name: str
    version: int
    created: str
    artifact: str
    task: Task
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    sha256: Mapping[str, str]
    labels: tuple[str, ...] | None = None
    head: Head = "softmax"
    thresholds: tuple[float, ...] | None = None
    software: Mapping[str, str] = field(default_factory=dict)
    parent: int | None = None
    max_batch: int | None = None
    breaking: bool | None = None
    outliers: Mapping[str, Any] | None = None
    allowed_ops: tuple[str, ...] = ()
    saved_signature: str | None = None
    graph_names: GraphNames = GraphNames()
    notes: Any = None

    @property
    def signature(self) -> Signature:
        """The contract callers see."""
        return Signature(self.task, self.inputs, self.outputs, self.labels, self.head, self.thresholds)

    @property
    def weights_sha256(self) -> str:
        """One digest that stands for the artifact: the file's own, or of the digests of all files of a directory."""
        if "." in self.artifact:
            return self.sha256.get(self.artifact, "")
        parts = sorted(f"{path}:{digest}" for path, digest in self.sha256.items() if path.startswith(self.artifact))
        return _sha256_text("\n".join(parts))

    def public(self) -> dict[str, Any]:
        """JSON-ready values for `models.describe`: everything but the per-file checksums."""
        values: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(self))
        del values["sha256"]
        values["weights_sha256"] = self.weights_sha256
        return values

    @classmethod
    def of_public(cls, values: Mapping[str, Any]) -> Manifest:
        """Read what `public` gives, from here or from a server; it knows no checksums.

        Raises:
            VersionRefused: as `from_json` does.
        """
        return cls.from_json(msgspec.json.encode({**values, "sha256": {}}))

    def to_json(self) -> bytes:
        """The file's bytes: indented, keys in declaration order."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n"

    @classmethod
    def from_json(cls, text: bytes) -> Manifest:
        """Read the file's bytes.

        Raises:
            VersionRefused: not JSON, a wrong or missing field (named), a newer format, or a signature that
                contradicts itself, or a field that is too large.
        """
        try:
            problem = size_problem(text)
            if problem is None:  # what is too large is not read
                manifest = msgspec.json.decode(text, type=cls)
                problem = manifest.problem()
        except (ValueError, RecursionError) as error:
            why = _newer_format(text) or _words(error)
            raise VersionRefused(f"{MANIFEST_FILE}: {why}", check="manifest") from error
        if problem:
            raise VersionRefused(f"{MANIFEST_FILE}: {problem}", check="manifest")
        return manifest

    def problem(self) -> str | None:
        """The first thing in it that makes no sense, or None."""
        # The format comes first: fields of a newer one may mean something else.
        if self.format > FORMAT:
            return f"format {self.format} is newer than this server's {FORMAT}: upgrade the server"
        if self.max_batch is not None and self.max_batch < 1:
            return f"max_batch: expected a number above 0, got {self.max_batch}"
        if not self.inputs or not self.outputs:
            return "at least one input and one output are needed"
        for spec in (*self.inputs, *self.outputs):
            if spec.dtype not in (*NUMERIC_DTYPES, STRING):
                return f"{spec.name}: dtype {spec.dtype} is not supported"
            if spec.min_length is not None and (problem := least_problem(spec)):
                return f"{spec.name}: min_length {problem}"
        if self.parent is not None and self.parent < 1:
            return f"parent: expected a version's number, above 0, got {self.parent}"
        for specs in (self.inputs, self.outputs):
            if len({spec.name for spec in specs}) != len(specs):
                return "two inputs or two outputs share a name"
        problems = (self._limits_problem(), self._naming_problem(), self._task_problem(), self._travel_problem())
        return next(filter(None, problems), None)

    def _limits_problem(self) -> str | None:
        """An artifact that nobody runs, limits of an input that no call could keep to, or more inputs than anybody has."""
        if self.artifact not in ARTIFACTS:
            return f"artifact {self.artifact!r:.100} is not known: {', '.join(ARTIFACTS)}"
        if max(len(self.inputs), len(self.outputs)) > _MOST_SPECS:
            return f"at most {_MOST_SPECS} inputs and as many outputs are read"
        for spec in self.inputs:
            low, high = spec.min, spec.max
            if low is not None and high is not None and low > high:
                return f"input {spec.name}: min {low:g} is above max {high:g}, so that every call would be refused"
            if spec.max_length is not None and spec.max_length < 0:
                return f"input {spec.name}: max_length: expected a number of at least 0, got {spec.max_length}"
            if spec.allowed is not None and not spec.allowed:
                return f"input {spec.name}: allowed: the list is empty, so that every call would be refused"
            if len(spec.description.encode(errors="replace")) > _LONGEST_DESCRIPTION:
                return f"input {spec.name}: description: longer than {_LONGEST_DESCRIPTION} bytes"
        return None

    def _naming_problem(self) -> str | None:
        """Labels that could not be told apart, or not be recorded."""
        if len(self.labels or ()) > _MOST_LABELS:
            return f"labels: {len(self.labels or ())} of them, at most {_MOST_LABELS} are read"
        seen = set()
        for index, label in enumerate(self.labels or ()):
            if label in seen:
                return f"labels: {label[:40]!r} comes twice, so that nobody could tell which class was meant"
            seen.add(label)
            if "\0" in label:
                return f"labels: label {index} holds a zero byte, which Postgres cannot keep"
            if len(label.encode(errors="replace")) > _LONGEST_LABEL:
                return f"labels: label {index} is longer than {_LONGEST_LABEL} bytes"
        return None

    def _travel_problem(self) -> str | None:
        """Why it cannot go from process to process, which one that cannot would keep all other models from, too."""
        try:
            msgspec.msgpack.encode(self)
        except (OverflowError, ValueError):
            return "it holds an integer past 64 bits, or a text that is no UTF-8"
        return None

    def _task_problem(self) -> str | None:
        first = self.outputs[0]
        if self.thresholds is not None and self.task != "multi-label":
            return f"thresholds are for multi-label versions, not for a {self.task}"
        if self.task == "multi-label":
            return self._labels_problem(first)
        if self.task == "regression" and first.shape not in ((), (1,)):
            return f"a regression's first output has one number a sample, {first.name} has shape {list(first.shape)}"
        if self.task != "classification":
            return None
        if not self.labels:
            return "a classification needs labels"
        if len(first.shape) != 1 or first.shape[0] is None:
            return f"a classification's first output has shape [classes], {first.name} has {list(first.shape)}"
        if self.head == "sigmoid" and first.shape != (1,):
            return f"a sigmoid head has shape [1], {first.name} has {list(first.shape)}"
        classes = 2 if two_in_one(self.head, first.shape, self.labels) else first.shape[0]
        if classes != len(self.labels):
            return f"{len(self.labels)} labels for {classes} classes of output {first.name}"
        return None

    def _labels_problem(self, first: TensorSpec) -> str | None:
        if not self.labels:
            return "a multi-label version needs labels"
        if first.shape != (len(self.labels),):
            shape = list(first.shape)
            return f"a multi-label version's first output has a column for each of {len(self.labels)} labels, {first.name} has {shape}"
        if self.head == "softmax":
            return f"a multi-label version's output is a sigmoid or logits for each label, {first.name} is a softmax"
        if self.thresholds is not None and len(self.thresholds) != len(self.labels):
            return f"{len(self.thresholds)} thresholds for {len(self.labels)} labels"
        if any(not 0 <= threshold <= 1 for threshold in self.thresholds or ()):
            return "thresholds are probabilities, from 0 to 1"
        return None


def format_of(task: Task, saved_signature: str | None, graph_names: GraphNames) -> int:
    """The lowest format whose readers understand a manifest: 2 knows multi-label; 3 a chosen signature, and names of our own."""
    if saved_signature is not None or graph_names:
        return 3
    return 2 if task == "multi-label" else _FIRST_FORMAT


def least_problem(spec: TensorSpec) -> str | None:
    """What is wrong with an input's `min_length`, or None; goes on after its name."""
    least, free = spec.min_length, spec.shape.count(None)
    if isinstance(least, tuple) and len(least) != free:
        return f"has {len(least)} numbers for {free} variable dimensions"
    if not free and least:
        return f"is for variable dimensions, its shape is {list(spec.shape)}"
    if min(spec.least, default=0) < 0:
        return "is below 0"
    most = None if spec.dtype == STRING else spec.max_length  # of a string's bytes
    if most is not None and any(
        dim is None and least > most for dim, least in zip(spec.shape, spec.least, strict=True)
    ):
        return f"is above max_length, {most}"
    return None


def size_problem(text: bytes) -> str | None:
    """The first field of a manifest's JSON that is larger than a field of its kind may be, or None.

    Raises:
        ValueError: no JSON object.
    """
    if len(text) > MOST_BYTES:
        return f"larger than {MOST_BYTES // _KIB**2} MiB"
    fields = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
    for name, most in _MOST_OF.items():
        raw = bytes(fields.get(name, b""))
        if len(raw) > most and len(msgspec.json.format(raw, indent=-1)) > most:  # however it is laid out
            return f"{name}: larger than {most // _KIB} KiB" if most >= _KIB else f"{name}: larger than {most} bytes"
    return None


def _words(error: BaseException) -> str:
    return "it is no UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)


def _newer_format(text: bytes) -> str | None:
    try:
        values = msgspec.json.decode(text)
    except (ValueError, RecursionError):
        return None
    number = values.get("format") if isinstance(values, dict) else None
    if isinstance(number, int) and number > FORMAT:
        return f"format {number} is newer than this server's {FORMAT}: upgrade the server"
    return None


def _sha256_text(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
