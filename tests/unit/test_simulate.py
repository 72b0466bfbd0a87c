"""`ttfleet simulate`: three commits in virtual time."""

import json

import pytest

from reconciler.commands import run


def simulate(capsys, *arguments):
    code = run(["simulate", *arguments])
    return code, capsys.readouterr().out


def test_three_commits_canary_first_and_back(capsys):
    code, text = simulate(capsys, "-o", "json")
    data = json.loads(text)
    adopt, move, revert = data["acts"]
    assert code == 0
    assert adopt["changes"] == []
    assert {(c["from"], c["to"]) for c in move["changes"]} == {("2.7.0", "2.8.0")}
    assert {(c["from"], c["to"]) for c in revert["changes"]} == {("2.8.0", "2.7.0")}
    assert len(move["changes"]) == len(revert["changes"]) == 12
    waves = {change["node"]: change["wave"] for change in move["changes"]}
    order = [e["what"].split()[0] for e in move["timeline"] if "runs 2.8.0" in e["what"]]
    ranks = [("canary", "early", "rest").index(waves[node]) for node in order]
    assert ranks == sorted(ranks)
    assert 1 <= data["mostUnavailable"] <= data["budget"] == 3
    assert all(change["outageSeconds"] > 0 for act in (move, revert) for change in act["changes"])


def test_the_same_seed_plays_the_same(capsys):
    first = simulate(capsys, "--seed", "7")
    assert simulate(capsys, "--seed", "7") == first
    assert simulate(capsys, "--seed", "8") != first
    assert "most nodes unavailable at once" in first[1]


@pytest.mark.parametrize("seed", ["1"])
def test_with_faults_it_still_ends_within_the_budget(capsys, seed):
    code, text = simulate(capsys, "--faults", "--seed", seed, "--nodes", "6", "-o", "json")
    data = json.loads(text)
    assert code == 0
    assert all(act["settled"] for act in data["acts"])
    assert data["mostUnavailable"] <= data["budget"]
