"""What a version promises about outliers, in plain words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from hoverboard.outliers import BY_NAME, OutlierSummary
from hoverboard.outliers.summary import WatchSummary

__all__ = ["promise"]

_MOST_NAMES: Final = 12


def promise(manifest: Mapping[str, Any] | None) -> str | None:
    """A few sentences from a manifest; None where nothing is known of the version.

    Args:
        manifest: as `models.describe` shows it.
    """
    if manifest is None:
        return None
    summary = OutlierSummary.of(manifest)
    if summary is None:
        return "It was published without calibration samples: p_value and outlier are null."
    level = (
        f"Of samples like those it was calibrated on, about {summary.alpha:.2%} are called outliers. The level was set by "
        f"{summary.calibration_points:,} samples, never used for training or fitting; with 95% confidence the true share is below "
        f"{summary.upper_bound:.2%}."
    )
    sentences = [level, f"Detector: {summary.detector}, looking at {_where(summary)}."]
    auroc = summary.auroc.get(summary.detector)
    if auroc is not None:
        sentences.append(
            f"It told {summary.classes_left_out} classes that were left out of its fit, though the model had learned them, from the "
            f"rest with a mean AUROC of {auroc:.3f}."
        )
    # A version published before inputs were watched says nothing of it.
    return " ".join([*sentences, *(_watch(summary.watch) if summary.watch else ())])


def _watch(watch: WatchSummary) -> list[str]:
    """What is watched of the inputs, and what is not."""
    numbers, sets, rest = watch.numbers, watch.sets, watch.unwatched
    kinds = []
    if numbers:
        kinds.append(f"numbers far out ({_some(numbers)})")
    if sets:
        kinds.append(f"values never seen ({_some([f'{name}: {count} known' for name, count in sets.items()])})")
    sentences = [f"Beside it, inputs are watched for {' and '.join(kinds)}."] if kinds else []
    if rest:
        sentences.append(f"Inputs not watched: {_some([f'{name} ({why})' for name, why in rest.items()])}.")
    return sentences


def _some(words: Sequence[str]) -> str:
    shown = ", ".join(words[:_MOST_NAMES])
    return shown if len(words) <= _MOST_NAMES else f"{shown} and {len(words) - _MOST_NAMES} more"


def _where(summary: OutlierSummary) -> str:
    detector = BY_NAME.get(summary.detector)
    if detector is not None and detector.needs != "z":
        return {"logits": "the model's logits", "inputs": "the model's numeric inputs"}[detector.needs]
    if summary.space == "features":
        return f"the model's features (layer {summary.layer})"
    return f"the model's {summary.space}"
