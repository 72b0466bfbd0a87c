"""Scope: what one cluster sees of a fleet repository, as the rules of validate look at it."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from reconciler.core.fleet.documents import Document, Problem, Setting, Tree
from reconciler.core.fleet.layers import Settings, merge
from reconciler.core.fleet.machines import Machine
from reconciler.core.fleet.resolve import Desired, resolve, selects

#: one rule: every problem that it finds in a scope
Rule = Callable[["Scope"], Iterator[Problem]]


@dataclass(frozen=True, kw_only=True)
class Scope:
    """A tree seen from one cluster ("" where the repository is one). `today` is YYYY-MM-DD, "" for no day."""

    tree: Tree
    cluster: str
    today: str = ""

    def documents(self, kind: str) -> tuple[Document, ...]:
        return self.tree.of_kind(kind, self.cluster)

    def may_be_missing(self, *kinds: str, name: str | None = None) -> bool:
        """Whether a document may be there that could not be read: what refers to it is not called dangling."""
        faulty = (known for kind, known in self.tree.faulty if kind in kinds)
        return not self.tree.complete or any(name is None or known in {name, ""} for known in faulty)

    @cached_property
    def outer(self) -> tuple[Document, ...]:
        """Fleet and Cluster, the layers that all pools share."""
        return (*self.documents("Fleet"), *self.documents("Cluster"))

    @cached_property
    def shared(self) -> Settings:
        return merge(self.outer)

    @cached_property
    def releases(self) -> Mapping[str, Document]:
        return {document.name: document for document in self.documents("Release")}

    @cached_property
    def has_inventory(self) -> bool:
        return bool(self.documents("Inventory"))

    @cached_property
    def machines(self) -> Mapping[str, Machine]:
        """Nodes of the Inventory; without one, those that pools name."""
        if self.has_inventory:
            entries = (entry for document in self.documents("Inventory") for entry in document.spec["nodes"])
            return {entry["name"]: Machine.of_inventory(entry) for entry in entries}
        names = {name for pool in self.documents("NodePool") for name in pool.spec.get("nodes", ())}
        return {name: Machine.named(name) for name in sorted(names)}

    @cached_property
    def desired(self) -> Desired:
        """The scope resolved; its own problems are those of the rules in versions.py, which see more."""
        return resolve(self.tree, self.cluster, self.machines.values())

    def pools_of(self, node: str) -> tuple[Document, ...]:
        """Pools that select a node, as far as the node is known."""
        machine = self.machines.get(node)
        return tuple(pool for pool in self.documents("NodePool") if machine and selects(pool, machine))

    def channel(self, name: str) -> Setting | None:
        """The version that a channel names here."""
        return self.shared.find("channels", name)
