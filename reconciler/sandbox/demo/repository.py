"""The demo's fleet repository: `fleet/` as a git repository, edited and pushed as a person would."""

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from reconciler.sandbox.errors import SandboxError
from reconciler.sandbox.shipped import shipped

BRANCH: Final = "main"
FLEET_FILE: Final = "fleet.yaml"
GIT_BOUND_S: Final = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetRepository:
    """A work tree, and the bare repository that it pushes to and that the git server serves."""

    tree: Path
    bare: Path

    @classmethod
    def create(cls, directory: Path, *, served: Path, name: str, source_url: str) -> "FleetRepository":
        """Turn the example fleet into a repository; its Releases point at `source_url`.

        Nothing is committed yet: `commit` makes commit 1.
        """
        repository = cls(tree=directory / "fleet", bare=served / name)
        shutil.copytree(shipped("fleet"), repository.tree)
        for release in sorted((repository.tree / "releases").glob("*.yaml")):
            _point_at(release, source_url)
        _git(served, "init", "--quiet", "--bare", f"--initial-branch={BRANCH}", str(repository.bare))
        _git(repository.tree, "init", "--quiet", f"--initial-branch={BRANCH}")
        _git(repository.tree, "remote", "add", "origin", str(repository.bare))
        return repository

    def commit(self, message: str) -> str:
        """Commit the work tree and push it; returns the commit id."""
        _git(self.tree, "add", "--all")
        _git(self.tree, "commit", "--quiet", "--message", message)
        return self._push()

    def move_channel(self, channel: str, version: str, message: str) -> str:
        """Set a channel of the Fleet to `version`: the one-line change that an upgrade is."""
        place = self.tree / FLEET_FILE
        text = place.read_text(encoding="utf-8")
        moved, count = re.subn(rf'(\b{channel}: *)"[^"]*"', rf'\g<1>"{version}"', text)
        if count != 1:
            raise SandboxError(f"{place}: expected one channel {channel!r}, found {count}")
        place.write_text(moved, encoding="utf-8")
        return self.commit(message)

    def revert(self) -> str:
        """`git revert` the last commit, and push."""
        _git(self.tree, "revert", "--no-edit", "HEAD")
        return self._push()

    def _push(self) -> str:
        _git(self.tree, "push", "--quiet", "--set-upstream", "origin", BRANCH)
        return _git(self.tree, "rev-parse", "HEAD").strip()


def _point_at(release: Path, source_url: str) -> None:
    """Take the source from here instead of upstream; the pinned commit stays as it is."""
    text = release.read_text(encoding="utf-8")
    release.write_text(
        re.sub(r"(?m)^( +)commit:", rf"\1repository: {source_url}\n\1commit:", text), encoding="utf-8"
    )


def _git(directory: Path, *arguments: str) -> str:
    person = {
        f"GIT_{role}_{what}": value for role in ("AUTHOR", "COMMITTER") for what, value in _PERSON.items()
    }
    hermetic = {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull, "GIT_TERMINAL_PROMPT": "0"}
    done = subprocess.run(
        ["git", "-C", str(directory), *arguments],
        env=os.environ | person | hermetic,
        capture_output=True,
        text=True,
        timeout=GIT_BOUND_S,
        check=False,
    )
    if done.returncode:
        raise SandboxError(f"git {' '.join(arguments)} in {directory}: {done.stderr.strip()}")
    return done.stdout


_PERSON: Final = {"NAME": "ttfleet demo", "EMAIL": "demo@example.com"}
