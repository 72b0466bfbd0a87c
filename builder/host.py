"""The one gate to the host: every path goes through `Host.path`, every command through `Host.run`.

File prefix and command prefix apart (docs/builder.md): on a real node the host's `/` is mounted at /host and package
and module tools run in the host's namespaces; a fake host is a directory tree and a directory of tools.
"""

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

#: run in the host's namespaces on a real node; all others (insmod, rmmod, make, git, kill) run in the pod
HOST_COMMANDS: Final = frozenset(
    {
        "dpkg",
        "dpkg-query",
        "apt-mark",
        "rpm",
        "dkms",
        "depmod",
        "modprobe",
        "udevadm",
        "update-initramfs",
        "dracut",
    }
)
_ENTER: Final = ("nsenter", "--target", "1", "--mount", "--uts", "--ipc", "--net", "--")
_HOST_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_LINKS_LIMIT: Final = 40
_TIMED_OUT: Final = 124  # as timeout(1) says it
_NOT_FOUND: Final = 127


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """How a command ended. `code` is 124 after a time-out, 127 when there is no such command."""

    code: int
    out: str = ""
    err: str = ""

    @property
    def ok(self) -> bool:
        return self.code == 0

    @property
    def said(self) -> str:
        """The last lines that a person needs, one line of text."""
        text = self.err.strip() or self.out.strip() or f"exit code {self.code}"
        return " | ".join(line.strip() for line in text.splitlines()[-3:])


@dataclass(frozen=True, slots=True)
class Host:
    """A machine, seen through a file prefix and a command prefix.

    Attributes:
        root: where the host's `/` is.
        bin: directory of a fake host's tools: then nothing but these is ever run. None on a real node.
        environment: added to every command (proxies for git).
    """

    root: Path
    bin: Path | None = None
    environment: Mapping[str, str] = field(default_factory=dict)

    def path(self, name: str) -> Path:
        """Where the host's absolute path `name` is for us."""
        return self.root / name.lstrip("/")

    def resolve(self, name: str) -> str:
        """The host's absolute path that `name` leads to; links are followed inside the host's root."""
        pending = [part for part in reversed(name.split("/")) if part]
        done: list[str] = []
        links = 0
        while pending:
            part = pending.pop()
            if part in {".", ".."}:
                done = done[:-1] if part == ".." else done
                continue
            here = self.path("/".join([*done, part]))
            if not here.is_symlink() or (links := links + 1) > _LINKS_LIMIT:
                done.append(part)
                continue
            target = str(here.readlink())
            done = [] if target.startswith("/") else done
            pending.extend(piece for piece in reversed(target.split("/")) if piece)
        return "/" + "/".join(done)

    def text(self, name: str) -> str:
        """Contents without surrounding space; "" where the file is absent or cannot be read."""
        return self.data(name).decode(errors="replace").strip()

    def data(self, name: str) -> bytes:
        """Contents; empty where the file is absent or cannot be read."""
        try:
            return self.path(name).read_bytes()
        except OSError:
            return b""

    def exists(self, name: str) -> bool:
        return os.path.lexists(self.path(name))

    def names(self, directory: str) -> tuple[str, ...]:
        """Sorted names in `directory`; none where it is absent."""
        try:
            return tuple(sorted(os.listdir(self.path(directory))))  # noqa: PTH208  names, not paths
        except OSError:
            return ()

    def write(self, name: str, data: bytes, mode: int = 0o644) -> None:
        """Whole or not at all, and on the disk when this returns: temp, fsync, rename, fsync of the directory."""
        path = self.path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.new")
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(mode)
        temporary.rename(path)
        _sync_directory(path.parent)

    def remove(self, name: str) -> None:
        """Remove a file; absent is fine."""
        path = self.path(name)
        path.unlink(missing_ok=True)
        if path.parent.is_dir():
            _sync_directory(path.parent)

    def free_bytes(self, name: str) -> int:
        """Free for us on the file system that holds `name`, or the nearest directory above it that exists."""
        path = self.path(name)
        while not path.exists():
            path = path.parent
        stat = os.statvfs(path)
        return stat.f_bavail * stat.f_frsize

    def run(self, argv: Sequence[str], *, timeout_s: float, cwd: Path | None = None) -> Done:
        """Run one command; its process group is killed after `timeout_s`. Never raises for what the command does."""
        try:
            child = subprocess.Popen(
                self._command(argv),
                cwd=cwd,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                start_new_session=True,
                close_fds=False,  # the host lock goes along (lock.py); Python's other descriptors do not
            )
        except OSError as error:
            return Done(code=_NOT_FOUND, err=f"{argv[0]}: {error.strerror}")
        with child:
            try:
                out, err = child.communicate(timeout=timeout_s)
            except subprocess.TimeoutExpired:
                _kill_group(child.pid)
                out, err = child.communicate()
                return Done(code=_TIMED_OUT, out=out, err=f"{err}\n{argv[0]}: no end after {timeout_s:.0f} s")
            except BaseException:  # a verb that is told to stop does not leave a compiler running
                _kill_group(child.pid)
                raise
        return Done(code=child.returncode, out=out, err=err)

    def _command(self, argv: Sequence[str]) -> list[str]:
        if self.bin is not None:
            return [str(self.bin / argv[0]), *argv[1:]]
        return [*_ENTER, *argv] if argv[0] in HOST_COMMANDS else list(argv)

    def _environment(self) -> dict[str, str]:
        path = os.environ.get("PATH", os.defpath)
        clean = {
            "PATH": f"{path}:{_HOST_PATH}",
            "LC_ALL": "C",
            "HOME": "/root",
            "DEBIAN_FRONTEND": "noninteractive",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": os.devnull,
        }
        return clean | dict(self.environment)


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def walk_files(host: Host, directory: str, prefix: str) -> Iterator[str]:
    """Host paths of all files below `directory` whose name begins with `prefix`, sorted by directory."""
    top = host.path(directory)
    for here, directories, files in os.walk(top):
        directories.sort()
        relative = os.path.relpath(here, host.root)
        yield from (f"/{relative}/{name}" for name in sorted(files) if name.startswith(prefix))
