"""Whether numbers come in a unit with another zero, such as degrees Fahrenheit for Celsius: as `factors`, beside what else shifts."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from hoverboard.postmortem.factors import FEWEST, LEVELS, ODDS, UsualDensity, best_mixed, chosen, known_of_both

__all__ = ["OFFSETS", "unit_offset"]

Matrix = NDArray[np.float64]

OFFSETS: Final = {
    (1.8, 32.0): "degrees Fahrenheit for Celsius",
    (1 / 1.8, -32 / 1.8): "degrees Celsius for Fahrenheit",
    (1.0, 273.15): "kelvins for degrees Celsius",
    (1.0, -273.15): "degrees Celsius for kelvins",
}
"""Factor and offset of what comes, by what is usual, with words."""
_OF_GAP: Final = 0.5
_SCALES: Final = np.geomspace(0.3, 3, 19)


def unit_offset(
    ours: NDArray[np.floating], usual: NDArray[np.floating], columns: int
) -> tuple[tuple[float, float], float] | None:
    """Factor and offset by which numbers differ from the usual ones, and the log odds for them; None where nothing says so.

    Turned back they must be likelier, as the usual ones, than as they are, and than chosen, scaled, or (where there is a factor)
    shifted: by odds of 20 beyond the number of units and columns that were tried. A free shift with a free scale may be
    better by no more than its parameters cost.

    Args:
        ours: numbers `(rows,)` of the rows in question; some may be in the usual unit.
        usual: numbers `(others,)` to compare with.
        columns: as many were looked at.
    """
    both = known_of_both(ours, usual, _known)
    if both is None:
        return None
    mine, theirs = both
    low, middle, high = (float(each) for each in np.quantile(theirs, [0.25, 0.5, 0.75]))
    spread = (high - low) / 1.349
    if spread <= 1e-3 * max(abs(middle), 1e-6):
        return None
    density = UsualDensity((theirs - middle) / spread)

    def turned(factor: float, offset: float) -> Matrix:
        """Density of the numbers as usual ones in such a unit, by one of `spread`."""
        return np.asarray(density(((mine - offset) / factor - middle) / spread) / factor)

    as_usual = turned(1.0, 0.0)
    units = list(OFFSETS)
    scores = [float(best_mixed(turned(*unit), as_usual)) for unit in units]
    place = int(np.argmax(scores))
    (factor, offset), named = units[place], scores[place]
    rows = len(mine)
    price, cost = math.log(len(units) * columns) + ODDS, 0.5 * math.log(rows)
    # How far the usual numbers are from where they come, in their spreads there.
    gap = abs((factor - 1) * middle + offset) / (max(factor, 1.0) * spread)
    if density.spread * math.sqrt(2 * cost / rows) > _OF_GAP * gap:
        return None
    # Each costs what it has more parameters than the named unit, which has one: the share of rows that changed.
    others = [float(np.log(as_usual).sum()) + cost, chosen(density, (mine - middle) / spread) + cost]
    scales = [each / middle for each in np.quantile(mine, LEVELS).tolist() if middle and each / middle > 0]
    others += [float(best_mixed(turned(each, 0.0), as_usual)) - cost for each in scales]
    if factor != 1:
        shifts = np.quantile(mine, LEVELS) - np.quantile(theirs, LEVELS)
        steps = np.linspace(shifts.min(), shifts.max(), 41).tolist()
        others += [float(best_mixed(turned(1.0, each), as_usual)) - cost for each in steps]
    odds = named - max(others) - price
    if odds <= 0:
        return None
    # A free place costs one parameter and a free scale another one, which counts twice: see `factors`.
    centre = factor * middle + offset
    free = max(
        float(best_mixed(turned(factor * scale, centre + by - factor * scale * middle), as_usual))
        - (0.0 if abs(scale - 1) < 1e-9 else 2 * cost)
        for scale in _SCALES.tolist()
        for by in (factor * spread * np.linspace(-1, 1, 41)).tolist()
    )
    return None if named + cost < free else ((factor, offset), odds)


def _known(numbers: NDArray[np.floating]) -> Matrix | None:
    known = np.sort(numbers[np.isfinite(numbers)].astype(np.float64))
    return known if len(known) >= FEWEST else None
