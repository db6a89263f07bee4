"""What everybody reads of a manifest's outliers, also from versions that said less."""

from __future__ import annotations

import json
from typing import Any

import pytest

from hoverboard.contract.outlier import DEFAULT_ALPHA
from hoverboard.outliers import OutlierSummary, rate_bound
from hoverboard.outliers.summary import alpha_of

OLD = {"alpha": 0.05, "calibration_points": 199}


@pytest.mark.parametrize(
    "manifest", [None, {}, {"outliers": None}, {"outliers": {}}, {"outliers": {"detector": "gen"}}]
)
def test_a_version_without_calibration_has_no_summary_and_the_usual_alpha(manifest: dict[str, Any] | None) -> None:
    assert OutlierSummary.of(manifest) is None
    assert alpha_of(manifest) == DEFAULT_ALPHA


def test_the_bound_of_an_older_manifest_follows_from_its_calibration_points() -> None:
    summary = OutlierSummary.of({"outliers": OLD})
    assert summary is not None
    assert summary.upper_bound == summary.alarm_bound == rate_bound(199, 0.05)
    assert alpha_of({"outliers": OLD}) == 0.05


@pytest.mark.parametrize("changes", [{"bound": 1.0}, {"bound": 0.0}, {"calibration_points": 0}])
def test_there_is_no_alarm_where_no_share_of_outliers_would_be_too_many(changes: dict[str, Any]) -> None:
    summary = OutlierSummary.in_json(json.dumps({"outliers": OLD | changes, "labels": ["a"]}))
    assert summary is not None
    assert summary.alarm_bound is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"outliers": 3}'])
def test_what_is_no_manifest_promises_nothing(text: str) -> None:
    assert OutlierSummary.in_json(text) is None
