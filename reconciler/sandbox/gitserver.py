"""A directory of bare repositories, served by `git daemon` on loopback: what a fleet's git server is in the demo."""

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from reconciler.sandbox import processes
from reconciler.sandbox.components import LOOPBACK
from reconciler.sandbox.errors import SandboxError

START_BOUND_S: Final = 20.0
DAEMON_TIMEOUT_S: Final = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class GitServer:
    """A running server."""

    port: int
    child: processes.Child

    def url(self, repository: str) -> str:
        """Of the bare repository of that name below the served directory; read-only."""
        return f"git://{LOOPBACK}:{self.port}/{repository}"


@contextmanager
def serve(directory: Path, log: Path) -> Iterator[GitServer]:
    """Serve every repository in `directory` until the block ends.

    Raises:
        SandboxError: there is no git daemon, or it ended; with the end of its log.
        SandboxTimeoutError: it does not listen within `START_BOUND_S`.
    """
    daemon = _daemon()
    [port] = processes.free_ports(1)
    arguments = [
        f"--base-path={directory.absolute()}",
        f"--listen={LOOPBACK}",
        f"--port={port}",
        f"--timeout={DAEMON_TIMEOUT_S}",
        "--export-all",
        "--reuseaddr",
        "--informative-errors",
    ]
    env = os.environ | {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull}
    child = processes.start("git daemon", [daemon, *arguments], log, env=env)
    try:
        what = f"git daemon on port {port}"
        processes.wait_until(lambda: _listens(port), what, timeout_s=START_BOUND_S, children=[child])
        yield GitServer(port=port, child=child)
    finally:
        processes.stop([child])


def _daemon() -> Path:
    """The program itself: `git daemon` would be a wrapper whose child survives it."""
    git = shutil.which("git")
    if not git:
        raise SandboxError("git is not installed")
    answer = subprocess.run([git, "--exec-path"], capture_output=True, text=True, timeout=30, check=True)
    daemon = Path(answer.stdout.strip()) / "git-daemon"
    if not daemon.exists():
        raise SandboxError(
            f"this git has no `git daemon` ({daemon}); install the package that brings it (git-daemon)"
        )
    return daemon


def _listens(port: int) -> bool:
    try:
        socket.create_connection((LOOPBACK, port), timeout=1).close()
    except OSError:
        return False
    return True
