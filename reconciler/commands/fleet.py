"""What the verbs that read a fleet repository share: load, refuse faults, choose the cluster, know its nodes."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click

from reconciler.adapters.source import DirectorySource, Source, SourceError
from reconciler.adapters.tree import load_tree
from reconciler.commands.errors import EXIT_FINDINGS, EXIT_USAGE, Failure
from reconciler.core.fleet.documents import Problem, Severity, Tree
from reconciler.core.fleet.machines import Machine
from reconciler.core.fleet.resolve import Desired, cluster_names, concerns, resolve
from reconciler.core.fleet.validate import check


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """A fault-free tree, the cluster it is read for, and the nodes known there."""

    tree: Tree
    cluster: str
    machines: tuple[Machine, ...]

    def desired(self) -> Desired:
        """The tree resolved.

        Raises:
            Failure: faults that show only with nodes.
        """
        desired = resolve(self.tree, self.cluster, self.machines)
        refuse_faults(desired.problems)
        return desired


def open_fleet(path: Path, cluster: str | None) -> Fleet:
    """Read the fleet in a directory.

    Raises:
        Failure: it cannot be read, has faults, or is of several clusters and none was named.
    """
    tree = read_tree(DirectorySource(path))
    chosen = choose_cluster(tree, cluster)
    refuse_faults(tuple(p for p in (*tree.problems, *check(tree, chosen)) if concerns(p, chosen)))
    return Fleet(tree=tree, cluster=chosen, machines=tuple(known_machines(tree, chosen)))


def read_tree(source: Source) -> Tree:
    try:
        return load_tree(source, source.revision())
    except SourceError as error:
        raise Failure(f"{error.reason}: {error}", EXIT_USAGE) from error


def choose_cluster(tree: Tree, cluster: str | None) -> str:
    """The cluster that was named, or the only one there is.

    Raises:
        Failure: there are several, or none of that name.
    """
    names = cluster_names(tree)
    if cluster is not None and names and cluster not in names:
        raise Failure(f"no cluster {cluster!r} in this repository; there are: {', '.join(names)}")
    if cluster is None and len(names) > 1:
        raise Failure(f"several clusters, name one with --cluster: {', '.join(names)}")
    return (cluster or names[0]) if names else ""


def known_machines(tree: Tree, cluster: str) -> Iterator[Machine]:
    """The cluster's Inventory; without one, the nodes that pools name."""
    inventories = tree.of_kind("Inventory", cluster)
    if inventories:
        for inventory in inventories:
            yield from (Machine.of_inventory(entry) for entry in inventory.spec["nodes"])
        return
    for name in sorted(
        {name for pool in tree.of_kind("NodePool", cluster) for name in pool.spec.get("nodes", ())}
    ):
        yield Machine.named(name)


def refuse_faults(problems: tuple[Problem, ...]) -> None:
    """Print every problem; end here when one is an error."""
    for problem in problems:
        click.echo(str(problem), err=True)
    errors = sum(problem.severity is Severity.ERROR for problem in problems)
    if errors:
        raise Failure(f"{errors} error{'s' if errors > 1 else ''} in the fleet repository", EXIT_FINDINGS)
