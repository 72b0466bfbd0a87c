"""The closed merge Fleet < Cluster < NodePool < Node; every value remembers the place that set it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reconciler.core.fleet.documents import Document, Mark, Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """A value with the place that set it, and the layer (kind) it came from."""

    value: Any
    mark: Mark
    kind: str


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
        for path, value in _leaves((), document.spec):
            mark = document.mark_at("spec", *path)
            by_path[path] = Setting(value=value, mark=mark, kind=document.kind)
    return Settings(by_path=by_path)


def _leaves(path: Path, value: Any) -> Iterator[tuple[Path, Any]]:
    """Scalars and lists; a list is one value, an empty map says nothing."""
    if isinstance(value, Mapping):
        for key, child in value.items():
            yield from _leaves((*path, key), child)
    else:
        yield path, value
