"""Semantic rules where the corpus cannot go: the cluster that a reconciler names, the clock, faulty neighbours."""

from pathlib import Path

import pytest

from reconciler.adapters.source import DirectorySource
from reconciler.adapters.tree import load_tree
from reconciler.core.fleet.documents import Severity
from reconciler.core.fleet.problems import Code
from reconciler.core.fleet.validate import check

DATA = Path(__file__).parents[1] / "data"


def tree(case):
    source = DirectorySource(DATA / case)
    return load_tree(source, source.revision())


def codes(problems):
    return [problem.code for problem in problems]


def test_a_repository_without_clusters_is_the_cluster_whatever_it_is_called():
    assert check(tree("valid/one-file"), "prod-eu1") == ()
    assert check(tree("valid/one-file"), "") == ()


def test_a_cluster_that_is_not_there_is_an_error_and_no_empty_fleet():
    problem = check(tree("valid/everything"), "prod-eul")[0]
    assert (problem.code, problem.severity) == (Code.NO_CLUSTER, Severity.ERROR)
    assert "there is no clusters/prod-eul/" in problem.message


def test_another_clusters_problems_are_not_ours():
    one = tree("invalid/TTF402-no-release-in-one-cluster")
    assert codes(check(one, "us1")) == []
    assert codes(check(one, "eu1")) == codes(check(one)) == [Code.NO_RELEASE]


@pytest.mark.parametrize(("today", "found"), [("", []), ("2026-11-23", []), ("2026-11-24", [Code.REVIEW_DUE]), ("2030-01-01", [Code.REVIEW_DUE])])  # fmt: skip
def test_the_clock_only_warns(today, found):
    problems = check(tree("valid/TTF212-review-due-warns"), today=today)
    assert codes(problems) == found
    assert all(problem.severity is Severity.WARNING for problem in problems)


def test_a_hold_makes_no_wave_empty():
    problems = check(tree("valid/everything"))
    assert problems == ()


def test_the_same_tree_gives_the_same_problems_in_the_same_order():
    case = "invalid/TTF203-wrong-places"
    assert check(tree(case)) == check(tree(case)) == tuple(sorted(check(tree(case))))
