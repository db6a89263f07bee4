"""The clients against a running service, with the models that are shipped."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import hoverboard
from hoverboard.errors import InvalidParams, ModelNotFound, Unauthorized, UnknownMethod, VersionNotFound
from tests.integration.running import ROOT, Service, running


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("client")
    shutil.copytree(ROOT / "models", folder / "models")
    with running(folder, {"HOVERBOARD_MAX_BODY_BYTES": "200000"}) as found:
        yield found


@pytest.fixture(scope="module")
def client(service: Service) -> Iterator[hoverboard.Client]:
    with hoverboard.Client(service.url) as found:
        yield found


@pytest.fixture(scope="module")
def image() -> NDArray[np.float64]:
    request = json.loads((ROOT / "examples/digits/request.json").read_text())
    return np.array(request["params"]["instances"])[:1]


DIAMOND = {
    "carat": 0.21, "depth": 59.8, "table": 61.0, "x": 3.89, "y": 3.84, "z": 2.31,
    "cut": "Premium", "color": "E", "clarity": "SI1",
}  # fmt: skip


def test_an_array_of_samples_is_answered_in_arrays(client: hoverboard.Client, image: NDArray[np.float64]) -> None:
    answer = client.predict("digits", np.repeat(image, 3, axis=0), top_k=3, outputs=True, deadline_s=5)
    assert (len(answer), answer.model, answer.version) == (3, "digits", 3)
    assert answer.labels.tolist() == ["9"] * 3
    assert answer.confidence.dtype == np.float32
    assert (answer.confidence > 0.99).all()
    assert answer.outlier is not None
    assert answer.p_values.shape == answer.outlier.shape == (3,)
    assert not answer.outlier.any()
    assert len(answer[0].top or ()) == 3
    (scores,) = answer.outputs.values()
    assert scores.shape == (3, 10)
    assert scores.dtype == np.float32
    assert answer.timing.batch >= 3
    assert len(set(answer.sample_ids)) == 3


@pytest.mark.parametrize("dtype", ["float64", "float32", "uint8"])
def test_a_tensor_and_json_are_answered_alike(
    client: hoverboard.Client, image: NDArray[np.float64], dtype: str
) -> None:
    many = np.repeat(image.round(), 20, axis=0).astype(dtype)
    as_tensor, as_json = client.predict("digits", many), client.predict("digits", many.tolist())
    np.testing.assert_allclose(as_tensor.confidence, as_json.confidence, rtol=1e-5)
    assert as_tensor.labels.tolist() == as_json.labels.tolist()


def test_texts_and_bytes_are_samples(client: hoverboard.Client) -> None:
    answer = client.predict("products", ["a chair with a high back", b"a bottle of red wine"])
    assert answer.labels.tolist() == ["furniture", "container"]
    assert client.predict_one("products", "a boat with two sails").label == "vehicle"


def test_columns_rows_and_arrays_of_several_inputs_agree(client: hoverboard.Client) -> None:
    columns = {name: np.array([value] * 1100) for name, value in DIAMOND.items()}
    values = client.predict_many("diamonds", columns).values
    assert values.shape == (1100,)
    np.testing.assert_allclose(values, client.predict("diamonds", [DIAMOND]).values[0], rtol=1e-5)


def test_a_long_array_is_split_and_answered_by_one_version(service: Service, image: NDArray[np.float64]) -> None:
    shades = np.linspace(0.2, 1.0, 1000)[:, None] * image
    client = hoverboard.Client(service.url, retries=hoverboard.Retries(attempts=60))  # version 2 loads first
    whole = client.predict_many("digits", shades, version=2)
    assert (len(whole), whole.version, len(set(whole.sample_ids))) == (1000, 2, 1000)
    few = client.predict("digits", shades[[0, 500, 999]], version=2)
    np.testing.assert_allclose(whole.confidence[[0, 500, 999]], few.confidence, rtol=1e-3)
    client.close()


def test_calls_that_are_too_large_are_made_smaller(client: hoverboard.Client, image: NDArray[np.float64]) -> None:
    rows = (np.repeat(image, 600, axis=0) / 1.03).tolist()  # about 700 KB, and 200 KB are allowed
    assert len(client.predict_many("digits", rows, batch=600)) == 600


def test_refusals_are_their_own_classes(client: hoverboard.Client) -> None:
    with pytest.raises(InvalidParams) as raised:
        client.predict("digits", np.zeros((2, 3)))
    assert raised.value.details == {"pointer": "/instances/0", "expected": "64 numbers", "got": "3"}
    assert raised.value.request_id
    with pytest.raises(ModelNotFound):
        client.predict("nothing", [1])
    with pytest.raises(VersionNotFound):
        client.predict("digits", [1], version=99)
    with pytest.raises(UnknownMethod):
        client.label("0198c2f4-7b6a-7cc0-a1d2-5c3be4f60718", "furniture")
    with pytest.raises(InvalidParams, match="64"):
        client.predict("digits", np.zeros((20, 65)))


def test_models_are_listed_and_described(client: hoverboard.Client) -> None:
    assert [model.name for model in client.models() if model.ready] == ["diamonds", "digits", "products"]
    described = client.describe("digits", 3)
    assert (described.versions[0].version, described.versions[0].inputs[0].shape) == (3, [64])
    assert len(client.describe("digits").versions) > 1


def test_admin_methods_take_the_token(service: Service) -> None:
    with hoverboard.Client(service.admin_url, token=service.token) as admin:
        assert 2 in admin.pin("digits", 2)["live"]
        admin.unpin("digits", 2)
        assert "digits" in admin.scan()["models"]
    with hoverboard.Client(service.admin_url, token="wrong") as stranger, pytest.raises(Unauthorized):
        stranger.scan()


def test_labels_are_accepted_and_the_same_twice_counts_once(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "models", tmp_path / "models")
    with running(tmp_path, {"HOVERBOARD_RECORDING": "on"}) as recorded, hoverboard.Client(recorded.url) as client:
        answer = client.predict("products", ["a chair with a high back", "a boat with two sails"])
        for _ in range(2):
            client.label(answer[0].sample_id, "furniture", source="support", model="products", version=answer.version)
        assert client.label_many(dict.fromkeys(answer.sample_ids, "vehicle"), source="relabelling") == 2
        with pytest.raises(InvalidParams):
            client.label(answer[0].sample_id, "no such class", model="products")
