"""A git repository of the stub driver, with tags `ttkmd-<version>` and the same commit ids on every machine."""

import os
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from schema.names import SOURCE_TAG_PREFIX

PLACEHOLDER: Final = b'"0.0.0"'  # what stands for the version in the sources as they lie here
GIT_TIMEOUT_S: Final = 30.0
_DATE: Final = "2026-01-01T00:00:00Z"
_FILES: Final = (
    "Makefile",
    "README.md",
    "dkms.conf",
    "tenstorrent.c",
    "udev-50-tenstorrent.rules",
    "version.h",
)


def source_files(version: str) -> dict[str, bytes]:
    """The stub driver's files as tag `ttkmd-<version>` has them."""
    directory = _source_directory()
    return {
        name: (directory / name).read_bytes().replace(PLACEHOLDER, f'"{version}"'.encode()) for name in _FILES
    }


def create_source_repository(directory: Path, versions: Iterable[str] = ("2.7.0", "2.8.0")) -> dict[str, str]:
    """Make `directory` a git repository with one commit and one lightweight tag a version.

    Author, dates and messages are fixed, so the ids are the same everywhere and a fleet repository can pin them.
    They depend on the order of `versions`: each commit is the child of the one before.

    Args:
        directory: created; must not hold a repository yet.
        versions: `x.y.z`, oldest first.

    Returns:
        version -> commit id, 40 hex digits.
    """
    directory.mkdir(parents=True, exist_ok=True)
    _git(directory, "init", "--quiet", "--initial-branch=main", ".")
    return {version: _commit(directory, version) for version in versions}


def _commit(directory: Path, version: str) -> str:
    for name, data in source_files(version).items():
        (directory / name).write_bytes(data)
    _git(directory, "add", "--all", "--", *_FILES)
    _git(directory, "commit", "--quiet", "--message", f"Release {version}")
    _git(directory, "tag", f"{SOURCE_TAG_PREFIX}{version}")
    return _git(directory, "rev-parse", "HEAD").strip()


def _source_directory() -> Path:
    """In a wheel the stub lies beside us, in a checkout among the test data."""
    packaged = Path(__file__).parents[1] / "data" / "stub-kmd"
    return packaged if packaged.is_dir() else Path(__file__).parents[3] / "tests" / "data" / "stub-kmd"


def _git(directory: Path, *arguments: str) -> str:
    environment = {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_AUTHOR_NAME": "ttfleet",
        "GIT_AUTHOR_EMAIL": "ttfleet@example.invalid",
        "GIT_AUTHOR_DATE": _DATE,
        "GIT_COMMITTER_NAME": "ttfleet",
        "GIT_COMMITTER_EMAIL": "ttfleet@example.invalid",
        "GIT_COMMITTER_DATE": _DATE,
    }
    command = [
        "git",
        "-c",
        "core.autocrlf=false",
        "-c",
        "core.fileMode=false",
        "-C",
        str(directory),
        *arguments,
    ]
    done = subprocess.run(
        command, check=True, env=environment, capture_output=True, text=True, timeout=GIT_TIMEOUT_S
    )
    return done.stdout
