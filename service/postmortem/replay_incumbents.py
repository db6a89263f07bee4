"""Whose answers a candidate is compared with: each sample with the version that answered it, as far as that can be run here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hoverboard.contract.signature import Signature
from hoverboard.errors import ConfigError, NotFound, VersionRefused
from hoverboard.offline.engine import resolve_version
from hoverboard.postmortem.export import ChosenVersions
from hoverboard.postmortem.recorded import RecordedVersion
from hoverboard.postmortem.window import RecordedWindow
from hoverboard.versions import read_version

__all__ = ["ReplayCandidate", "choose_incumbents"]

_RECORD_ALONE: Final = "--noise-runs 0 compares with its record alone"


@dataclass(frozen=True, slots=True)
class ReplayCandidate:
    """The version in question.

    Attributes:
        models: the models directory.
        version: its number.
        weights_sha256: of its artifact.
        signature: its contract.
    """

    models: Path
    version: int
    weights_sha256: str
    signature: Signature

    @classmethod
    def on_disk(cls, models: Path, model: str, version: int) -> ReplayCandidate:
        """As it is in the models directory.

        Raises:
            NotFound, VersionRefused: it is not there, or no good.
        """
        _, signature = resolve_version(models, model, version)
        return cls(models, version, read_version(models / model / str(version)).weights_sha256, signature)

    def answered_as(self, recorded: RecordedVersion) -> bool:
        """Whether it is this one that answered."""
        return (recorded.version, recorded.weights_sha256) == (self.version, self.weights_sha256)


def choose_incumbents(
    candidate: ReplayCandidate,
    window: RecordedWindow,
    there: Sequence[RecordedVersion],
    rows: Mapping[int, int],
    *,
    named: int | None,
    run_again: bool,
) -> ChosenVersions:
    """Every version that answered in a window's time, but for the candidate itself.

    The one that answered most is the last: the others must take the same inputs, and rows of those that cannot be compared
    are counted under the reason.

    Args:
        candidate: the version in question.
        window: which samples.
        there: versions that answered then.
        rows: how many each did, by `RecordedVersion.id`.
        named: the number of the only one that is meant, which may be the candidate; None for all but the candidate.
        run_again: whether they must be on disk as they were.

    Raises:
        ConfigError: none is left, with the reason of the one that answered most.
    """
    meant = [each for each in there if window.has_version(each.version)]
    if not meant:
        raise ConfigError(f"nothing is recorded of {window}")
    reasons: dict[int, str] = {}
    for each in meant:
        if named is None and candidate.answered_as(each):
            reasons[each.id] = (
                f"answered by version {each.version} itself, which is the candidate; --incumbent {each.version} compares it "
                "with its own record"
            )
        elif named not in (None, each.version):
            reasons[each.id] = f"answered by version {each.version}, where --incumbent names {named}"
    in_order = sorted(meant, key=lambda each: (rows[each.id], each.version, each.id), reverse=True)
    kept: list[RecordedVersion] = []
    for each in in_order:
        if each.id not in reasons:
            reason = _why_not(candidate, window.model, each, kept[0] if kept else None, run_again=run_again)
            if reason is None:
                kept.append(each)
            else:
                reasons[each.id] = reason
    if not kept:
        _refuse(candidate, window, in_order, reasons, named)
    return ChosenVersions(kept[::-1], skipped=reasons)


def _refuse(
    candidate: ReplayCandidate,
    window: RecordedWindow,
    in_order: Sequence[RecordedVersion],
    reasons: Mapping[int, str],
    named: int | None,
) -> None:
    if named is not None and all(each.version != named for each in in_order):
        answered = ", ".join(map(str, sorted({each.version for each in in_order})))
        raise ConfigError(f"version {named} answered nothing of {window}; {answered} did")
    if all(candidate.answered_as(each) for each in in_order):
        raise ConfigError(
            f"version {candidate.version} itself answered all of {window}: there is no other version's answer to compare with; "
            f"another --candidate, or --incumbent {candidate.version} for its own record, which shows repetition alone"
        )
    why = [reasons[each.id] for each in in_order if named in (None, each.version) and not candidate.answered_as(each)]
    raise ConfigError(f"nothing of {window} can be compared: it was {'; or '.join(why)}")


def _why_not(
    candidate: ReplayCandidate,
    model: str,
    incumbent: RecordedVersion,
    main: RecordedVersion | None,
    *,
    run_again: bool,
) -> str | None:
    """Why rows that a version answered cannot be compared; None where they can.

    Limits and shapes are left to each sample: it fails, and that is told.
    """
    by = f"answered by version {incumbent.version}, which"
    if incumbent.signature.task != candidate.signature.task:
        return (
            f"{by} is a {incumbent.signature.task}, and version {candidate.version} a {candidate.signature.task}: such answers "
            "cannot be compared"
        )
    given = [spec.name for spec in incumbent.signature.inputs]
    lacking = [spec.name for spec in candidate.signature.inputs if spec.name not in given]
    if lacking:
        return (
            f"{by} was not given the input {lacking[0]!r} that version {candidate.version} takes; it was given "
            f"{', '.join(sorted(given))}"
        )
    if main is not None and incumbent.signature.fingerprint != main.signature.fingerprint:
        return (
            f"{by} takes other inputs than version {main.version}; --incumbent {incumbent.version} compares these rows"
        )
    if not run_again:
        return None
    try:
        _, _ = resolve_version(candidate.models, model, incumbent.version)
        on_disk = read_version(candidate.models / model / str(incumbent.version)).weights_sha256
    except (NotFound, VersionRefused) as error:
        return f"{by} cannot be run here ({error}); {_RECORD_ALONE}"
    if on_disk != incumbent.weights_sha256:
        return f"{by} has other weights on disk now; {_RECORD_ALONE}"
    return None
