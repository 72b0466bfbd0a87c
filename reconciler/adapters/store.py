"""One collection as this process knows it: what a list said, what watch events said since, what our own writes answered.

Between two lists nothing goes backwards: of two states of one object the newer counts, whichever arrives first. Only a
list replaces everything, whatever its resource version, because a restored etcd counts from an earlier number.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

T = TypeVar("T")
Raw = Mapping[str, Any]


def key_of(item: Raw) -> str:
    """`namespace/name`, or the name of a cluster-scoped object."""
    metadata = item["metadata"]
    namespace = metadata.get("namespace")
    return f"{namespace}/{metadata['name']}" if namespace else str(metadata["name"])


def version_of(item: Raw) -> int:
    """Resource versions of one collection compare as integers (Kubernetes ≥ 1.35 says so; it has always been true)."""
    return int(item["metadata"]["resourceVersion"])


def _itself(value: object) -> object:
    return value


@dataclass(frozen=True, slots=True)
class _Entry(Generic[T]):
    version: int
    value: T


class Store(Generic[T]):
    """Objects by key, each as `project` makes of it; `material` is the part of that which decisions depend on.

    Attributes:
        epoch: number of lists that have replaced the content.
        seen: resource version up to which lists and events have told everything.
        revision: changes with the content.
    """

    def __init__(self, project: Callable[[Raw], T], material: Callable[[T], object] = _itself) -> None:
        self._project = project
        self._material = material
        self._entries: dict[str, _Entry[T]] = {}
        self._written: dict[str, Raw] | None = (
            None  # while a list is under way: our own writes since it began
        )
        self.epoch = 0
        self.seen = 0
        self.revision = 0

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[T]:
        return (entry.value for entry in self._entries.values())

    def get(self, key: str) -> T | None:
        entry = self._entries.get(key)
        return entry.value if entry else None

    def items(self) -> Iterator[tuple[str, T]]:
        return ((key, entry.value) for key, entry in self._entries.items())

    def begin_list(self) -> None:
        """A list is about to be asked for; our writes that land meanwhile survive it."""
        self._written = {}

    def replace(self, items: list[Raw], version: int) -> None:
        """A list has arrived: it is the truth as of `version`, also where it is older than what we knew."""
        written = self._written or {}
        self._written = None
        self._entries = {key_of(item): _Entry(version_of(item), self._project(item)) for item in items}
        self.epoch += 1
        self.revision += 1
        self.seen = version
        for item in written.values():
            self.wrote(item)

    def event(self, kind: str, item: Raw) -> bool:
        """A watch event ADDED, MODIFIED, DELETED or BOOKMARK; True where it changed something material.

        Events older than `seen` are stale (a list has told them already); those older than the object lose to it.
        """
        version = version_of(item)
        if version <= self.seen:
            return False
        self.seen = version
        if kind == "BOOKMARK":
            return False
        key = key_of(item)
        known = self._entries.get(key)
        if kind == "DELETED":
            return self._remove(key, version)
        if known and version <= known.version:
            return False
        return self._put(key, version, item)

    def wrote(self, item: Raw) -> bool:
        """The answer to a write of ours; True where it changed something material.

        At or below `seen` the watch has told this state already, and perhaps the object's end after it.
        """
        version, key = version_of(item), key_of(item)
        if self._written is not None and version >= version_of(self._written.get(key, item)):
            self._written[key] = item
        known = self._entries.get(key)
        if version <= self.seen or (known and version <= known.version):
            return False
        return self._put(key, version, item)

    def _put(self, key: str, version: int, item: Raw) -> bool:
        known, value = self._entries.get(key), self._project(item)
        self._entries[key] = _Entry(version, value)
        self.revision += 1
        return known is None or self._material(known.value) != self._material(value)

    def _remove(self, key: str, version: int) -> bool:
        known = self._entries.get(key)
        if known is None or version < known.version:
            return False
        del self._entries[key]
        self.revision += 1
        return True
