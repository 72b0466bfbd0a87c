"""What is fetched, and what a fault becomes; the schema of FleetSync."""

import pytest

from reconciler.adapters.source import File, SourceError, SourceReason, blob_id
from reconciler.core.rollout.syncworld import Stall
from reconciler.sync.repository import Repository, open_repository
from schema.sync import SyncMode, SyncReason, SyncSpec, duration_s

POOL = b"""apiVersion: fleet.tenstorrent.com/v1alpha1
kind: NodePool
metadata: {name: p}
spec: {nodes: [a], kmd: {mode: container, version: "2.7.0"}}
"""
OTHER = POOL.replace(b"nodes: [a]", b"nodes: [a, b]")
ONE, TWO, THREE = ("1" * 40, "2" * 40, "3" * 40)


class Commits:
    """A source of which every revision is known: name -> files, in first-parent order, newest first."""

    def __init__(self, **commits: bytes) -> None:
        self.commits = {name.removeprefix("c"): data for name, data in commits.items()}
        self.read: list[str] = []

    def revision(self) -> str:
        return next(iter(self.commits))

    def files(self, revision):
        self.read.append(revision)
        if revision not in self.commits:
            raise SourceError(SourceReason.UNAVAILABLE, revision)
        data = self.commits[revision]
        return (File(path="p.yaml", blob=blob_id(data), data=data),)

    def history(self, revision, limit):
        names = list(self.commits)
        return tuple(names[names.index(revision) + 1 :][:limit])

    def descends(self, revision, ancestor):
        return ancestor in self.history(revision, 100)


def test_the_commit_before_and_the_one_applied_last_come_along():
    fetched = Repository(source=Commits(**{ONE: OTHER, TWO: POOL, THREE: POOL})).fetch(THREE)
    assert fetched.tree.revision == ONE
    assert fetched.previous.revision == THREE
    assert [tree.revision for tree in fetched.past] == [TWO, THREE]


def test_semantic_problems_are_in_the_tree():
    fetched = Repository(source=Commits(**{ONE: POOL})).fetch("")
    assert [problem.code for problem in fetched.tree.problems] == ["TTF402"]


def test_a_commit_is_read_once():
    source = Commits(**{ONE: POOL, TWO: POOL})
    repository = Repository(source=source)
    for _ in range(3):
        repository.fetch(TWO)
    assert sorted(source.read) == [ONE, TWO]


def test_a_history_without_the_commit_that_was_applied_is_refused_unless_allowed():
    source = Commits(**{ONE: POOL})
    assert Repository(source=source).fetch(TWO).fault.reason is SyncReason.NOT_FAST_FORWARD
    allowed = Repository(source=source, allow_rewrite=True).fetch(TWO)
    assert allowed.fault is None
    assert allowed.previous is None


def test_a_revision_of_a_directory_is_no_commit_and_no_rewrite():
    assert Repository(source=Commits(**{ONE: POOL})).fetch("dir-0123456789ab").fault is None


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        (SyncSpec(url="file:///etc"), SyncReason.SOURCE_REFUSED),
        (SyncSpec(url="https://example.org/x", secret="s"), SyncReason.SOURCE_REFUSED),
    ],
)
def test_a_repository_that_cannot_be_opened_is_a_stall(spec, reason, tmp_path):
    opened = open_repository(spec, tmp_path)
    assert isinstance(opened, Stall)
    assert opened.reason is reason


def test_a_directory_that_is_gone_is_a_fault_not_an_empty_fleet(tmp_path):
    opened = open_repository(SyncSpec(path=str(tmp_path / "gone")), tmp_path)
    assert opened.fetch("").fault.reason is SyncReason.SOURCE_UNAVAILABLE


@pytest.mark.parametrize(("text", "seconds"), [("1m", 60), ("90s", 90), ("1h30m", 5400), ("0s", 1)])
def test_durations(text, seconds):
    assert duration_s(text) == seconds


@pytest.mark.parametrize("text", ["", "5", "m", "1d", "1m 5s"])
def test_what_is_no_duration(text):
    with pytest.raises(ValueError, match="no duration"):
        duration_s(text)


def test_the_spec_of_a_fleet_sync_and_its_defaults():
    assert SyncSpec.from_json({"url": "u"}) == SyncSpec(
        url="u", ref="main", interval_s=60, mode=SyncMode.OBSERVE, prune=True
    )
    full = {
        "path": "/fleet", "cluster": "c", "interval": "5s", "suspend": True, "mode": "Enforce", "prune": False,
        "secretRef": {"name": "s"}, "ref": "stable",
    }  # fmt: skip
    assert SyncSpec.from_json(full) == SyncSpec(
        path="/fleet",
        cluster="c",
        interval_s=5,
        suspend=True,
        mode=SyncMode.ENFORCE,
        prune=False,
        secret="s",
        ref="stable",
    )


def test_every_reason_of_a_source_is_a_reason_of_a_fleet_sync():
    assert {str(reason) for reason in SourceReason} <= {str(reason) for reason in SyncReason}
