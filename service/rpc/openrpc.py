"""The OpenRPC 1.4 document of one face, built from its methods' types and the live models' signatures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import orjson

from hoverboard.errors import InternalError, InvalidParams, RpcError
from hoverboard.rpc.codecs import CodecBook
from hoverboard.rpc.examples import shown
from hoverboard.rpc.methods.discover import discover
from hoverboard.rpc.methods.method import Method
from hoverboard.version import __version__

__all__ = ["Document", "with_discovery"]

OPENRPC = "1.4.1"
_COMMON_ERRORS: tuple[type[RpcError], ...] = (InvalidParams, InternalError)
_REFERENCE = "#/components/schemas/{name}"


class Document:
    """Writes the document; anew only when the catalog has changed.

    Args:
        methods: of this face, without `rpc.discover`, which is added here.
        book: knows the catalog that examples are made from.
        url: where this face answers.
        title: what it is called.
    """

    def __init__(self, methods: Sequence[Method[Any]], book: CodecBook, *, url: str, title: str) -> None:
        self.discover = discover(self.text)
        self._methods = [*methods, self.discover]
        self._book = book
        self._url = url
        self._title = title
        self._written: tuple[int, bytes] | None = None

    def text(self) -> bytes:
        """The document as JSON text."""
        # Written when somebody asks: catalogs change more often than documents are read.
        generation = self._book.catalog.generation
        if self._written is None or self._written[0] != generation:
            self._written = (generation, orjson.dumps(self.build(), option=orjson.OPT_SERIALIZE_NUMPY))
        return self._written[1]

    def build(self) -> dict[str, Any]:
        """The document as JSON-ready values."""
        types = [kind for method in self._methods for kind in (*_param_types(method), method.result)]
        schemas, components = msgspec.json.schema_components(types, ref_template=_REFERENCE)
        # One list for all methods, in their order, so that they share `components`.
        remaining = iter(schemas)
        head = {"openrpc": OPENRPC, "info": self._info(), "servers": [{"name": self._title, "url": self._url}]}
        return {
            **head,
            "methods": [self._method(method, remaining, head) for method in self._methods],
            "components": {"schemas": components},
        }

    def _info(self) -> dict[str, Any]:
        return {
            "title": self._title,
            "version": __version__,
            "description": "Versioned Keras models over JSON-RPC 2.0.",
            "license": {"name": "Apache-2.0"},
        }

    def _method(self, method: Method[Any], schemas: Any, head: Mapping[str, Any]) -> dict[str, Any]:
        params = [
            {"name": field.encode_name, "required": field.required, "schema": {**next(schemas), **_default(field)}}
            for field in msgspec.structs.fields(method.params)
        ]
        example = method.example(shown(self._book.catalog))
        result = {**head, "methods": []} if method.name == self.discover.name else example.result
        return {
            "name": method.name,
            "summary": method.summary,
            "paramStructure": "either",
            "params": params,
            "result": {"name": "result", "schema": next(schemas)},
            "errors": _errors((*_COMMON_ERRORS, *method.errors)),
            "examples": [
                {
                    "name": f"{method.name} example",
                    "params": [{"name": name, "value": value} for name, value in example.params.items()],
                    "result": {"name": "result", "value": result},
                }
            ],
        }


def with_discovery(methods: Sequence[Method[Any]], book: CodecBook, *, url: str, title: str) -> list[Method[Any]]:
    """A face's methods with the `rpc.discover` that describes them."""
    return [*methods, Document(methods, book, url=url, title=title).discover]


def _param_types(method: Method[Any]) -> list[Any]:
    return [field.type for field in msgspec.structs.fields(method.params)]


def _default(field: msgspec.structs.FieldInfo) -> dict[str, Any]:
    return {"default": field.default} if isinstance(field.default, str | int | float) else {}


def _errors(classes: Sequence[type[RpcError]]) -> list[dict[str, Any]]:
    """One error object per code, as OpenRPC wants it; `types` are the values that `data.type` may have."""
    # A code may stand once in a method's list, while several of our errors can share one.
    by_code: dict[int, list[type[RpcError]]] = {}
    for cls in classes:
        by_code.setdefault(cls.code, []).append(cls)
    return [
        {
            "code": code,
            "message": group[0].default if len(group) == 1 else _in_common(group).default,
            "data": {"types": [cls.kind for cls in group], "retryable": group[0].retryable},
        }
        for code, group in by_code.items()
    ]


def _in_common(group: Sequence[type[RpcError]]) -> type[RpcError]:
    """The nearest class above all of a group."""
    return next(cls for cls in group[0].__mro__ if all(issubclass(other, cls) for other in group))
