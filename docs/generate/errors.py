"""docs/reference/errors.md, from the tree of errors and its docstrings."""

from __future__ import annotations

import inspect

from docs.generate.markdown import capital, sentence, table
from hoverboard.errors import BY_KIND, VIOLATIONS, HoverboardError, RpcError, StaleSignature

__all__ = ["page"]


def page() -> str:
    """Codes, types, when they come and what to do."""
    in_order = sorted(BY_KIND.values(), key=lambda cls: inspect.getsourcelines(cls)[1])
    rows = [
        [str(cls.code), f"`{cls.kind}`", str(cls.http_status), "yes" if cls.retryable else "no", *_when_and_what(cls)]
        for cls in in_order
    ]
    others = [cls for cls in HoverboardError.__subclasses__() if cls.__module__ == HoverboardError.__module__]
    ours = [[f"`{cls.__name__}`", _when_and_what(cls)[0]] for cls in others if cls not in (RpcError, StaleSignature)]
    return f"""# Errors

A refused call is answered with a JSON-RPC error. Its `data` has the `type` below, whether trying again may help (`retryable`),
`retry_after_ms` where the server knows when, the `request_id` that the log has too, and `details`.
[Call](../call.md#errors) shows one. In a JSON-RPC batch each item has its own error, and the HTTP status is 200.

{table(["code", "type", "HTTP", "retryable", "when", "what to do"], rows)}
## How a sample breaks its contract

`invalid_params` that a model's contract is the reason of are counted by these kinds in `hoverboard_contract_violations_total`.

{table(["kind", "what came"], [[f"`{kind}`", capital(text) + "."] for kind, text in VIOLATIONS.items()])}
## Errors that are not answers

Commands print these as one sentence on stderr and exit with status 1. From Python they are raised as classes of `hoverboard.errors`.

{table(["class", "when"], ours)}"""


def _when_and_what(cls: type) -> tuple[str, str]:
    summary = inspect.cleandoc(cls.__doc__ or "").partition("\nArgs:")[0]
    when, _, what = summary.partition("What to do: ")
    return sentence(when), capital(sentence(what))
