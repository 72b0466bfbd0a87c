"""What a fleet repository says, as parsed documents; each value remembers where it was written."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Any

Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Mark:
    """A place in a file of the repository; line and column count from 1."""

    file: str
    line: int = 1
    column: int = 1

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


class Severity(StrEnum):
    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Problem:
    """One fault: where, a stable code `TTF###`, what, and what to do."""

    mark: Mark
    code: str
    message: str
    hint: str = ""
    severity: Severity = Severity.ERROR

    def __str__(self) -> str:
        hint = f"\n    hint: {self.hint}" if self.hint else ""
        return f"{self.mark}: {self.severity} {self.code}: {self.message}{hint}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """A value with the place that set it, and the layer (kind) it came from."""

    value: Any
    mark: Mark
    kind: str


@dataclass(frozen=True, kw_only=True)
class Document:
    """One YAML document that has passed its schema.

    Attributes:
        cluster: name below `clusters/`, "" for what every cluster shares.
        data: plain JSON values, `apiVersion` to `spec`.
        marks: place of every value by its path in `data`; of a mapping entry, its key.
    """

    kind: str
    name: str
    cluster: str
    mark: Mark
    data: Mapping[str, Any]
    marks: Mapping[Path, Mark]

    @property
    def spec(self) -> Mapping[str, Any]:
        spec: Mapping[str, Any] = self.data.get("spec", {})
        return spec

    @cached_property
    def settings(self) -> Mapping[Path, Setting]:
        """Every scalar and list of the spec by its path below `spec`; worked out once, however often layers are merged."""
        return {
            path: Setting(value=value, mark=self.mark_at("spec", *path), kind=self.kind)
            for path, value in _leaves((), self.spec)
        }

    def mark_at(self, *path: str | int) -> Mark:
        """Place of the value at `path`, or of the nearest value around it."""
        for end in range(len(path), -1, -1):
            if path[:end] in self.marks:
                return self.marks[path[:end]]
        return self.mark


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """All documents of one commit (or directory), with every problem found so far.

    Attributes:
        faulty: (kind, name) of documents that have problems and are therefore not in `documents`; they are there all the
            same, so nothing that refers to them is dangling.
        complete: False where something could not be read at all, so that nobody knows what is missing.
    """

    revision: str
    documents: tuple[Document, ...]
    problems: tuple[Problem, ...] = field(default=())
    faulty: frozenset[tuple[str, str]] = frozenset()
    complete: bool = True

    def of_kind(self, kind: str, cluster: str | None = None) -> tuple[Document, ...]:
        """Documents of a kind, in file order; with `cluster` only those it sees (shared and its own)."""
        return tuple(
            document
            for document in self.documents
            if document.kind == kind and (cluster is None or document.cluster in {"", cluster})
        )


def _leaves(path: Path, value: Any) -> Iterator[tuple[Path, Any]]:
    """Scalars and lists; a list is one value, an empty map says nothing."""
    if isinstance(value, Mapping):
        for key, child in value.items():
            yield from _leaves((*path, key), child)
    else:
        yield path, value
