"""What was fetched: the commit as a tree with every problem found, and the commits before it that decisions need."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from reconciler.adapters.git import GitSource
from reconciler.adapters.source import DirectorySource, Source, SourceError
from reconciler.adapters.tree import Readings, load_tree
from reconciler.core.fleet.documents import Tree
from reconciler.core.fleet.validate import check
from reconciler.core.rollout.guards import DOWNGRADE_COMMITS
from reconciler.core.rollout.syncworld import Stall
from schema.sync import SyncReason, SyncSpec

_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """One fetch. Either `tree` or `fault` is set; `last_applied` is what `previous` was read for."""

    tree: Tree | None = None
    fault: Stall | None = None
    previous: Tree | None = None
    past: tuple[Tree, ...] = ()
    last_applied: str | None = None


@dataclass
class Repository:
    """A source, and what was read of it; parsed files are kept by blob id, so that a fetch costs what it changed.

    Attributes:
        cluster: name below `clusters/`, "" for a repository that is one cluster.
        allow_rewrite: a history that does not contain what was applied last is no fault.
    """

    source: Source
    cluster: str = ""
    allow_rewrite: bool = False
    _readings: Readings = field(default_factory=Readings)
    _old_readings: Readings = field(default_factory=Readings)
    _trees: dict[str, Tree] = field(default_factory=dict)

    def fetch(self, last_applied: str) -> Fetched:
        """Blocking: run it in a thread. Never raises for what a repository may hold or a network may do.

        Args:
            last_applied: revision that was applied last, "" when there is none.
        """
        try:
            revision = self.source.revision()
            rewritten = self._rewritten(revision, last_applied)
            if rewritten is not None:
                return Fetched(fault=rewritten, last_applied=last_applied)
            tree = self._tree(revision, self._readings)
            past = tuple(
                self._tree(old, self._old_readings)
                for old in self.source.history(revision, DOWNGRADE_COMMITS)
            )
        except SourceError as error:
            fault = Stall(reason=SyncReason(str(error.reason)), message=str(error))
            return Fetched(fault=fault, last_applied=last_applied)
        kept = {revision, last_applied, *(old.revision for old in past)}
        self._trees = {name: known for name, known in self._trees.items() if name in kept}
        previous = self._previous(last_applied)
        return Fetched(tree=tree, previous=previous, past=past, last_applied=last_applied)

    def _rewritten(self, revision: str, last_applied: str) -> Stall | None:
        if self.allow_rewrite or not (_COMMIT.fullmatch(revision) and _COMMIT.fullmatch(last_applied)):
            return None
        if revision == last_applied or self.source.descends(revision, last_applied):
            return None
        message = f"{revision[:12]} does not descend from {last_applied[:12]}, which was applied last: push a commit that"
        hint = "does, or accept the new history once with `ttfleet apply --allow-rewrite`"
        return Stall(reason=SyncReason.NOT_FAST_FORWARD, message=f"{message} {hint}")

    def _tree(self, revision: str, readings: Readings) -> Tree:
        if revision not in self._trees:
            tree = load_tree(self.source, revision, readings)
            problems = tuple(sorted((*tree.problems, *check(tree, self.cluster))))
            self._trees[revision] = replace(tree, problems=problems)
        return self._trees[revision]

    def _previous(self, last_applied: str) -> Tree | None:
        try:
            return self._tree(last_applied, self._old_readings) if last_applied else None
        except SourceError:
            return None  # a directory that has changed since, or a commit that is gone: judged by the live policies


def open_repository(
    spec: SyncSpec, cache: Path, *, allow_rewrite: bool = False, source: Callable[[], Source] | None = None
) -> Repository | Stall:
    """The repository that a FleetSync names."""
    if spec.secret:
        message = "spec.secretRef: repositories that need credentials are not supported yet"
        return Stall(reason=SyncReason.SOURCE_REFUSED, message=message)
    try:
        made = source() if source else _source(spec, cache)
    except SourceError as error:
        return Stall(reason=SyncReason(str(error.reason)), message=str(error))
    return Repository(source=made, cluster=spec.cluster, allow_rewrite=allow_rewrite)


def _source(spec: SyncSpec, cache: Path) -> Source:
    if spec.path:
        return DirectorySource(Path(spec.path))
    return GitSource(url=spec.url, ref=spec.ref, cache=cache)
