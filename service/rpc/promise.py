"""What a version promises about outliers, in plain words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from service.outliers import BY_NAME

__all__ = ["promise"]


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
    return " ".join(sentences)


def _where(found: Mapping[str, Any]) -> str:
    detector = BY_NAME.get(found["detector"])
    if detector is not None and detector.needs != "z":
        return {"logits": "the model's logits", "inputs": "the model's numeric inputs"}[detector.needs]
    if found["space"] == "features":
        return f"the model's features (layer {found['layer']})"
    return f"the model's {found['space']}"
