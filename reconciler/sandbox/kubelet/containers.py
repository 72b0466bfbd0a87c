"""The life of one container of a pod: pull, start, probe, end, restart; until its policy or the pod's end is reached."""

import asyncio
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from reconciler.sandbox.kubelet import backoff
from reconciler.sandbox.kubelet.behaviour import Behaviour
from reconciler.sandbox.kubelet.environment import EnvironmentFault
from reconciler.sandbox.kubelet.instances import Instance
from reconciler.sandbox.kubelet.logs import LogFile, last_output
from reconciler.sandbox.kubelet.machine import Machine
from reconciler.sandbox.kubelet.records import (
    EXIT_KILLED,
    EXIT_POWER_CUT,
    INITIALIZING,
    ContainerRecord,
    Running,
    State,
    Terminated,
    Waiting,
)
from reconciler.sandbox.kubelet.runtime import Launch, launch, survives
from reconciler.sandbox.kubelet.volumes import Volumes

MESSAGE_LIMIT_BYTES = 4096
CONFIG_RETRY_S = 2.0


@dataclass(slots=True, kw_only=True)
class PodScope:
    """What the containers of a pod share.

    Attributes:
        pod: as last seen.
        stopping: set when the pod has to end.
        changed: called after each change of a record.
        post: sends an Event: type, reason, message.
    """

    machine: Machine
    pod: Mapping[str, Any]
    directory: Path
    pod_ip: str
    stopping: asyncio.Event
    changed: Callable[[], None]
    post: Callable[[str, str, str], None]
    volumes: Volumes | None = None

    @property
    def policy(self) -> str:
        return str(self.pod["spec"].get("restartPolicy", "Always"))

    async def pause(self, seconds: float) -> bool:
        """Sleep; True when the pod has to end."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self.stopping.wait(), max(0.0, seconds))
        return self.stopping.is_set()


class Container:
    """One container. `record` is what is reported of it; it is on disk before anything happens."""

    def __init__(
        self, scope: PodScope, spec: Mapping[str, Any], *, init: bool, record: ContainerRecord | None = None
    ) -> None:
        self.scope = scope
        self.spec = spec
        self.init = init
        self.record = record or ContainerRecord(name=spec["name"], image=spec.get("image", ""))
        self.log: LogFile | None = None
        self._instance: Instance | None = None
        self._crashes = int(
            self.record.ended is not None
        )  # as in a kubelet, the back-off dies with the process

    @property
    def running(self) -> bool:
        return isinstance(self.record.state, Running)

    @property
    def wants_start(self) -> bool:
        ended = self.record.ended
        if ended is None:
            return not self.running
        return backoff.restarts(self.scope.policy, ended.exit_code, init=self.init)

    @property
    def succeeded(self) -> bool:
        return self.record.ended is not None and self.record.ended.exit_code == 0

    def log_path(self, *, previous: bool = False) -> Path:
        number = self.record.restarts - 1 if previous else self.record.restarts
        return self._directory / f"{number}.log"

    def again(self) -> None:
        """An init container has to run again, in a new sandbox."""
        self._update(state=INITIALIZING, last=None, ready=False)

    def lose(self, *, power_cut: bool) -> None:
        """It ran when the machine (or we) went down, and does not any more."""
        if not isinstance(self.record.state, Running):
            return
        code, reason = (EXIT_POWER_CUT, "Unknown") if power_cut else (EXIT_KILLED, "Error")
        self._ended(code, self.record.state, reason)
        self._crashes = 1  # it starts again at once

    async def run(self) -> None:
        """Until it has ended for good, or the pod is told to end and it has ended."""
        if isinstance(self.record.state, Running):
            await self._attend(self.record.state, resumed=True)
        while self.wants_start:
            if await self._rest() or await self._pull():
                return
            if prepared := self._prepare():
                await self._attend(self._started(), prepared=prepared)
            elif await self.scope.pause(CONFIG_RETRY_S):
                return

    def terminate(self) -> None:
        if self._instance:
            self._instance.terminate()

    def kill(self) -> None:
        if self._instance:
            self._instance.kill()

    async def abandon(self) -> None:
        """We go: a process ends, a sleeper stays as it is on record."""
        if self._instance:
            await self._instance.abandon()

    @property
    def _directory(self) -> Path:
        return self.scope.directory / self.record.name

    @property
    def _termination_log(self) -> Path:
        return self._directory / "termination-log"

    async def _rest(self) -> bool:
        """CrashLoopBackOff; True when the pod has to end."""
        ended = self.record.ended
        settings = self.scope.machine.settings
        delay_s = backoff.restart_delay_s(
            self._crashes, base_s=settings.backoff_base_s, limit_s=settings.backoff_limit_s
        )
        if ended is None or delay_s <= 0:
            return self.scope.stopping.is_set()
        pod = self.scope.pod["metadata"]
        where = f"container={self.record.name} pod={pod['name']}_{pod['namespace']}({pod['uid']})"
        message = f"back-off {delay_s:g}s restarting failed {where}"
        self._update(state=Waiting(reason="CrashLoopBackOff", message=message), last=ended)
        self.scope.post("Warning", "BackOff", message)
        return await self.scope.pause(ended.finished_at + delay_s - time.time())

    async def _pull(self) -> bool:
        """Until the image is there; True when the pod has to end."""
        settings, image, tries = self.scope.machine.settings, self.record.image, 1
        while not Behaviour.of(self.scope.pod, self.record.name).pulls:
            message = f"failed to pull and unpack image {image!r}: not found"
            self._update(state=Waiting(reason="ErrImagePull", message=message))
            self.scope.post("Warning", "Failed", message)
            if await self.scope.pause(1.0):
                return True
            tries += 1
            waiting = Waiting(
                reason="ImagePullBackOff", message=f"Back-off pulling image {image!r}: {message}"
            )
            self._update(state=waiting)
            delay_s = backoff.restart_delay_s(
                tries, base_s=settings.backoff_base_s, limit_s=settings.backoff_limit_s
            )
            if await self.scope.pause(delay_s):
                return True
        return self.scope.stopping.is_set()

    def _prepare(self) -> Launch | None:
        """All that an instance needs, or a reason to wait."""
        assert self.scope.volumes is not None
        try:
            return Launch.of(
                self.scope.machine,
                self.scope.pod,
                self.spec,
                volumes=self.scope.volumes,
                pod_ip=self.scope.pod_ip,
                termination_log=self._termination_log,
            )
        except (EnvironmentFault, ValueError) as error:
            self._update(state=Waiting(reason="CreateContainerConfigError", message=str(error)))
            self.scope.post("Warning", "Failed", f"Error: {error}")
            return None

    def _started(self) -> Running:
        ended, now = self.record.ended, time.time()
        self._directory.mkdir(parents=True, exist_ok=True)
        self._termination_log.write_bytes(b"")
        state = Running(started_at=now)
        first = not self.record.container_id
        self._update(
            state=state,
            last=ended,
            restarts=self.record.restarts + (not first),
            container_id=f"hollow://{uuid.uuid4().hex}",
            ready=not self.init and "readinessProbe" not in self.spec,
        )
        self._forget_logs()
        self.scope.post("Normal", "Started", f"Started container {self.record.name}")
        return state

    async def _attend(self, state: Running, *, prepared: Launch | None = None, resumed: bool = False) -> None:
        """Run an instance to its end."""
        prepared = prepared or self._prepare()
        if prepared is None:
            self.lose(power_cut=False)
            return
        self.log = LogFile(self.log_path())
        age_s = time.time() - state.started_at if resumed else 0.0
        self._instance = await launch(prepared, self.log, age_s=age_s)
        prober = asyncio.create_task(self._probe(self._instance))
        try:
            if self.scope.stopping.is_set():
                self._instance.terminate()
            code = await self._instance.wait()
        finally:
            prober.cancel()
        self._instance = None
        self._ended(code, state, "Completed" if code == 0 else "Error")

    def _ended(self, code: int, state: Running, reason: str) -> None:
        now = time.time()
        long = now - state.started_at >= backoff.BACKOFF_FORGET_S
        self._crashes = 1 if long else self._crashes + 1
        ended = Terminated(
            exit_code=code,
            reason=reason,
            message=self._message(code),
            started_at=state.started_at,
            finished_at=now,
            container_id=self.record.container_id,
        )
        self._update(state=ended, ready=self.init and code == 0)

    def _message(self, code: int) -> str:
        try:
            with self._termination_log.open("rb") as file:
                message = file.read(MESSAGE_LIMIT_BYTES).decode(errors="replace")
        except FileNotFoundError:
            message = ""
        falls_back = self.spec.get("terminationMessagePolicy") == "FallbackToLogsOnError"
        return last_output(self.log_path()) if not message and code and falls_back else message

    async def _probe(self, instance: Instance) -> None:
        probe = self.spec.get("readinessProbe")
        if probe is None or self.init:
            return
        command = (probe.get("exec") or {}).get("command") or ["true"]
        successes = failures = 0
        await asyncio.sleep(probe.get("initialDelaySeconds", 0))
        while True:
            good = await instance.probe(command)
            successes, failures = (successes + 1, 0) if good else (0, failures + 1)
            if successes >= probe.get("successThreshold", 1):
                self._update(ready=True)
            elif failures >= probe.get("failureThreshold", 3):
                self._update(ready=False)
            await asyncio.sleep(probe.get("periodSeconds", 10))

    def _forget_logs(self) -> None:
        """A kubelet keeps the logs of the current and of the previous instance."""
        old = self._directory / f"{self.record.restarts - 2}.log"
        old.unlink(missing_ok=True)

    def _update(
        self,
        *,
        state: State | None = None,
        **changes: Any,
    ) -> None:
        record = replace(self.record, state=state or self.record.state, **changes)
        if record != self.record:
            self.record = record
            self.scope.changed()


def adopted(container: Container, *, same_boot: bool) -> None:
    """Judge a container that our files say is running: sleepers go on within a boot, processes died with us."""
    if not same_boot or not survives(container.scope.machine.settings, container.spec):
        container.lose(power_cut=not same_boot)
