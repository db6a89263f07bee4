"""The models that are known, and the catalog in which everybody is told of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from hoverboard.contract.catalog import Catalog
from hoverboard.engine.live import LiveVersion
from hoverboard.engine.models.state import Model, Version
from hoverboard.engine.models.status import status_of

__all__ = ["Models"]


class Models:
    """The models of an engine.

    Args:
        changed: called with each new catalog.

    Attributes:
        by_name: the models.
        problem: why the models directory itself cannot be looked at.
        catalog: what was told last.
    """

    def __init__(self, changed: Callable[[Catalog], None]) -> None:
        self.by_name: dict[str, Model] = {}
        self.problem: str | None = None
        self.catalog = Catalog()
        self._changed = changed

    def live(self) -> list[LiveVersion]:
        """Every version in memory."""
        return [version.live for _, _, version in self.versions() if version.live is not None]

    def versions(self) -> Iterator[tuple[Model, int, Version]]:
        """Every version with its model and number."""
        for model in self.by_name.values():
            for number, version in model.versions.items():
                yield model, number, version

    def publish(self, *, ready: bool = False) -> None:
        """Tell everybody what has changed; nothing where nothing has.

        Args:
            ready: say from now on that each model has had its chance.
        """
        models = {name: status_of(model) for name, model in sorted(self.by_name.items())}
        now_ready = ready or self.catalog.ready
        known = self.catalog
        # Comparing is cheap beside waking every api process, which would index all models anew.
        if (models, now_ready, self.problem) == (known.models, known.ready, known.problem):
            return
        self.catalog = Catalog(models, known.generation + 1, now_ready, self.problem)
        self._changed(self.catalog)
