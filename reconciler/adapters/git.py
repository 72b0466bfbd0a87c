"""Fleet documents from git through GitPython: a bare, disposable cache of a remote, and commits of a local work tree.

Blobs are read from the commit, never from a work tree, by one-shot `ls-tree` and `cat-file --batch`. The environment is
hermetic: no system or user configuration, no hooks, no prompts, no background gc. Every call ends within its
time-out: the whole process group is killed, since `git fetch` has children of its own.
"""

import contextlib
import hashlib
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from git import Git
from git.exc import GitCommandNotFound

from reconciler.adapters.source import (
    DirectorySource,
    File,
    Source,
    SourceError,
    SourceReason,
    check_name,
    check_size,
    is_document,
)

__all__ = ["CommitSource", "DirectorySource", "File", "GitSource", "Source", "SourceError", "SourceReason"]

LOCAL_TIMEOUT_S: Final = 60.0
FETCH_TIMEOUT_S: Final = 120.0
_NO_SUCH_REF: Final = "couldn't find remote ref"
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_REF = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/+-]*")
_URL = re.compile(r"(https|http|ssh|git)://[^\s-][^\s]*|[A-Za-z0-9._-]+@[A-Za-z0-9.-]+:[^\s-][^\s]*")
_ENVIRONMENT: Final[Mapping[str, str]] = {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_SYSTEM": os.devnull,
    "GIT_CONFIG_COUNT": "0",
    "GIT_CONFIG_PARAMETERS": "",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES": "",
    "GIT_TERMINAL_PROMPT": "0",
    "LC_ALL": "C",
    "GIT_ATTR_NOSYSTEM": "1",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_ASKPASS": "true",
    "SSH_ASKPASS": "true",
    "GCM_INTERACTIVE": "never",
    "GIT_ALLOW_PROTOCOL": "https:http:ssh:git",
}
_OPTIONS: Final = (
    *("-c", f"core.hooksPath={os.devnull}"),
    *("-c", "gc.auto=0"),
    *("-c", "gc.autoDetach=false"),
    *("-c", "maintenance.auto=false"),
    *("-c", "fetch.fsckObjects=true"),
    *("-c", "safe.directory=*"),
    *("-c", "core.fsmonitor=false"),
    *("-c", "credential.helper="),
)


class CacheBrokenError(Exception):
    """The local cache does not hold what git says it holds: throw it away and fetch again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What one git command said."""

    status: int
    out: bytes
    error: str


def run_git(git_dir: Path, *arguments: str, stdin: bytes = b"", timeout_s: float = LOCAL_TIMEOUT_S) -> Answer:
    """Run git once, hermetically, as its own process group; kill the group when the time is up.

    Raises:
        SourceError: there is no git, or it took longer than `timeout_s`.
    """
    command = ["git", "--git-dir", str(git_dir), *_OPTIONS, *arguments]
    try:
        handle = Git(git_dir if git_dir.is_dir() else None).execute(
            command,
            istream=subprocess.PIPE,
            as_process=True,
            env={
                **_ENVIRONMENT,
                "GIT_DIR": str(git_dir),
                "GIT_OBJECT_DIRECTORY": str(_common_dir(git_dir) / "objects"),
            },
            start_new_session=True,
        )
    except GitCommandNotFound as error:
        raise SourceError(SourceReason.UNAVAILABLE, "git is not installed") from error
    process: subprocess.Popen[bytes] | None = handle.proc
    assert process is not None
    try:
        out, errors = process.communicate(stdin, timeout=timeout_s)
    except subprocess.TimeoutExpired as error:
        raise SourceError(
            SourceReason.UNAVAILABLE, f"git {arguments[0]} did not end within {timeout_s:g} s"
        ) from error
    finally:
        _end_group(process)
    return Answer(status=process.returncode, out=out, error=errors.decode(errors="replace").strip())


def _end_group(process: "subprocess.Popen[bytes]") -> None:
    """Nothing of the command is left behind: children of a killed git would hold its pipes and the cache's locks."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(timeout=LOCAL_TIMEOUT_S)
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None:
            stream.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectStore:
    """The objects of one git directory, read-only."""

    git_dir: Path

    def resolve(self, name: str) -> str:
        """Commit id of a ref or revision expression."""
        answer = self._read("rev-parse", "--verify", "--end-of-options", f"{name}^{{commit}}")
        return answer.decode().strip()

    def files(self, revision: str, path: str) -> tuple[File, ...]:
        """All documents below `path` ("" is the root), named relative to it, sorted.

        Raises:
            SourceError: the tree holds what is refused.
            CacheBrokenError: an object is missing or damaged.
        """
        entries = tuple(self._entries(revision, path))
        blobs = self._blobs(tuple(blob for _, blob in entries))
        files = (File(path=name, blob=blob, data=blobs[blob]) for name, blob in entries)
        return tuple(sorted(files, key=lambda file: file.path))

    def history(self, revision: str, limit: int) -> tuple[str, ...]:
        """First-parent ancestors of a commit, newest first, without the commit."""
        out = self._read(
            "rev-list", "--first-parent", f"--max-count={limit + 1}", "--end-of-options", revision
        )
        return tuple(out.decode().split()[1:])

    def descends(self, revision: str, ancestor: str) -> bool:
        """False also where `ancestor` is not here (any more)."""
        return run_git(self.git_dir, "merge-base", "--is-ancestor", ancestor, revision).status == 0

    def _entries(self, revision: str, path: str) -> Iterator[tuple[str, str]]:
        treeish = f"{revision}:{path}" if path else f"{revision}^{{tree}}"
        out = self._read("ls-tree", "-r", "-z", "-l", "--full-tree", "--end-of-options", treeish)
        total_bytes = files = 0
        for line in filter(None, out.split(b"\0")):
            head, _, raw = line.partition(b"\t")
            mode, kind, blob, size = head.decode().split()
            name = raw.decode(errors="surrogateescape")
            if mode == "120000" or kind != "blob":
                what = "symbolic link" if mode == "120000" else "submodule"
                raise SourceError(SourceReason.REFUSED, f"{name!r}: a {what} is not followed; remove it")
            if not is_document(name):
                continue
            check_name(name)
            files, total_bytes = files + 1, total_bytes + int(size)
            check_size(name, int(size), files=files, total_bytes=total_bytes)
            yield name, blob

    def _blobs(self, ids: tuple[str, ...]) -> dict[str, bytes]:
        if not ids:
            return {}
        wanted = tuple(dict.fromkeys(ids))
        out = self._read("cat-file", "--batch", stdin="".join(f"{blob}\n" for blob in wanted).encode())
        blobs: dict[str, bytes] = {}
        at = 0
        for blob in wanted:
            end = out.find(b"\n", at)
            words = out[at:end].split()
            if end < 0 or len(words) != 3 or words[0].decode() != blob or words[1] != b"blob":
                raise CacheBrokenError(f"blob {blob} cannot be read")
            size_bytes = int(words[2])
            blobs[blob] = out[end + 1 : end + 1 + size_bytes]
            at = end + size_bytes + 2
        return blobs

    def _read(self, *arguments: str, stdin: bytes = b"") -> bytes:
        answer = run_git(self.git_dir, *arguments, stdin=stdin)
        if answer.status != 0:
            raise CacheBrokenError(f"git {arguments[0]}: {answer.error}")
        return answer.out


@dataclass(frozen=True, kw_only=True)
class GitSource:
    """A ref of a remote repository, through a bare cache that may be deleted at any time.

    Attributes:
        url: https, http, ssh or git; nothing that runs a command or reads this machine's files.
        ref: branch, tag or full ref name.
        path: directory in the repository where the fleet lies, "" for its root.
        cache: directory for caches; each url has one of its own below it.
    """

    url: str
    ref: str = "main"
    path: str = ""
    cache: Path
    fetch_timeout_s: float = FETCH_TIMEOUT_S

    def __post_init__(self) -> None:
        if not _URL.fullmatch(self.url):
            raise SourceError(
                SourceReason.REFUSED, f"url {self.url!r}: only https, http, ssh and git are fetched"
            )
        if not _REF.fullmatch(self.ref) or ".." in self.ref:
            raise SourceError(SourceReason.REFUSED, f"ref {self.ref!r} is no name of a branch or tag")
        if self.path:
            check_name(self.path)

    @property
    def store(self) -> ObjectStore:
        name = hashlib.sha256(self.url.encode()).hexdigest()[:16]
        return ObjectStore(git_dir=self.cache / f"{name}.git")

    def revision(self) -> str:
        """Fetch the ref; commit id. A broken cache is built anew, once."""
        try:
            return self._fetch()
        except CacheBrokenError:
            self._discard()
        try:
            return self._fetch()
        except CacheBrokenError as error:
            raise SourceError(SourceReason.UNAVAILABLE, f"{self.url}: {error}") from error

    def files(self, revision: str) -> tuple[File, ...]:
        try:
            return self.store.files(revision, self.path)
        except CacheBrokenError:
            self._discard()
            self.revision()
        try:
            return self.store.files(revision, self.path)
        except CacheBrokenError as error:
            raise SourceError(SourceReason.UNAVAILABLE, f"{self.url}: {revision}: {error}") from error

    def history(self, revision: str, limit: int) -> tuple[str, ...]:
        try:
            return self.store.history(revision, limit)
        except CacheBrokenError as error:
            raise SourceError(SourceReason.UNAVAILABLE, f"{self.url}: {error}") from error

    def descends(self, revision: str, ancestor: str) -> bool:
        return self.store.descends(revision, ancestor)

    def _fetch(self) -> str:
        """Raises CacheBrokenError where the remote answers but the cache does not take it."""
        git_dir = self.store.git_dir
        fresh = not git_dir.is_dir()
        if fresh:
            self._initialise()
        arguments = ("--no-tags", "--no-recurse-submodules", "--no-write-fetch-head", "--force", "--quiet")
        for name in self._names:
            answer = self._remote("fetch", *arguments, "--end-of-options", self.url, f"+{name}:{self._head}")
            if answer.status == 0:
                return self.store.resolve(self._head)
            if _NO_SUCH_REF not in answer.error:
                break
        if not fresh and self._remote_answers():
            raise CacheBrokenError(answer.error)
        raise SourceError(SourceReason.UNAVAILABLE, f"{self.url} {self.ref}: {_last_line(answer.error)}")

    @property
    def _names(self) -> tuple[str, ...]:
        """The branch before the tag: git by itself prefers the tag, which people may push past a branch's protection."""
        if self.ref == "HEAD" or self.ref.startswith("refs/"):
            return (self.ref,)
        return (f"refs/heads/{self.ref}", f"refs/tags/{self.ref}")

    @property
    def _head(self) -> str:
        """Where the ref lies in the cache, which other processes may use for other refs at the same time."""
        return f"refs/ttfleet/{hashlib.sha256(self.ref.encode()).hexdigest()[:16]}"

    def _remote(self, *arguments: str) -> Answer:
        return run_git(self.store.git_dir, *arguments, timeout_s=self.fetch_timeout_s)

    def _remote_answers(self) -> bool:
        probe = run_git(
            Path(os.devnull), "ls-remote", "--exit-code", "--end-of-options", self.url, self.ref,
            timeout_s=self.fetch_timeout_s,
        )  # fmt: skip
        return probe.status == 0

    def _initialise(self) -> None:
        self.cache.mkdir(parents=True, exist_ok=True)
        answer = run_git(self.store.git_dir, "init", "--bare", "--quiet", "--template=")
        if answer.status != 0:
            raise SourceError(SourceReason.UNAVAILABLE, f"{self.cache}: {answer.error}")

    def _discard(self) -> None:
        shutil.rmtree(self.store.git_dir, ignore_errors=True)


@dataclass(frozen=True, kw_only=True)
class CommitSource:
    """One revision of the local repository around a directory: what `--against REV` reads."""

    directory: Path
    name: str

    def revision(self) -> str:
        try:
            return self._store().resolve(self.name)
        except CacheBrokenError as error:
            raise SourceError(SourceReason.UNAVAILABLE, f"{self.name}: no such commit here") from error

    def files(self, revision: str) -> tuple[File, ...]:
        top = _work_tree(self.directory)
        path = self.directory.resolve().relative_to(top).as_posix()
        try:
            return self._store().files(revision, "" if path == "." else path)
        except CacheBrokenError as error:
            raise SourceError(SourceReason.UNAVAILABLE, f"{revision[:12]}:{path}: {error}") from error

    def history(self, revision: str, limit: int) -> tuple[str, ...]:
        try:
            return self._store().history(revision, limit)
        except CacheBrokenError as error:
            raise SourceError(SourceReason.UNAVAILABLE, f"{self.directory}: {error}") from error

    def descends(self, revision: str, ancestor: str) -> bool:
        return self._store().descends(revision, ancestor)

    def _store(self) -> ObjectStore:
        return ObjectStore(git_dir=_git_dir(_work_tree(self.directory)))


def _work_tree(directory: Path) -> Path:
    for parent in (directory.resolve(), *directory.resolve().parents):
        if (parent / ".git").exists():
            return parent
    raise SourceError(SourceReason.UNAVAILABLE, f"{directory}: not in a git repository")


def _git_dir(top: Path) -> Path:
    """`.git` itself, or what a linked work tree's `.git` file points at."""
    marker = top / ".git"
    if marker.is_dir():
        return marker
    target = Path(marker.read_text(encoding="utf-8").removeprefix("gitdir:").strip())
    return (top / target).resolve()


def _common_dir(git_dir: Path) -> Path:
    """Where a linked work tree's objects lie: the repository it belongs to."""
    link = git_dir / "commondir"
    return (git_dir / link.read_text(encoding="utf-8").strip()).resolve() if link.exists() else git_dir


def _last_line(text: str) -> str:
    """What went wrong in one line: git's own `fatal:` or `error:` line."""
    lines = [line for line in text.splitlines() if line.startswith(("fatal:", "error:"))]
    return (lines or text.splitlines() or ["no answer"])[0]
