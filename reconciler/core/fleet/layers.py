"""The closed merge Fleet < Cluster < NodePool < Node; every value remembers the place that set it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reconciler.core.fleet.documents import Document, Path, Setting


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the layers say together, by path below `spec`: maps are merged by key, scalars and lists replace."""

    by_path: Mapping[Path, Setting]

    def find(self, *path: str | int) -> Setting | None:
        return self.by_path.get(path)

    def value(self, *path: str | int, default: Any = None) -> Any:
        setting = self.by_path.get(path)
        return default if setting is None else setting.value


def merge(layers: Sequence[Document]) -> Settings:
    """Merge documents, the lowest layer first."""
    by_path: dict[Path, Setting] = {}
    for document in layers:
        by_path.update(document.settings)
    return Settings(by_path=by_path)
