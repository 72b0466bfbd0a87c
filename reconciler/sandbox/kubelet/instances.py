"""What runs in a container: a real process, or a sleeper that may hold the fake device."""

import asyncio
import os
import signal
import sys
import zlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from reconciler.sandbox import processes
from reconciler.sandbox.kubelet.behaviour import Behaviour
from reconciler.sandbox.kubelet.logs import LogFile
from reconciler.sandbox.kubelet.records import EXIT_KILLED
from reconciler.sandbox.kubelet.strays import kill_tree
from schema.names import DEVICE_DIRECTORY, DEVICE_RESOURCE_PREFIX

PUMP_BOUND_S = 2.0  # how long we read on after the end of a process whose children keep its output open
PROBE_BOUND_S = 20.0
EXIT_NO_DEVICE = 1


class Instance(Protocol):
    """One run of a container."""

    async def wait(self) -> int:
        """Until it has ended; its exit code."""

    def terminate(self) -> None:
        """SIGTERM."""

    def kill(self) -> None:
        """SIGKILL, to all that belongs to it."""

    async def probe(self, command: Sequence[str]) -> bool:
        """Run `command` in it."""

    async def abandon(self) -> None:
        """The kubelet ends: a process ends with it, a sleeper keeps what it holds."""


class Device(Protocol):
    """The part of a fake host that a workload touches."""

    def hold(self, holder: str, pid: int) -> bool: ...

    def release(self, holder: str) -> None: ...


class Process:
    """A command with an environment, in a session of its own; it dies with us."""

    def __init__(self, process: asyncio.subprocess.Process, log: LogFile, env: Mapping[str, str]) -> None:
        self._process = process
        self._log = log
        self._env = env
        self._pump = asyncio.create_task(self._read())

    @classmethod
    async def start(cls, argv: Sequence[str], env: Mapping[str, str], cwd: Path, log: LogFile) -> "Process":
        process = await asyncio.create_subprocess_exec(
            *processes.guarded(argv),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=dict(env),
            cwd=cwd,
            start_new_session=True,
        )
        return cls(process, log, env)

    async def wait(self) -> int:
        code = await self._process.wait()
        with suppress(ProcessLookupError):
            os.killpg(
                self._process.pid, signal.SIGKILL
            )  # what it left running ends with it, as in a container
        with suppress(TimeoutError):
            await asyncio.wait_for(self._pump, PUMP_BOUND_S)
        self._log.finish()
        return code if code >= 0 else 128 - code

    def terminate(self) -> None:
        with suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        if self._process.returncode is None:
            kill_tree(self._process.pid)

    async def probe(self, command: Sequence[str]) -> bool:
        argv = [sys.executable if command[0].startswith("python") else command[0], *command[1:]]
        process = await asyncio.create_subprocess_exec(
            *processes.guarded(argv),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            env=dict(self._env),
            start_new_session=True,
        )
        try:
            return await asyncio.wait_for(process.wait(), PROBE_BOUND_S) == 0
        except TimeoutError:
            os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
            return False

    async def abandon(self) -> None:
        self.kill()
        await self._process.wait()
        self._pump.cancel()

    async def _read(self) -> None:
        assert self._process.stdout is not None
        while data := await self._process.stdout.read(1 << 16):
            self._log.write(data)


class Workload:
    """A sleeper. It costs no process: a task, and the fake device while it runs."""

    def __init__(self, behaviour: Behaviour, log: LogFile, termination_log: Path) -> None:
        self.behaviour = behaviour
        self._log = log
        self._termination_log = termination_log
        self._exit: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._timers: list[asyncio.TimerHandle] = []
        self._released: Callable[[], None] = lambda: None

    @classmethod
    def start(
        cls,
        behaviour: Behaviour,
        log: LogFile,
        termination_log: Path,
        *,
        device: Device | None,
        holder: str,
        age_s: float = 0.0,
    ) -> "Workload":
        """Start it.

        Args:
            behaviour: what the pod's annotations say.
            log: where it prints.
            termination_log: its file, for the message.
            device: the host whose device it opens; None when it uses none.
            holder: under which name it holds the device.
            age_s: it was started so long ago, and goes on.
        """
        workload = cls(behaviour, log, termination_log)
        if device is not None:
            if not device.hold(holder, _fake_pid(holder)):
                log.line(f"cannot open {DEVICE_DIRECTORY}/0: No such file or directory")
                workload._end(EXIT_NO_DEVICE)
                return workload
            workload._released = lambda: device.release(holder)
        workload._begin(age_s)
        return workload

    async def wait(self) -> int:
        return await asyncio.shield(self._exit)

    def terminate(self) -> None:
        if not self.behaviour.ignores_term:
            self._after(self.behaviour.term_delay_s, self.behaviour.term_exit_code)

    def kill(self) -> None:
        self._end(EXIT_KILLED)

    async def probe(self, command: Sequence[str]) -> bool:  # noqa: ARG002  it has no programs
        return self.behaviour.ready

    async def abandon(self) -> None:
        self._released = lambda: None
        self._end(EXIT_KILLED)

    def _begin(self, age_s: float) -> None:
        if self.behaviour.log and not age_s:
            self._log.line(self.behaviour.log)
        if self.behaviour.log_every_s:
            self._tick(0, self.behaviour.log_every_s)
        if self.behaviour.exit_after_s is not None:
            self._after(max(0.0, self.behaviour.exit_after_s - age_s), self.behaviour.exit_code)

    def _tick(self, number: int, period_s: float) -> None:
        if not self._exit.done():
            self._log.line(f"tick {number}")
            later = asyncio.get_running_loop().call_later(period_s, self._tick, number + 1, period_s)
            self._timers = [*self._timers[-3:], later]

    def _after(self, delay_s: float, code: int) -> None:
        if delay_s <= 0:
            self._end(code)
        else:
            self._timers.append(asyncio.get_running_loop().call_later(delay_s, self._end, code))

    def _end(self, code: int) -> None:
        if self._exit.done():
            return
        for timer in self._timers:
            timer.cancel()
        if self.behaviour.message and code != EXIT_KILLED:
            self._termination_log.write_text(self.behaviour.message, encoding="utf-8")
        self._released()
        self._exit.set_result(code)


def uses_device(pod: Mapping[str, Any], container: Mapping[str, Any]) -> bool:
    """Does it mount a hostPath at or below /dev/tenstorrent, or ask for tenstorrent.com/* resources?"""
    resources = container.get("resources") or {}
    asked = {**(resources.get("requests") or {}), **(resources.get("limits") or {})}
    if any(name.startswith(DEVICE_RESOURCE_PREFIX) for name in asked):
        return True
    device_volumes = {
        volume["name"]
        for volume in pod["spec"].get("volumes") or ()
        if f"{(volume.get('hostPath') or {}).get('path', '').rstrip('/')}/".startswith(f"{DEVICE_DIRECTORY}/")
    }
    return any(mount["name"] in device_volumes for mount in container.get("volumeMounts") or ())


def _fake_pid(holder: str) -> int:
    """Id of the process that the fake host shows as holder: the same after a restart of ours, no two alike."""
    return 10_000 + zlib.crc32(holder.encode()) % 4_000_000
