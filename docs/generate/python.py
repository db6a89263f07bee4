"""docs/reference/python.md, from the signatures and docstrings of what `import hoverboard` offers."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any, Final

import hoverboard
from docs.generate.markdown import Row, capital, sentence, table
from hoverboard.errors import HoverboardError, RpcError

__all__ = ["page"]

_CALLED: Final = ("Client", "AsyncClient", "serve_in_process", "Retries", "publish", "CalibrationRows")
"""What users call, in the order in which they need it."""
_ANSWERS: Final = ("Predictions", "Prediction")
"""What users are given and never make: their attributes are all that there is to say."""
_WIDTH: Final = 110
_SECTION: Final = re.compile(r"^(Args|Attributes|Returns|Raises|Example):\n((?:(?: {4}.*)?\n?)*)", re.MULTILINE)
_ENTRY: Final = re.compile(r"^ {4}(\w[\w, ]*): (.*(?:\n {8}.*)*)", re.MULTILINE)
_HEADS: Final = {
    "Args": ("argument", "meaning"),
    "Attributes": ("attribute", "meaning"),
    "Raises": ("raises", "when"),
}


def page() -> str:
    """Everything in `hoverboard.__all__`."""
    parts = [_object(name) for name in (*_CALLED, *_ANSWERS)]
    return f"""# Python

What `import hoverboard` offers. Without the extras `cpu` and `gpu` ([install](../production.md#1-install)) all of it is there but
`serve_in_process` and `publish`, which raise `EngineMissing`. Nothing is imported before it is used, so a client never loads TensorFlow.
`hoverboard.__version__` is the version as a text.

Examples that run: [clients](../cookbook/clients.md), [tests and notebooks](../cookbook/testing.md), [publish](../publish.md).

{"".join(parts)}## Errors

All of these are in `hoverboard`, too. What a service answers with is an `RpcError`: it has `code`, `kind` (the type below), `retryable`,
`retry_after_ms`, `request_id` and `details`. [Errors](errors.md) says of each type when it comes, and what to do.

{table(["class", "a kind of", "code", "type"], _errors())}"""


def _object(name: str) -> str:
    found = getattr(hoverboard, name)
    parts = [f"## {name}\n"]
    if name in _CALLED:
        parts.append(_signature(name, found))
    parts += _described(found, further=_properties(found))
    if name == "Client":
        for method, function in vars(found).items():
            if inspect.isfunction(function) and not method.startswith("_"):
                parts += [f"### {name}.{method}\n", _signature(method, function), *_described(function)]
    return "\n".join(parts) + "\n"


def _signature(name: str, function: Callable[..., Any]) -> str:
    """A call with its arguments, their types and what they are when left out; one a line where it gets long."""
    signature = inspect.signature(function)
    arguments: list[str] = []
    for parameter in signature.parameters.values():
        if parameter.name == "self":
            continue
        if parameter.kind is parameter.KEYWORD_ONLY and "*" not in arguments:
            arguments.append("*")
        stars = "**" if parameter.kind is parameter.VAR_KEYWORD else ""
        default = "" if parameter.default is parameter.empty else f" = {parameter.default!r}"
        arguments.append(f"{stars}{parameter.name}: {_annotation(parameter.annotation)}{default}")
    returns = "" if inspect.isclass(function) else f" -> {_annotation(signature.return_annotation)}"
    line = f"{name}({', '.join(arguments)}){returns}"
    if len(line) > _WIDTH:
        line = "\n".join([f"{name}(", *(f"    {argument}," for argument in arguments), f"){returns}"])
    return f"```text\n{line}\n```\n"


def _annotation(annotation: object) -> str:
    return annotation if isinstance(annotation, str) else getattr(annotation, "__name__", str(annotation))


def _described(found: object, further: list[Row] | None = None) -> Iterator[str]:
    """A docstring in Markdown: its paragraphs, a table for each section of names, and its example.

    Args:
        found: has the docstring.
        further: rows of attributes that stand in docstrings of their own.
    """
    text = inspect.getdoc(found) or ""
    sections = dict(_SECTION.findall(text))
    for paragraph in _SECTION.sub("", text).strip().split("\n\n"):
        code = paragraph.startswith("    ")
        yield f"```python\n{textwrap.dedent(paragraph)}\n```\n" if code else f"{paragraph}\n"
    for name, (first, second) in _HEADS.items():
        rows: list[Row] = [
            [_names(names), _meaning(meaning)] for names, meaning in _ENTRY.findall(sections.get(name, ""))
        ]
        if name == "Attributes":
            rows += further or []
        if rows:
            yield table([first, second], rows)
    if "Returns" in sections:
        yield f"Returns: {_meaning(sections['Returns'])}\n"
    if "Example" in sections:
        yield f"Example: {sentence(sections['Example'])}\n"


def _properties(found: object) -> list[Row]:
    """The attributes that are computed, each with what it says of itself."""
    kinds = (property, cached_property)
    members = vars(found).items() if inspect.isclass(found) else ()
    return [
        [f"`{name}`", _meaning(member.__doc__ or "")]
        for name, member in members
        if isinstance(member, kinds) and not name.startswith("_")
    ]


def _names(names: str) -> str:
    return ", ".join(f"`{name.strip()}`" for name in names.split(","))


def _meaning(text: str) -> str:
    said = capital(sentence(text))
    return said if said.endswith(".") else f"{said}."


def _errors() -> Iterator[Row]:
    for name in hoverboard.__all__:
        found = getattr(hoverboard, name)
        if inspect.isclass(found) and issubclass(found, HoverboardError):
            answer = ["-", "-"]
            if issubclass(found, RpcError) and found is not RpcError:
                answer = [str(found.code), f"`{found.kind}`"]
            yield [f"`{name}`", f"`{found.__mro__[1].__name__}`", *answer]
