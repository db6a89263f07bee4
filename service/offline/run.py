"""`predict --input FILE --output FILE`: from what was asked for to a finished output."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from hoverboard.codec.rows import RowsCodec
from hoverboard.contract.calls import EnginePort
from hoverboard.contract.signature import STRING, Signature, TensorSpec
from hoverboard.errors import ConfigError
from hoverboard.offline.engine import one_version, resolve_version
from hoverboard.offline.job import Job, Pace, Summary
from hoverboard.offline.parts import PartFormat, open_format
from hoverboard.offline.rows import RowPosition, RowSource
from hoverboard.offline.scorer import Scorer
from hoverboard.offline.sources import open_source
from hoverboard.offline.workspace import Checkpoint, Workspace
from hoverboard.outliers.summary import alpha_of
from hoverboard.version import __version__

__all__ = ["OfflineVersion", "Plan", "RunOptions", "live_version", "pace_for", "prepare", "run"]

# 16 MB of float32 in all calls under way; as Python values, where rows are read as such, several times that.
_ELEMENTS_IN_FLIGHT: Final = 4_000_000
_BUCKETS_A_CALL: Final = 8
_ASSUMED_DIMENSION: Final = 1024
_ASSUMED_TEXT: Final = 256


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What a run is to do.

    Attributes:
        model: a model's name.
        input: .parquet, .jsonl, .ndjson or .csv.
        output: .parquet, .jsonl or .ndjson.
        models: the models directory.
        version: a number; None for the stable one.
        top_k: classes named for each row.
        outputs: whether predictions carry whole outputs.
        keep: columns carried over from the input.
        keep_all: carry all of them over.
        prefix: put before the name of every column that the run adds.
        strict: stop at the first row without a prediction.
        overwrite: replace an output that is there already.
        restart: throw an unfinished run of this output away.
        batch_rows: rows of one engine call; None chooses by the size of a row.
    """

    model: str
    input: Path
    output: Path
    models: Path
    version: int | None = None
    top_k: int = 1
    outputs: bool = False
    keep: tuple[str, ...] = ()
    keep_all: bool = False
    prefix: str = ""
    strict: bool = False
    overwrite: bool = False
    restart: bool = False
    batch_rows: int | None = None

    def identity(self) -> dict[str, Any]:
        """What must be equal for an unfinished run to be gone on with; the input's size and time stand for it."""
        status = self.input.stat()
        return {
            "model": self.model,
            "version": self.version,
            "input": str(self.input.resolve()),
            "input_size": status.st_size,
            "input_mtime_ns": status.st_mtime_ns,
            "top_k": self.top_k,
            "outputs": self.outputs,
            "keep": list(self.keep),
            "keep_all": self.keep_all,
            "prefix": self.prefix,
        }


@dataclass(frozen=True, slots=True)
class Plan:
    """A run that can begin: everything that could be checked without the model has been.

    Attributes:
        asked: what was asked for.
        workspace: locked by the caller.
        checkpoint: where it begins.
        signature: of the version that answers.
        source: what is read.
        form: what is written.
    """

    options: RunOptions
    workspace: Workspace
    checkpoint: Checkpoint
    signature: Signature
    source: RowSource
    form: PartFormat[Any]

    @property
    def resumed(self) -> bool:
        """Whether an earlier run left something to go on from."""
        return self.checkpoint.parts > 0


def prepare(options: RunOptions, workspace: Workspace) -> Plan:
    """Check what was asked for and find where to begin.

    Raises:
        ConfigError: the input, the output, the model or an unfinished run does not suit what was asked for.
        NotFound: no such model or version.
    """
    if not options.input.is_file():
        raise ConfigError(f"there is no file {options.input}")
    checkpoint = _checkpoint(options, workspace)
    # The version of the checkpoint counts: one output is of one version, also when another became stable since.
    version, signature = resolve_version(options.models, options.model, checkpoint.version or options.version)
    about = {"model": options.model, "version": str(version), "software": __version__}
    form = open_format(options.output, signature, outputs=options.outputs, prefix=options.prefix, about=about)
    source = open_source(options.input, signature, keep=options.keep, keep_all=options.keep_all)
    form.check_kept(source.kept)
    if not checkpoint.version:
        checkpoint = Checkpoint(options.identity(), version)
    return Plan(options, workspace, checkpoint, signature, source, form)


def _checkpoint(options: RunOptions, workspace: Workspace) -> Checkpoint:
    """The checkpoint to go on from, or one of version 0 where nothing has been done."""
    if options.restart:
        workspace.clear()
    checkpoint = workspace.load()
    if checkpoint is None:
        if options.output.exists() and not options.overwrite:
            raise ConfigError(f"{options.output} is there already; --overwrite replaces it")
        return Checkpoint(options.identity(), 0)
    differing = [name for name, value in options.identity().items() if checkpoint.job.get(name) != value]
    if differing:
        raise ConfigError(
            f"{workspace.folder} holds an unfinished run with another {differing[0].replace('_', ' ')}; "
            "--restart throws it away"
        )
    return checkpoint


@dataclass(frozen=True, slots=True)
class OfflineVersion:
    """A version in an engine of this process, which carries out any number of plans.

    Attributes:
        engine: with this version alone.
        model, version: which one.
        largest_bucket: rows that run at once.
    """

    engine: EnginePort
    model: str
    version: int
    largest_bucket: int

    def scorer(self, plan: Plan) -> Scorer:
        """What answers the rows of a plan."""
        options = plan.options
        status = self.engine.catalog.models[self.model].version(self.version)
        alpha = alpha_of(status.manifest if status else None)
        # What it was tried with may have told the least lengths that an old manifest does not say.
        signature = (status and status.signature) or plan.signature
        codec = RowsCodec(signature, top_k=options.top_k, outputs=options.outputs, alpha=alpha)
        return Scorer(self.engine, codec, self.model, self.version, signature.fingerprint, codec.wants_outputs)

    async def run(self, plan: Plan, progress: Callable[[RowPosition], None]) -> Summary:
        """Carry a plan out; see `run`."""
        pace = pace_for(plan.signature, self.largest_bucket, plan.options.batch_rows)
        job = Job(plan.source, self.scorer(plan), plan.form, plan.workspace, pace, plan.options.strict, progress)
        return await job.run(plan.checkpoint)


@asynccontextmanager
async def live_version(models: Path, model: str, version: int) -> AsyncIterator[OfflineVersion]:
    """A version, live as long as the context.

    Raises:
        VersionRefused: it cannot go live, and why.
    """
    async with one_version(models, model, version) as (engine, largest_bucket):
        yield OfflineVersion(engine, model, version, largest_bucket)


async def run(plan: Plan, progress: Callable[[RowPosition], None]) -> Summary:
    """Carry a plan out, in this process.

    Raises:
        VersionRefused: the version cannot go live, and why.
        RowRefused: strict, and a row has no prediction.
    """
    async with live_version(plan.options.models, plan.options.model, plan.checkpoint.version) as live:
        return await live.run(plan, progress)


def pace_for(signature: Signature, largest_bucket: int, batch_rows: int | None = None) -> Pace:
    """Calls of several full buckets, as far as memory allows: large rows travel in small calls.

    Args:
        signature: tells the size of a row.
        largest_bucket: rows that run at once.
        batch_rows: rows of one call, where it is given.
    """
    if batch_rows is None:
        row = sum(_elements(spec) for spec in signature.inputs)
        in_memory = _ELEMENTS_IN_FLIGHT // (row * Pace().in_flight)
        batch_rows = max(1, min(_BUCKETS_A_CALL * largest_bucket, in_memory))
    return replace(Pace(), batch_rows=batch_rows)


def _elements(spec: TensorSpec) -> int:
    size = math.prod(_ASSUMED_DIMENSION if dim is None else dim for dim in spec.shape)
    return size * (_ASSUMED_TEXT if spec.dtype == STRING else 1)
