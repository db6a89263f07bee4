"""What an engine is ordered to do with one version: the table that the admin methods and the commands are made from.

A new one is a line here and a function in `engine.models.admin`.
"""

from __future__ import annotations

from typing import Final

__all__ = ["VERSION_ACTIONS"]

VERSION_ACTIONS: Final = {
    "load": "Load a version into memory; answers once it is live.",
    "unload": "Take a version out of memory; it loads again on demand.",
    "pin": "Keep a version in memory whatever the routing says.",
    "unpin": "Let a version go when it is not needed.",
}
"""Name -> what it does, one sentence. The method is `models.NAME`, the command `hoverboard models NAME MODEL VERSION`."""
