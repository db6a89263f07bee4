"""Outliers: scores of how strange a sample is, and the conformal p-values that make a promise of them.

In: arrays of features, logits and inputs. Out: scores, p-values, and the file that keeps a fitted detector. Pure NumPy, the
reference for what runs in a graph.
"""

from hoverboard.outliers.conformal import check_alpha, needed_points, p_values, rate_bound, smallest_alpha
from hoverboard.outliers.detectors import BY_NAME, CANDIDATES, Candidate
from hoverboard.outliers.features import STRANGEST, Features, two_sided
from hoverboard.outliers.kept import CALIBRATION_FILE, CalibrationFeatures, load_features, save_features
from hoverboard.outliers.npz import OUTLIERS_FILE, load_package, save_package
from hoverboard.outliers.package import Calibrated, Looked, OutlierPackage
from hoverboard.outliers.summary import OutlierSummary

__all__ = [
    "BY_NAME",
    "CALIBRATION_FILE",
    "CANDIDATES",
    "OUTLIERS_FILE",
    "STRANGEST",
    "Calibrated",
    "CalibrationFeatures",
    "Candidate",
    "Features",
    "Looked",
    "OutlierPackage",
    "OutlierSummary",
    "check_alpha",
    "load_features",
    "load_package",
    "needed_points",
    "p_values",
    "rate_bound",
    "save_features",
    "save_package",
    "smallest_alpha",
    "two_sided",
]
