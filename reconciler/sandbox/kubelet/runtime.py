"""Which kind of thing a container is, and how it is started."""

import asyncio
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from reconciler.sandbox.kubelet.behaviour import Behaviour
from reconciler.sandbox.kubelet.environment import environment, expand
from reconciler.sandbox.kubelet.instances import Instance, Process, Workload, uses_device
from reconciler.sandbox.kubelet.keeper import Keeper, keeps
from reconciler.sandbox.kubelet.logs import LogFile
from reconciler.sandbox.kubelet.machine import HOST_IP, Machine, Settings
from reconciler.sandbox.kubelet.volumes import SERVICE_ACCOUNT_MOUNT, Volumes
from schema.names import ENV_SERVICE_ACCOUNT_DIR, ENV_TERMINATION_LOG

#: of our own environment, what a process needs to find its programs
INHERITED: Final = ("PATH", "LANG", "LC_ALL", "PYTHONDONTWRITEBYTECODE")


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """All that an instance of a container is started from.

    Attributes:
        arguments: of the builder (`keep --interval-s 30`), None for workloads.
        env: complete environment of the builder.
        holder: under which name it holds the device.
    """

    machine: Machine
    behaviour: Behaviour
    arguments: tuple[str, ...] | None
    env: Mapping[str, str]
    uses_device: bool
    holder: str
    termination_log: Path

    @classmethod
    def of(
        cls,
        machine: Machine,
        pod: Mapping[str, Any],
        container: Mapping[str, Any],
        *,
        volumes: Volumes,
        pod_ip: str,
        termination_log: Path,
    ) -> Self:
        """Raises EnvironmentFault, and ValueError for an annotation that is no number."""
        values = environment(pod, container, machine.services, host_ip=HOST_IP, pod_ip=pod_ip)
        builds = machine.settings.builds(container.get("image", ""))
        metadata = pod["metadata"]
        return cls(
            machine=machine,
            behaviour=Behaviour.of(pod, container["name"]),
            arguments=builder_arguments(container, values) if builds else None,
            env=_builder_environment(machine, container, volumes, termination_log, values)
            if builds
            else values,
            uses_device=not builds and uses_device(pod, container),
            holder=holder(metadata["namespace"], metadata["name"], metadata["uid"], container["name"]),
            termination_log=termination_log,
        )


async def launch(prepared: Launch, log: LogFile, *, age_s: float = 0.0) -> Instance:
    """Start an instance; `age_s`: it goes on from a start so long ago."""
    if prepared.arguments is None:
        return Workload.start(
            prepared.behaviour,
            log,
            prepared.termination_log,
            device=prepared.machine.host if prepared.uses_device else None,
            holder=prepared.holder,
            age_s=age_s,
        )
    if keeps(prepared.arguments):
        interval_s = prepared.machine.settings.keep_s
        return Keeper.start(prepared.arguments, prepared.env, log, interval_s=interval_s)
    layer = Path(prepared.env["TMPDIR"])  # what a container writes is gone with it
    await asyncio.to_thread(_empty, layer)
    argv = [sys.executable, "-m", "builder", *prepared.arguments]
    return await Process.start(argv, prepared.env, layer, log)


def _empty(directory: Path) -> None:
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)


def survives(settings: Settings, container: Mapping[str, Any]) -> bool:
    """Does it go on when our process is killed and started again? All but the builder's real processes."""
    return not settings.builds(container.get("image", "")) or keeps(builder_arguments(container, {}))


def builder_arguments(container: Mapping[str, Any], values: Mapping[str, str]) -> tuple[str, ...]:
    """What follows the image's entry point: `python -m builder`, whether the pod repeats it or not."""
    words = [
        expand(word, values) for word in (*(container.get("command") or ()), *(container.get("args") or ()))
    ]
    if words and Path(words[0]).name.startswith("python"):
        words = words[1:]
    return tuple(words[2:] if words[:2] == ["-m", "builder"] else words)


def holder(namespace: str, name: str, uid: str, container: str) -> str:
    """Name of a device holder: tells people which pod it is, and pods of equal names apart."""
    return f"{name}.{namespace}/{container}:{uid[:8]}"


def _builder_environment(
    machine: Machine,
    container: Mapping[str, Any],
    volumes: Volumes,
    termination_log: Path,
    values: Mapping[str, str],
) -> dict[str, str]:
    """The pod's variables, with what in a real container are mounts pointing to where those things lie here."""
    inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
    layer = termination_log.parent / "tmp"
    here = {ENV_TERMINATION_LOG: str(termination_log), "HOME": str(layer), "TMPDIR": str(layer)}
    if account := volumes.mounted(container, SERVICE_ACCOUNT_MOUNT):
        here[ENV_SERVICE_ACCOUNT_DIR] = str(account)
    return {**inherited, **values, **machine.host.env(), **here}


__all__: Sequence[str] = ("Launch", "builder_arguments", "holder", "launch", "survives")
