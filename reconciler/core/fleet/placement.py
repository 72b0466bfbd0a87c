"""Rules on where documents lie and what they are called."""

from collections.abc import Iterator
from itertools import groupby

from reconciler.core.fleet.documents import Document, Mark, Problem
from reconciler.core.fleet.problems import Code
from reconciler.core.fleet.scopes import Scope

_SHADOWED = ("NodePool", "Node", "Release", "Cluster")
_OWN = ("Cluster", "Node", "Inventory")


def one_name_each(scope: Scope) -> Iterator[Problem]:
    """A name is used once per kind in what one cluster sees."""
    for kind in _SHADOWED:
        found = sorted(scope.documents(kind), key=lambda d: (d.name, d.cluster, d.mark))
        for name, group in groupby(found, key=lambda document: document.name):
            first, *others = group
            for other in others:
                yield _at_name(
                    other,
                    Code.DUPLICATE_NAME,
                    f"{kind} {name} is there twice; the first is at {_name_mark(first)}",
                    "rename or remove one of them",
                )


def one_fleet(scope: Scope) -> Iterator[Problem]:
    for kind, what in (("Fleet", "a repository"), ("Inventory", "a cluster")):
        found = sorted(scope.documents(kind), key=lambda document: document.mark)
        for other in found[1:]:
            message = f"{what} has one {kind}; the first is at {_name_mark(found[0])}"
            yield _at_name(other, Code.SECOND_FLEET, message, "keep one of them")


def in_its_directory(scope: Scope) -> Iterator[Problem]:
    """With `clusters/`, what speaks of one cluster lies in that cluster's directory and carries its name."""
    for kind in _OWN:
        for document in scope.documents(kind):
            if scope.cluster and not document.cluster:
                message = f"{kind} {document.name} is of one cluster and lies outside clusters/"
                yield _at_name(document, Code.WRONG_PLACE, message, "move it to clusters/<cluster>/")
            elif kind != "Node" and document.cluster and document.name != document.cluster:
                message = f"{kind} {document.name} lies in clusters/{document.cluster}/"
                yield _at_name(document, Code.WRONG_PLACE, message, f"call it {document.cluster}, or move it")


def one_cluster(scope: Scope) -> Iterator[Problem]:
    """Without `clusters/`, the repository is one cluster."""
    clusters = sorted(scope.documents("Cluster"), key=lambda document: document.mark)
    if scope.cluster or not clusters:
        return
    for other in clusters[1:]:
        message = f"a second Cluster beside {clusters[0].name}"
        yield _at_name(
            other, Code.WRONG_PLACE, message, "several clusters lie in clusters/<name>/, each in its own"
        )
    for inventory in scope.documents("Inventory"):
        if inventory.name != clusters[0].name:
            message = f"Inventory {inventory.name} is not of Cluster {clusters[0].name}"
            yield _at_name(inventory, Code.WRONG_PLACE, message, f"call it {clusters[0].name}")


def has_a_cluster(scope: Scope) -> Iterator[Problem]:
    """A directory below `clusters/` has its Cluster, so that a mistyped directory is not a new cluster."""
    if not scope.cluster or scope.may_be_missing("Cluster"):
        return
    own = sorted((d for d in scope.tree.documents if d.cluster == scope.cluster), key=lambda d: d.mark)
    if not any(document.kind == "Cluster" for document in own):
        place = f"clusters/{scope.cluster}/"
        hint = f"add {place}cluster.yaml, or correct the name of the directory"
        mark = own[0].mark if own else Mark(file=".")
        message = f"{place} has no Cluster" if own else f"there is no {place}"
        yield Problem(mark=mark, code=Code.NO_CLUSTER, message=message, hint=hint)


def not_beside_clusters(scope: Scope) -> Iterator[Problem]:
    """A file in `clusters/` itself belongs to no cluster, and is hardly meant for all."""
    for document in scope.tree.documents:
        if document.mark.file.startswith("clusters/") and not document.cluster:
            message = f"{document.kind} {document.name} lies in clusters/, in no cluster's directory"
            yield _at_name(
                document, Code.WRONG_PLACE, message, "move it to clusters/<cluster>/, or out of clusters/"
            )


def _name_mark(document: Document) -> str:
    mark = document.mark_at("metadata", "name")
    return f"{mark.file}:{mark.line}"


def _at_name(document: Document, code: Code, message: str, hint: str) -> Problem:
    return Problem(mark=document.mark_at("metadata", "name"), code=code, message=message, hint=hint)


RULES = (one_name_each, one_fleet, in_its_directory, one_cluster, has_a_cluster, not_beside_clusters)
