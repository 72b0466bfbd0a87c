"""The demo's git server serves real clones and is gone afterwards."""

import os
import subprocess

import pytest

from reconciler.sandbox.gitserver import serve
from reconciler.sandbox.processes import Identity

ENV = os.environ | {
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "a",
    "GIT_AUTHOR_EMAIL": "a@example.com",
    "GIT_COMMITTER_NAME": "a",
    "GIT_COMMITTER_EMAIL": "a@example.com",
}


def git(*arguments):
    return subprocess.run(
        ["git", *arguments], env=ENV, capture_output=True, text=True, timeout=30, check=False
    )


@pytest.fixture
def repositories(tmp_path):
    assert git("init", "-q", "-b", "main", tmp_path / "work").returncode == 0
    (tmp_path / "work" / "fleet.yaml").write_text("kind: Fleet\n")
    assert git("-C", tmp_path / "work", "add", ".").returncode == 0
    assert git("-C", tmp_path / "work", "commit", "-qm", "first").returncode == 0
    assert git("clone", "-q", "--bare", tmp_path / "work", tmp_path / "served" / "fleet.git").returncode == 0
    return tmp_path / "served"


def test_serves_clones_refuses_pushes_and_ends(tmp_path, repositories):
    with serve(repositories, tmp_path / "log") as server:
        answer = git("clone", "-q", server.url("fleet.git"), tmp_path / "clone")
        assert answer.returncode == 0, answer.stderr
        assert (tmp_path / "clone" / "fleet.yaml").read_text() == "kind: Fleet\n"
        assert git("-C", tmp_path / "clone", "push", "-q", "origin", "HEAD:refs/heads/x").returncode != 0
        assert "no-such" in git("ls-remote", server.url("no-such.git")).stderr
        identity = server.child.identity
        assert identity.alive
    assert Identity.of(identity.pid) != identity
