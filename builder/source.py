"""The driver's source: one tag of one repository, and only if it is the pinned commit."""

import re
from pathlib import Path
from typing import Final

from builder.context import Stopped
from builder.host import Done, Host
from schema.names import SOURCE_TAG_PREFIX
from schema.states import Reason
from schema.transaction import Result

GIT_TIMEOUT_S: Final = 180.0
_COMMIT: Final = re.compile(r"[0-9a-f]{40}")
_OPTIONS: Final = ("-c", "core.hooksPath=/dev/null", "-c", "gc.auto=0", "-c", "safe.directory=*")


def check_out(host: Host, directory: Path, *, repository: str, version: str, commit: str) -> None:
    """Bring the tree of tag `ttkmd-<version>` into `directory`, without history.

    Raises:
        Stopped: UnknownRelease: no pin; SourceUnavailable: not fetched; SourceMismatch: the tag is another commit.
    """
    if not _COMMIT.fullmatch(commit):
        raise Stopped(
            Reason.UNKNOWN_RELEASE, f"{version} has no pin (40 hex digits): {commit!r}", result=Result.FAILED
        )
    tag = f"refs/tags/{SOURCE_TAG_PREFIX}{version}"
    done = _git(host, directory, "init", "--quiet", ".")
    if done.ok:
        done = _git(host, directory, "fetch", "--quiet", "--depth=1", "--no-tags", "--", repository, tag)
    if not done.ok:
        raise Stopped(Reason.SOURCE_UNAVAILABLE, f"{repository} {tag}: {done.said}", result=Result.FAILED)
    found = _git(host, directory, "rev-parse", "--verify", "FETCH_HEAD^{commit}").out.strip()
    if found != commit:
        message = f"{tag} of {repository} is {found}, the pin is {commit}"
        raise Stopped(Reason.SOURCE_MISMATCH, message, result=Result.FAILED)
    done = _git(host, directory, "checkout", "--quiet", "--detach", commit)
    if not done.ok:
        raise Stopped(Reason.SOURCE_UNAVAILABLE, f"checkout: {done.said}", result=Result.FAILED)


def _git(host: Host, directory: Path, *arguments: str) -> Done:
    return host.run(["git", *_OPTIONS, *arguments], timeout_s=GIT_TIMEOUT_S, cwd=directory)
