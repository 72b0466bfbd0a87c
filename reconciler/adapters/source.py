"""Where fleet documents come from: the port `Source`, what a source may hold, and the directory on disk.

A source is read whole and by revision; what it yields is bytes. Whether the bytes make sense is adapters/tree.py's.
"""

import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Final, Protocol

SUFFIXES: Final = (".yaml", ".yml", ".json")
MAX_FILES: Final = 20_000
MAX_FILE_BYTES: Final = 1_048_576
MAX_TREE_BYTES: Final = 67_108_864
MAX_PATH_BYTES: Final = 512
_NAME = re.compile(r"[A-Za-z0-9_.@+=,~%{}\[\]()#!& -]+")


class SourceReason(StrEnum):
    """Why a source gave nothing; reasons of FleetSync's condition Stalled."""

    UNAVAILABLE = "SourceUnavailable"  # cannot be fetched or read just now
    REFUSED = "SourceRefused"  # it holds what we do not read: symlinks, submodules, odd names, too much
    EMPTY = "SourceEmpty"  # no documents at all: an error, never an empty fleet
    NOT_FAST_FORWARD = "NotFastForward"  # history was rewritten


class SourceError(Exception):
    """A source that cannot be read. Nothing may be changed or deleted because of it."""

    def __init__(self, reason: SourceReason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """One file: path relative to the source's root, git's blob id (or an equal hash of the content), bytes."""

    path: str
    blob: str
    data: bytes


class Source(Protocol):
    """Fleet documents by revision. Every method may raise SourceError."""

    def revision(self) -> str:
        """Fetch, and name what is there now."""
        ...

    def files(self, revision: str) -> Iterable[File]:
        """All documents of a revision that `revision()` or `history()` has named, sorted by path."""
        ...

    def history(self, revision: str, limit: int) -> tuple[str, ...]:
        """First-parent ancestors, newest first, without `revision` itself; empty where there is no history."""
        ...

    def descends(self, revision: str, ancestor: str) -> bool:
        """Whether `revision` has `ancestor` in its history (a fast-forward). True where there is no history."""
        ...


class WithoutHistory:
    """The history of a source that has none: what lies there is all there is."""

    def history(self, revision: str, limit: int) -> tuple[str, ...]:
        del revision, limit
        return ()

    def descends(self, revision: str, ancestor: str) -> bool:
        del revision, ancestor
        return True


def blob_id(data: bytes) -> str:
    """Git's SHA-1 name of a blob."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def check_name(path: str) -> None:
    """Refuse names that some tool could read differently from us.

    Raises:
        SourceError: control characters, backslashes, `..`, leading or trailing blanks, not ASCII, too long.
    """
    parts = path.split("/")
    odd = any(part in {"", ".", ".."} or part != part.strip() or not _NAME.fullmatch(part) for part in parts)
    if odd or len(path.encode(errors="surrogateescape")) > MAX_PATH_BYTES:
        raise SourceError(SourceReason.REFUSED, f"{path!r}: odd file name; use letters, digits and ._-")


def check_size(path: str, size_bytes: int, *, files: int, total_bytes: int) -> None:
    """Refuse trees that no fleet needs.

    Raises:
        SourceError: a file, their number, or their sum is too large.
    """
    if size_bytes > MAX_FILE_BYTES:
        raise SourceError(SourceReason.REFUSED, f"{path}: {size_bytes} bytes, more than {MAX_FILE_BYTES}")
    if files > MAX_FILES or total_bytes > MAX_TREE_BYTES:
        raise SourceError(
            SourceReason.REFUSED,
            f"{path}: the tree has more than {MAX_FILES} documents or {MAX_TREE_BYTES} bytes",
        )


def is_document(path: str) -> bool:
    """YAML and JSON files outside hidden directories; `.YAML` too, or a file would be left out without a word."""
    return path.lower().endswith(SUFFIXES) and not any(part.startswith(".") for part in path.split("/"))


@dataclass
class DirectorySource(WithoutHistory):
    """A directory on disk. Its revision is a digest of the documents, so equal content is one revision."""

    root: Path
    _seen: dict[str, tuple[File, ...]] = field(default_factory=dict)

    def revision(self) -> str:
        files = tuple(sorted(self._read(), key=lambda file: file.path))
        digest = hashlib.sha256()
        for file in files:
            digest.update(f"{file.path}\0{file.blob}\0".encode())
        revision = f"dir-{digest.hexdigest()[:12]}"
        self._seen = {revision: files}
        return revision

    def files(self, revision: str) -> tuple[File, ...]:
        if revision not in self._seen:
            raise SourceError(SourceReason.UNAVAILABLE, f"{self.root}: {revision} is no longer there")
        return self._seen[revision]

    def _read(self) -> Iterator[File]:
        total_bytes = 0
        for count, path in enumerate(self._paths()):
            name = path.relative_to(self.root).as_posix()
            check_name(name)
            if path.is_symlink():
                raise SourceError(SourceReason.REFUSED, f"{name}: symbolic links are not followed")
            if path.exists() and not path.is_file():  # reading a pipe would never end
                raise SourceError(SourceReason.REFUSED, f"{name}: neither a file nor a directory")
            try:
                size_bytes = path.stat().st_size
                total_bytes += size_bytes
                check_size(name, size_bytes, files=count + 1, total_bytes=total_bytes)
                data = path.read_bytes()
            except OSError as error:
                raise SourceError(SourceReason.UNAVAILABLE, f"{path}: {error.strerror}") from error
            yield File(path=name, blob=blob_id(data), data=data)

    def _paths(self) -> Iterator[Path]:
        if not self.root.is_dir():
            raise SourceError(SourceReason.UNAVAILABLE, f"{self.root}: no such directory")
        for directory, names, files in os.walk(self.root, onerror=_raise):
            names[:] = sorted(name for name in names if not name.startswith("."))
            for name in names:
                path = Path(directory) / name
                if path.is_symlink():
                    shown = path.relative_to(self.root).as_posix()
                    raise SourceError(SourceReason.REFUSED, f"{shown}: symbolic links are not followed")
            for name in sorted(files):
                if is_document(name):
                    yield Path(directory) / name


def _raise(error: OSError) -> None:
    raise SourceError(SourceReason.UNAVAILABLE, f"{error.filename}: {error.strerror}") from error
