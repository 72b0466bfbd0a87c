"""Children of a sandbox: none outlives its parent, each is ended by its id, never by a name.

A child dies with its parent because the kernel kills it (`PR_SET_PDEATHSIG`), so SIGKILL of the parent is covered too.
The kernel means the *thread* that forked; therefore one thread, which lives as long as this process, starts them all.
"""

import functools
import os
import random
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from reconciler.sandbox.errors import SandboxError, SandboxTimeoutError

LOG_TAIL_BYTES: Final = 3000
#: below the range from which the kernel takes ports of outgoing connections
PORTS: Final = range(20000, 32768)
POLL_S: Final = 0.05

#: runs in the child before exec: die with the parent, also when it died before we could say so
_GUARD: Final = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL)
if os.getppid() != int(sys.argv[1]):
    os._exit(1)
try:
    os.execvp(sys.argv[2], sys.argv[2:])
except OSError as error:
    sys.exit(f"{sys.argv[2]}: {error.strerror}")
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """A process for good: an id alone may belong to a stranger later, after a crash or a reboot.

    Attributes:
        pid: its id.
        started: start in clock ticks since the boot, field 22 of `/proc/PID/stat`.
        boot: `/proc/sys/kernel/random/boot_id`.
    """

    pid: int
    started: int
    boot: str

    @classmethod
    def of(cls, pid: int) -> Self | None:
        """The living process `pid`, None when there is none (a zombie is none)."""
        try:
            stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
        except OSError:
            return None
        fields = stat.rpartition(")")[2].split()
        if fields[0] in {"Z", "X"}:
            return None
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return cls(pid=pid, started=int(fields[19]), boot=boot)

    @property
    def alive(self) -> bool:
        return Identity.of(self.pid) == self

    def age_s(self) -> float:
        """Seconds since its start; only meaningful while it is alive."""
        uptime_s = float(Path("/proc/uptime").read_text(encoding="ascii").split()[0])
        return max(0.0, uptime_s - self.started / os.sysconf("SC_CLK_TCK"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Child:
    """A process that this one started."""

    name: str
    identity: Identity
    process: subprocess.Popen[bytes]
    log: Path

    def check(self) -> None:
        """Nothing, while it lives.

        Raises:
            SandboxError: it has ended; with the end of its log.
        """
        code = self.process.poll()
        if code is not None:
            how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
            raise SandboxError(f"{self.name} ended with {how}; the end of {self.log}:\n{tail(self.log)}")


def start(
    name: str,
    argv: Sequence[str | Path],
    log: Path,
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> Child:
    """Start `argv` in a session of its own (so that Ctrl-C reaches only us), output appended to `log`."""
    command = guarded(argv)
    log.parent.mkdir(parents=True, exist_ok=True)

    def spawn() -> subprocess.Popen[bytes]:
        with log.open("ab") as output:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=env,
                cwd=cwd,
                start_new_session=True,
            )

    process = _spawner().submit(spawn).result()
    # gone already: any identity that no process has will do, `check` tells how it ended
    identity = Identity.of(process.pid) or Identity(pid=process.pid, started=-1, boot="")
    return Child(name=name, identity=identity, process=process, log=log)


def guarded(argv: Sequence[str | Path]) -> list[str]:
    """`argv` behind the guard: the process dies with this one, if a thread that lives as long starts it."""
    return [sys.executable, "-I", "-S", "-c", _GUARD, str(os.getpid()), *map(str, argv)]


def stop(children: Iterable[Child], *, grace_s: float = 3.0, group: bool = False) -> None:
    """End children one after the other: SIGTERM, and after `grace_s` SIGKILL for it and all that it started.

    Args:
        children: those that have ended already are left alone.
        grace_s: for each.
        group: SIGTERM too goes to all that a child started (a compiler's children would finish their work first).
    """
    for process in [child.process for child in children if child.process.poll() is None]:
        if group:
            os.killpg(process.pid, signal.SIGTERM)  # in a session of its own: the group is its own as well
        else:
            process.terminate()
        try:
            process.wait(grace_s)
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(grace_s)


def end(identity: Identity, *, grace_s: float) -> bool:
    """End a process that is not our child (SIGTERM, then SIGKILL); False when it was not there any more.

    A pidfd is opened first and the identity read after it, so the signal cannot hit a stranger that got the id.

    Raises:
        SandboxTimeoutError: it is still there after SIGKILL.
    """
    try:
        descriptor = os.pidfd_open(identity.pid)
    except ProcessLookupError:
        return False
    try:
        if not identity.alive:
            return False
        for number, bound_s in ((signal.SIGTERM, grace_s), (signal.SIGKILL, 5.0)):
            signal.pidfd_send_signal(descriptor, number)
            if select.select([descriptor], [], [], bound_s)[0]:
                return True
    except ProcessLookupError:
        return True
    finally:
        os.close(descriptor)
    raise SandboxTimeoutError(f"process {identity.pid} is still there after SIGKILL")


def wait_until(
    check: Callable[[], bool], what: str, *, timeout_s: float, children: Sequence[Child] = ()
) -> None:
    """Poll `check` until it holds, watching that none of `children` dies meanwhile.

    Raises:
        SandboxError: a child ended.
        SandboxTimeoutError: `check` did not hold within `timeout_s`; with the end of each child's log.
    """
    deadline = time.monotonic() + timeout_s
    while not check():
        for child in children:
            child.check()
        if time.monotonic() > deadline:
            logs = "".join(f"\nthe end of {child.log}:\n{tail(child.log, 600)}" for child in children)
            raise SandboxTimeoutError(f"{what}: not within {timeout_s:.0f} s{logs}")
        time.sleep(POLL_S)


def free_ports(count: int) -> list[int]:
    """Distinct TCP ports on 127.0.0.1 that nobody listens on now.

    Raises:
        SandboxError: there are none.
    """
    found: list[int] = []
    for port in random.sample(PORTS, k=len(PORTS)):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        found.append(port)
        if len(found) == count:
            return found
    raise SandboxError(f"no {count} free ports on 127.0.0.1 between {PORTS.start} and {PORTS.stop}")


def tail(log: Path, size_bytes: int = LOG_TAIL_BYTES) -> str:
    """The last lines of a log, at most `size_bytes`."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - size_bytes))
            return file.read().decode(errors="replace").strip() or "(empty)"
    except OSError as error:
        return f"({error.strerror})"


@functools.cache
def _spawner() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=1, thread_name_prefix="spawner")
