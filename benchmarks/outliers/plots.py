"""Pictures of what was measured."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
import numpy as np

mpl.use("agg")

from matplotlib import pyplot as plt
from numpy.typing import NDArray

from benchmarks.outliers.power import Found, Power
from benchmarks.outliers.validity import Validity
from hoverboard.outliers import CANDIDATES

__all__ = ["draw_novelty", "draw_power", "draw_validity"]

_LOOKS: Final = {
    name: (marker, f"C{place}")
    for place, (name, marker) in enumerate(
        zip(("mahalanobis", "relative_mahalanobis", "gen", "energy", "msp", "knn", "tails"), "osD^v<>", strict=True)
    )
}
"""Marker and colour of each detector: the same in every picture, whichever detectors a model has."""


def draw_validity(found: Validity, title: str, path: Path) -> None:
    """Histogram and QQ plot of the chosen detector's p-values on fresh normal samples."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    edges = np.linspace(0, 1, 21)
    shares = np.stack([np.histogram(p, edges)[0] / len(p) for p in found.p_values])
    low, high = np.quantile(shares, (0.025, 0.975), axis=0)
    middle, mean = (edges[1:] + edges[:-1]) / 2, shares.mean(axis=0)
    left.bar(middle, mean, 0.046, color="tab:blue", alpha=0.6)
    left.errorbar(middle, mean, (mean - low, high - mean), fmt="none", color="black", linewidth=0.8)
    left.axhline(0.05, color="black", linewidth=0.8, linestyle="--")
    left.set(xlabel="p-value", ylabel="share of fresh normal samples", title=f"{title}: mean and 95% of splits")
    levels = np.linspace(0.005, 1, 200)
    curves = np.stack([_cumulative(p, levels) for p in found.p_values])
    low, middle_curve, high = np.quantile(curves, (0.025, 0.5, 0.975), axis=0)
    right.fill_between(levels, low, high, alpha=0.25, linewidth=0, label="95% of splits")
    right.plot(levels, middle_curve, label="median split")
    right.plot([0, 1], [0, 1], color="black", linewidth=0.8, linestyle="--", label="as promised, or below")
    right.set(xscale="log", yscale="log", xlim=(0.005, 1), ylim=(0.001, 1.05))
    right.set(xlabel="alpha", ylabel="share with p-value at most alpha", title="QQ plot, both axes logarithmic")
    right.legend(fontsize=8)
    _save(figure, path)


def draw_power(found: Sequence[Found], title: str, path: Path) -> None:
    """AUROC of every detector for every class left out."""
    figure, axes = plt.subplots(figsize=(8, 1.3 + 0.28 * len(found)))
    names = [candidate.name for candidate in CANDIDATES if candidate.name in found[0].powers]
    places = np.arange(len(found))
    for name in names:
        marker, color = _LOOKS[name]
        aurocs = [one.powers[name].auroc for one in found]
        axes.plot(aurocs, places, marker, color=color, markersize=5, alpha=0.7, label=name)
    chosen = [one.powers[one.chosen].auroc for one in found]
    axes.plot(chosen, places, "o", markersize=11, fillstyle="none", color="black", label="chosen")
    axes.set_yticks(places, [one.name for one in found])
    axes.invert_yaxis()
    axes.grid(axis="x", linewidth=0.3)
    axes.set(xlabel="AUROC of the class left out against held-out samples of the others", title=title)
    axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    _save(figure, path)


def draw_novelty(found: Found, title: str, path: Path) -> None:
    """ROC curves of every detector, and p-values of both kinds under the chosen one."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.8), layout="constrained")
    levels = np.linspace(0, 1, 401)
    for name, power in found.powers.items():
        width, label = 2 if name == found.chosen else 0.9, f"{name} {power.auroc:.3f}"
        left.plot(*_roc(power, levels), color=_LOOKS[name][1], linewidth=width, label=label)
    left.plot([0, 1], [0, 1], color="black", linewidth=0.5, linestyle="--")
    left.set(xlabel="normal flagged", ylabel=f"{found.name} flagged", title=title)
    left.legend(fontsize=7, title="AUROC", title_fontsize=7)
    chosen = found.powers[found.chosen]
    edges = np.linspace(0, 1, 21)
    for p, name, color in ((chosen.normal, "known products", "tab:blue"), (chosen.strange, found.name, "tab:orange")):
        right.hist(p, edges, weights=np.full(len(p), 1 / len(p)), alpha=0.55, color=color, label=name)
    right.set(xlabel=f"p-value by {found.chosen}", ylabel="share", title="the same, as a caller sees it")
    right.legend(fontsize=8)
    _save(figure, path)


def _roc(power: Power, levels: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return _cumulative(power.normal, levels), _cumulative(power.strange, levels)


def _cumulative(p: NDArray[np.float32], levels: NDArray[np.float64]) -> NDArray[np.float64]:
    """Share of p-values at most each level."""
    shares: NDArray[np.float64] = np.searchsorted(np.sort(p), levels + 1e-9, side="right") / len(p)
    return shares


def _save(figure: Any, path: Path) -> None:
    figure.savefig(path, dpi=90, bbox_inches="tight", metadata={"Software": None})
    plt.close(figure)
