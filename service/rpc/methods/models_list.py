"""The method `models.list`: every model in brief."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from hoverboard.contract.catalog import Catalog, ModelStatus
from hoverboard.rpc.call import Call
from hoverboard.rpc.codecs import CodecBook
from hoverboard.rpc.examples import Example, Shown
from hoverboard.rpc.fields import NoParams
from hoverboard.rpc.methods.method import Method

__all__ = ["models_list", "summaries"]


class ModelSummary(msgspec.Struct):
    name: Annotated[str, Meta(description="The model's name: its folder in the models directory.")]
    ready: Annotated[bool, Meta(description="Whether a version answers in the role `stable`.")]
    roles: Annotated[dict[str, int], Meta(description="Role -> the version that fills it.")]
    versions: Annotated[list[int], Meta(description="Every version on disk.")]
    task: Annotated[str | None, Meta(description="The stable version's task.")]
    problem: Annotated[str | None, Meta(description="Why the model is not as serving.toml wants it; null if it is.")]


class ModelList(msgspec.Struct):
    models: Annotated[list[ModelSummary], Meta(description="By name.")]


def models_list(book: CodecBook) -> Method[NoParams]:
    """The method."""

    async def run(_call: Call, _params: NoParams) -> bytes:
        return msgspec.json.encode(summaries(book.catalog))

    return Method("models.list", NoParams, run, "Every model, with its versions and roles.", ModelList, _example)


def summaries(catalog: Catalog) -> ModelList:
    """Every model in brief, by name."""
    return ModelList([_summary(model) for _, model in sorted(catalog.models.items())])


def _summary(model: ModelStatus) -> ModelSummary:
    stable = model.version(model.roles["stable"]) if "stable" in model.roles else None
    signature = None if stable is None else stable.signature
    return ModelSummary(
        name=model.name,
        ready="stable" in model.roles,
        roles=dict(model.roles),
        versions=[status.version for status in model.versions],
        task=None if signature is None else signature.task,
        problem=model.problem,
    )


def _example(shown: Shown) -> Example:
    return Example({}, msgspec.to_builtins(summaries(shown.catalog)))
