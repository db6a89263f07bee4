"""What to know before a figure of quality is believed, in sentences; and what to type next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Final

from hoverboard.postmortem.estimates import difference, wilson
from hoverboard.postmortem.quality_report import VersionDifference, VersionQuality
from hoverboard.shell import shell_word

__all__ = ["comparable", "next_commands", "notes"]

_PLURALS: Final = {"ordinary": "ordinary ones", "low margin": "ones of low margin", "outlier": "outliers"}
_FEW: Final = 30
_MATURE: Final = 1.5
"""Versions of which one has so many times the share of labels of the other are not compared as if both had all."""
_LEAST_SHIFT: Final = 0.05
"""A part of the labelled rows that must be of another kind before it matters."""


def comparable(first: VersionQuality, second: VersionQuality) -> bool:
    """Whether about as large a share of both has labels."""
    low, high = sorted([first.labelled_share, second.labelled_share])
    return high <= _MATURE * low


def notes(
    within: timedelta | None,
    versions: Sequence[VersionQuality],
    differences: Sequence[VersionDifference],
    disagreements: Mapping[str, Any],
    part: float,
) -> list[str]:
    """Sentences, the most important first.

    Args:
        within: how soon labels must have come; None for any time.
        versions: as judged.
        differences: between them.
        disagreements: samples that several sources labelled, and those where they differ.
        part: of the rows that were read.
    """
    found = []
    if not versions and within is not None:
        return ["No answer of this window is as old as --within asks, or nothing of it is recorded."]
    if not versions:
        return [
            "Nothing was answered in this window, or nothing of it is recorded: `hoverboard gaps` says what is missing."
        ]
    for version in versions:
        found += [f"Version {version.version}: {sentence}" for sentence in _of(version)]
    for each in differences:
        if not each.comparable:
            shares = {one.version: one.labelled_share for one in versions}
            found.append(
                f"Versions {each.against} and {each.version} do not compare as they stand: {shares[each.against]:.1%} and "
                f"{shares[each.version]:.1%} of their answers have labels, and early labels are often of what went wrong. "
                "Give --within the time after which most labels are there."
            )
    if within is not None:
        found.append("Only answers old enough count, each as it was labelled by that age.")
    if disagreements["disagree"]:
        found.append(
            f"{disagreements['several']:,} samples have labels of several sources, and {disagreements['disagree']:,} of them "
            "different ones. The latest counts; --source counts those of one."
        )
    if part < 1:
        found.append(f"Rows were counted on a random {part:.1%} of them, labels on all.")
    return found


def _of(version: VersionQuality) -> list[str]:
    if not version.labelled:
        return [_unlabelled(version)]
    found = []
    if version.effective < _FEW:
        found.append(f"its {version.labelled:,} labelled answers are too few to say much; see the intervals.")
    shift = _shift(version)
    if shift is not None:
        found.append(shift)
    missing = [kind for kind in version.kinds if not kind.labelled and kind.traffic_share >= 0.001]
    found += [
        f"none of its {_PLURALS[kind.kind]} has a label, {kind.traffic_share:.1%} of its answers: the figures leave them out."
        for kind in missing
    ]
    confidence = version.confidence
    if confidence is not None and confidence.estimate is not None and version.accuracy is not None:
        low, high = version.accuracy.low, version.accuracy.high
        other = confidence.estimate
        if confidence.method != "published" and (other.low > high or other.high < low):
            found.append(
                f"labelled answers are right in {version.accuracy.value:.1%}, and the confidences of all answers promise "
                f"{other.value:.1%}: labelled answers are not like the others, or confidences mean something else by now."
            )
    if version.left_out:
        found.append(
            f"{version.left_out:,} labels cannot be compared with its answers, and are left out; `label_problems` lists them."
        )
    unknown = [each for each in version.labels if not each.known and each.held]
    if unknown and any(each.known for each in version.labels):
        rows = sum(each.held for each in unknown)
        found.append(
            f"{rows:,} labels are classes that it does not have, such as {unknown[0].label!r}; its answers there count as wrong."
        )
    return found


def _unlabelled(version: VersionQuality) -> str:
    rows = f"none of its {version.rows:,} answers has a label yet"
    confidence = version.confidence
    if confidence is None or confidence.estimate is None:
        return f"{rows}, and it publishes no confidence to go by."
    if confidence.method == "published":
        return f"{rows}. What is shown is its own mean confidence, which nobody has checked."
    return f"{rows}. Its confidences were calibrated on {confidence.fitted_rows:,} labelled answers from before."


def _shift(version: VersionQuality) -> str | None:
    """Whether labelled rows are of other kinds than the rest, by more than chance and enough to matter."""
    apart = max(version.kinds, key=lambda kind: kind.labelled_share - kind.traffic_share)
    others = version.traffic - version.labelled_traffic
    if apart.labelled_share - apart.traffic_share < _LEAST_SHIFT or version.labelled >= version.rows or others <= 0:
        return None
    # Held against the rows without a label, since the labelled ones are a part of all.
    elsewhere = (apart.traffic_share * version.traffic - apart.labelled_share * version.labelled_traffic) / others
    gap = difference(
        wilson(apart.labelled_share, version.effective),
        wilson(min(max(elsewhere, 0.0), 1.0), version.rows - version.labelled),
    )
    if gap.low <= 0:
        return None
    alone = version.labelled_accuracy
    told = "" if alone is None else f" Of the labelled answers alone {alone.value:.1%} are right."
    return (
        f"labelled answers are no random sample: {apart.labelled_share:.1%} of them are {_PLURALS[apart.kind]}, and of all answers "
        f"{apart.traffic_share:.1%} are. Each kind weighs what it is of all answers.{told}"
    )


def next_commands(
    model: str,
    versions: Sequence[VersionQuality],
    differences: Sequence[VersionDifference],
    conditions: Sequence[str],
) -> list[str]:
    """At most three commands that answer what the report leaves open.

    Args:
        model: its name.
        versions: as judged.
        differences: between them.
        conditions: that were asked for, as `--where` has them.
    """
    found = []
    delays = [version.delay_s[1] for version in versions if version.delay_s is not None]
    if delays and not all(each.comparable for each in differences):
        asked = [word for each in conditions for word in ("--where", each)]
        words = ["hoverboard", "quality", model, *asked, "--within", _duration(max(delays))]
        found.append(" ".join(map(shell_word, words)))
    if any(version.left_out for version in versions):
        found.append('hoverboard psql -- -c "select * from label_problems limit 20"')
    return found


def _duration(seconds: float) -> str:
    """Rounded up to what people write."""
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= size:
            return f"{int(-(-seconds // size))}{unit}"
    return "1m"
