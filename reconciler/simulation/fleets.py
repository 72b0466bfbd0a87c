"""Fleet documents from plain values, as adapters/tree.py yields them from files."""

from collections.abc import Iterator, Mapping
from typing import Any

from reconciler.core.fleet.documents import Document, Mark, Path, Tree
from schema.names import (
    FLEET_API_VERSION,
    LABEL_HOSTNAME,
    LABEL_INSTALL_MODE,
    LABEL_KMD_VERSION,
    LABEL_PRESENT,
)


def document(kind: str, name: str, spec: Mapping[str, Any] | None = None, *, cluster: str = "") -> Document:
    """One document in a file of its own; every value is marked with the line on which it would stand."""
    data: dict[str, Any] = {"apiVersion": FLEET_API_VERSION, "kind": kind, "metadata": {"name": name}}
    if spec is not None:
        data["spec"] = spec
    prefix = f"clusters/{cluster}/" if cluster else ""
    file = f"{prefix}{kind.lower()}-{name}.yaml"
    marks = {path: Mark(file=file, line=line) for line, path in enumerate(_paths((), data), start=1)}
    return Document(
        kind=kind, name=name, cluster=cluster, mark=Mark(file=file), data=data, marks=marks
    )  # fmt: skip


def tree(revision: str, *documents: Document) -> Tree:
    """A commit."""
    return Tree(revision=revision, documents=documents)


def node_labels(name: str, *, mode: str = "", version: str = "", **labels: str) -> dict[str, str]:
    """Labels of a node with a card, as NFD, kubelet and builder set them."""
    said = {LABEL_INSTALL_MODE: mode, LABEL_KMD_VERSION: version}
    found = {key: value for key, value in said.items() if value}
    return {LABEL_HOSTNAME: name, LABEL_PRESENT: "true", **found, **labels}


def _paths(path: Path, value: Any) -> Iterator[Path]:
    yield path
    if isinstance(value, Mapping):
        for key, child in value.items():
            yield from _paths((*path, key), child)
    elif isinstance(value, list):
        for index, child in enumerate(value):
            yield from _paths((*path, index), child)
