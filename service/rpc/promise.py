"""What a version promises about outliers, in plain words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from hoverboard.outliers import BY_NAME

__all__ = ["promise"]

_MOST_NAMES: Final = 12


def promise(manifest: Mapping[str, Any] | None) -> str | None:
    """A few sentences from a manifest; None where nothing is known of the version.

    Args:
        manifest: as `models.describe` shows it.
    """
    if manifest is None:
        return None
    found = manifest.get("outliers")
    if not found:
        return "It was published without calibration samples: p_value and outlier are null."
    alpha, points = found["alpha"], found["calibration_points"]
    level = (
        f"Of samples like those it was calibrated on, about {alpha:.2%} are called outliers. The level was set by {points:,} "
        f"samples, never used for training or fitting; with 95% confidence the true share is below {found['bound']:.2%}."
    )
    sentences = [level, f"Detector: {found['detector']}, looking at {_where(found)}."]
    auroc = (found.get("auroc") or {}).get(found["detector"])
    if auroc is not None:
        classes = found["classes_left_out"]
        sentences.append(
            f"It told {classes} classes that were left out of its fit, though the model had learned them, from the rest with a "
            f"mean AUROC of {auroc:.3f}."
        )
    return " ".join([*sentences, *_watch(found.get("watch"))])


def _watch(found: Mapping[str, Any] | None) -> list[str]:
    """What is watched of the inputs, and what is not; nothing for a version published before they were."""
    if found is None:
        return []
    numbers, sets, rest = found["numbers"], found["sets"], found["not"]
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


def _where(found: Mapping[str, Any]) -> str:
    detector = BY_NAME.get(found["detector"])
    if detector is not None and detector.needs != "z":
        return {"logits": "the model's logits", "inputs": "the model's numeric inputs"}[detector.needs]
    if found["space"] == "features":
        return f"the model's features (layer {found['layer']})"
    return f"the model's {found['space']}"
