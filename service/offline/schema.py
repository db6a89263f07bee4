"""The parquet columns of a prediction, fixed by the signature alone, so that every part has the same."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import pyarrow as pa

from hoverboard.contract.signature import STRING, Signature, TensorSpec

__all__ = ["prediction_fields"]


_LABELS: Final = pa.list_(pa.struct([("label", pa.string()), ("confidence", pa.float32())]))


def prediction_fields(signature: Signature, *, outputs: bool) -> Iterator[pa.Field]:
    """Fields of a prediction as the JSON-RPC result has them, `sample_id` first."""
    yield pa.field("sample_id", pa.string())
    if signature.task == "classification":
        yield pa.field("label", pa.string())
        yield pa.field("confidence", pa.float32())
        yield pa.field("top", _LABELS)
    if signature.task == "multi-label":
        yield pa.field("labels", _LABELS)
        yield pa.field("top", _LABELS)
    if signature.task == "regression":
        dtype = signature.outputs[0].dtype
        yield pa.field("value", pa.float32() if dtype in ("float16", "bool") else pa.from_numpy_dtype(dtype))
    yield pa.field("p_value", pa.float32())
    yield pa.field("outlier", pa.bool_())
    if outputs or signature.task in ("embedding", "raw"):
        yield pa.field("outputs", pa.struct([(spec.name, _arrow_type(spec)) for spec in signature.outputs]))


def _arrow_type(spec: TensorSpec) -> pa.DataType:
    kind = pa.string() if spec.dtype == STRING else pa.from_numpy_dtype(spec.dtype)
    # Lists also where the size is fixed: Spark and pandas read those everywhere.
    for _ in spec.shape:
        kind = pa.list_(kind)
    return kind
