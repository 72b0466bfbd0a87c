"""A control plane in the background: a supervisor process owns it, so that it survives the shell but nothing survives it.

`python -m reconciler.sandbox.background DIRECTORY` is that supervisor. Whoever sends it SIGTERM ends the plane; whoever
kills it with SIGKILL does so too, because its children die with it.
"""

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from types import FrameType
from typing import Any, Final

from reconciler.sandbox import processes
from reconciler.sandbox.binaries import ENV_ASSETS, find_or_build, kubernetes_version
from reconciler.sandbox.certificates import write_private
from reconciler.sandbox.components import COMPONENTS, Layout
from reconciler.sandbox.errors import SandboxError, SandboxTimeoutError
from reconciler.sandbox.plane import START_BOUND_S, Plane
from reconciler.sandbox.processes import Identity

END_BOUND_S: Final = 20.0
LOCK_BOUND_S: Final = START_BOUND_S + END_BOUND_S
WATCH_S: Final = 0.5


class Condition(StrEnum):
    """Of a plane, or of one of its components."""

    RUNNING = "running"
    ENDED = "ended"  # was started, did not go by `down`
    ABSENT = "absent"


@dataclass(frozen=True, slots=True, kw_only=True)
class ComponentStatus:
    """One process. `pid` and `age_s` are None when it has ended."""

    name: str
    condition: Condition
    port: int | None
    pid: int | None
    age_s: float | None
    log: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """What there is in a directory."""

    directory: Path
    condition: Condition
    kubeconfig: Path | None = None
    url: str | None = None
    components: tuple[ComponentStatus, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {
            "directory": str(self.directory),
            "state": str(self.condition),
            "version": kubernetes_version(),
            "url": self.url,
            "kubeconfig": str(self.kubeconfig) if self.kubeconfig else None,
            "components": [
                {
                    "name": part.name,
                    "state": str(part.condition),
                    "port": part.port,
                    "pid": part.pid,
                    "ageSeconds": None if part.age_s is None else round(part.age_s),
                    "log": str(part.log),
                }
                for part in self.components
            ],
        }


def up(directory: Path) -> Status:
    """Start a plane in the background and wait until it is usable; one that runs is left alone.

    Raises:
        SandboxError: the directory holds something else, or the start failed; with the end of the log.
    """
    directory = directory.absolute()
    _refuse_foreign(directory)
    with _lock(directory):
        if (before := status(directory)).condition is Condition.RUNNING:
            return before
        _end_all(directory)  # a supervisor whose `up` was killed, or one that lost a component just now
        Layout(directory=directory).state.unlink(missing_ok=True)
        binaries = find_or_build()
        supervisor = _spawn(directory, binaries.directory)
        try:
            _await_start(supervisor, directory)
        except BaseException:
            supervisor.terminate()  # it ends its children; SIGKILL would too
            with suppress(subprocess.TimeoutExpired):
                supervisor.wait(END_BOUND_S)
            raise
        supervisor.returncode = 0  # it is to outlive us: no warning about that
    return status(directory)


def down(directory: Path) -> bool:
    """End every process of the plane in `directory` and remove the directory; False when there was none.

    Raises:
        SandboxError: the directory is not one of ours.
        SandboxTimeoutError: a process survives SIGKILL.
    """
    directory = directory.absolute()
    _refuse_foreign(directory)
    if not directory.exists():
        return False
    with _lock(directory):
        _end_all(directory)
        shutil.rmtree(directory)
    return True


def status(directory: Path) -> Status:
    """What runs in `directory`, by identity: an id that now belongs to a stranger counts as ended."""
    directory = directory.absolute()
    layout = Layout(directory=directory)
    if not layout.state.exists():
        return Status(directory=directory, condition=Condition.ABSENT)
    plane = Plane.open(directory)
    parts = [_component("supervisor", plane.owner, None, layout)]
    parts += [_component(name, plane.identities[name], plane.ports.of(name), layout) for name in COMPONENTS]
    running = all(part.condition is Condition.RUNNING for part in parts)
    return Status(
        directory=directory,
        condition=Condition.RUNNING if running else Condition.ENDED,
        kubeconfig=plane.kubeconfig,
        url=plane.url,
        components=tuple(parts),
    )


def _component(name: str, identity: Identity, port: int | None, layout: Layout) -> ComponentStatus:
    alive = identity.alive
    return ComponentStatus(
        name=name,
        condition=Condition.RUNNING if alive else Condition.ENDED,
        port=port,
        pid=identity.pid if alive else None,
        age_s=identity.age_s() if alive else None,
        log=layout.log(name),
    )


def _end_all(directory: Path) -> None:
    """The supervisor first, which ends its children itself; then whatever is left."""
    layout = Layout(directory=directory)
    if (supervisor := _supervisor(directory)).exists():
        processes.end(Identity(**json.loads(supervisor.read_bytes())), grace_s=END_BOUND_S)
    if layout.state.exists():
        for identity in Plane.open(directory).identities.values():
            processes.end(identity, grace_s=0.0)


def _spawn(directory: Path, binaries: Path) -> subprocess.Popen[bytes]:
    log = Layout(directory=directory).log("supervisor")
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    log.parent.mkdir(exist_ok=True)
    _marker(directory).touch()
    with log.open("ab") as output:
        supervisor = subprocess.Popen(
            [sys.executable, "-P", "-m", "reconciler.sandbox.background", str(directory)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=os.environ | {ENV_ASSETS: str(binaries)},
            cwd="/",
            start_new_session=True,
        )
    identity = Identity.of(supervisor.pid)
    if identity:
        write_private(_supervisor(directory), json.dumps(asdict(identity)).encode())
    return supervisor


def _await_start(supervisor: subprocess.Popen[bytes], directory: Path) -> None:
    layout = Layout(directory=directory)
    deadline = time.monotonic() + START_BOUND_S + END_BOUND_S
    while not layout.state.exists():
        if supervisor.poll() is not None:
            raise SandboxError(
                f"the control plane did not start; the end of {layout.log('supervisor')}:\n"
                f"{processes.tail(layout.log('supervisor'))}"
            )
        if time.monotonic() > deadline:
            raise SandboxTimeoutError(f"no usable control plane in time; see {layout.directory / 'logs'}")
        time.sleep(processes.POLL_S)


def _supervisor(directory: Path) -> Path:
    """Its identity, known before there is a plane."""
    return directory / "supervisor.json"


def _marker(directory: Path) -> Path:
    return directory / ".ttfleet-cluster"


def _refuse_foreign(directory: Path) -> None:
    """Only what `up` made is started into or removed."""
    if directory.exists() and not _marker(directory).exists() and any(directory.iterdir()):
        raise SandboxError(
            f"{directory} exists and was not made by `ttfleet cluster up`: choose another --directory"
        )


@contextmanager
def _lock(directory: Path) -> Iterator[None]:
    """One `up` or `down` at a time; the lock lies beside the directory, which `down` removes."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + LOCK_BOUND_S
    with directory.with_name(f".{directory.name}.lock").open("ab") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise SandboxTimeoutError(f"another `ttfleet cluster` works on {directory}") from None
                time.sleep(processes.POLL_S)
        yield


def supervise(directory: Path) -> int:
    """Own a plane until SIGTERM or until one of its processes ends; returns the exit code."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
    try:
        with Plane.start(directory) as plane:
            while True:
                plane.check()
                time.sleep(WATCH_S)
    except KeyboardInterrupt:
        return 0
    except SandboxError as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(supervise(Path(sys.argv[1])))
