"""The status of a pod, as a pure function of its containers: phase and conditions as kubelet 1.35 gives them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from reconciler.sandbox.kubelet.records import (
    CREATING,
    EXIT_KILLED,
    ContainerRecord,
    Running,
    Terminated,
    Waiting,
)
from schema.clock import format_rfc3339

TERMINAL: Final = frozenset({"Succeeded", "Failed"})
_NEVER_BACK: Final = {"": 0, "Pending": 0, "Running": 1, "Succeeded": 2, "Failed": 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class PodRecord:
    """All containers of one pod.

    Attributes:
        sandbox: volumes are there, containers may start.
        final: nothing of it runs and nothing will: it was told to end, or its restart policy ends it.
        ended: it was told to end before its containers did.
    """

    init: tuple[ContainerRecord, ...]
    main: tuple[ContainerRecord, ...]
    sandbox: bool = False
    final: bool = False
    ended: bool = False


def phase(record: PodRecord, policy: str) -> str:
    """Pending, Running, Succeeded or Failed (kubelet_pods.go, getPhase)."""
    if policy == "Never" and any(_failed(container) for container in record.init):
        return "Failed"
    if record.final and record.ended and not all(isinstance(c.state, Terminated) for c in record.main):
        return "Failed"  # status manager: a pod that ended before it started has failed
    waiting = [c for c in record.main if isinstance(c.state, Waiting) and c.last is None]
    if not initialized(record) or waiting:
        return "Pending"
    if any(isinstance(container.state, Running) for container in record.main):
        return "Running"
    failed = any(_failed(container) for container in record.main)
    if record.final:
        return "Failed" if failed else "Succeeded"
    if policy == "Always" or (policy == "OnFailure" and failed):
        return "Running"
    return "Failed" if failed else "Succeeded"


def initialized(record: PodRecord) -> bool:
    """All init containers have succeeded, or a main container has run before (a reboot runs them again)."""
    if any(container.container_id for container in record.main):
        return True
    return all(c.ended is not None and not _failed(c) for c in record.init)


def pod_status(
    pod: Mapping[str, Any], record: PodRecord, *, host_ip: str, pod_ip: str, now: float
) -> dict[str, Any]:
    """The whole status that a kubelet writes. A phase never goes backward; a condition keeps its transition time."""
    served = pod.get("status") or {}
    policy = pod["spec"].get("restartPolicy", "Always")
    computed = phase(record, policy)
    if _NEVER_BACK[computed] < _NEVER_BACK[served.get("phase", "")] or served.get("phase") in TERMINAL:
        computed = served["phase"]
    if computed in TERMINAL:
        record = _closed(record)
    status: dict[str, Any] = {
        "phase": computed,
        "hostIP": host_ip,
        "hostIPs": [{"ip": host_ip}],
        "startTime": served.get("startTime") or format_rfc3339(now),
        "conditions": _stamped(_conditions(record, computed), served.get("conditions") or (), now),
        "containerStatuses": [container.to_status() for container in record.main],
        "qosClass": served.get("qosClass", "BestEffort"),
    }
    if record.init:
        status["initContainerStatuses"] = [container.to_status() for container in record.init]
    if record.sandbox:
        status |= {"podIP": pod_ip, "podIPs": [{"ip": pod_ip}]}
    return status


def covers(served: Any, wanted: Any) -> bool:
    """Does what is served hold all that is wanted? Lists of conditions by type; more keys do not matter."""
    match wanted, served:
        case dict(), dict():
            return all(covers(served.get(key), value) for key, value in wanted.items())
        case [{"type": _}, *_], list():
            by_type = {entry.get("type"): entry for entry in served}
            return all(covers(by_type.get(entry["type"]), entry) for entry in wanted)
        case list(), list():
            return len(wanted) == len(served) and all(map(covers, served, wanted))
        case _:
            return bool(served == wanted) or (not wanted and not served)


def _failed(container: ContainerRecord) -> bool:
    return container.ended is not None and container.ended.exit_code != 0


def _closed(record: PodRecord) -> PodRecord:
    """Containers of a pod that has ended: those that never ran are reported as lost, none is ready."""
    lost = {
        "exit_code": EXIT_KILLED,
        "reason": "ContainerStatusUnknown",
        "message": "The container could not be located when the pod was terminated",
        "started_at": 0.0,
        "finished_at": 0.0,
    }

    def close(container: ContainerRecord) -> ContainerRecord:
        state = container.state
        if isinstance(state, Waiting) and record.ended:
            state = container.last or Terminated(**lost, container_id="")  # type: ignore[arg-type]
        return ContainerRecord(
            name=container.name,
            image=container.image,
            state=state,
            last=container.last if state is not container.last else None,
            restarts=container.restarts,
            ready=False,
            container_id=container.container_id,
        )

    return PodRecord(
        init=record.init,
        main=tuple(close(container) for container in record.main),
        sandbox=record.sandbox,
        final=True,
        ended=record.ended,
    )


def _conditions(record: PodRecord, phase_now: str) -> list[dict[str, str]]:
    incomplete = [c.name for c in record.init if not (c.ready or (c.ended and not _failed(c)))]
    unready = [c.name for c in record.main if not c.ready]
    done = {"Succeeded": "PodCompleted", "Failed": "PodFailed"}.get(phase_now, "")
    ready = _condition("Ready", not unready and not done, done or "ContainersNotReady", "unready", unready)
    initial = initialized(record) or phase_now == "Succeeded"
    return [
        _condition("PodReadyToStartContainers", record.sandbox and not done, "", "", ()),
        _condition("Initialized", initial, "ContainersNotInitialized", "incomplete", incomplete),
        ready,
        {**ready, "type": "ContainersReady"},
        {"type": "PodScheduled", "status": "True"},
    ]


def _condition(kind: str, holds: bool, reason: str, adjective: str, names: Sequence[str]) -> dict[str, str]:
    if holds or not reason:
        return {"type": kind, "status": "True" if holds else "False"}
    entry = {"type": kind, "status": "False", "reason": reason}
    if names and not reason.startswith("Pod"):
        entry["message"] = f"containers with {adjective} status: [{' '.join(names)}]"
    return entry


def _stamped(
    conditions: Iterable[dict[str, str]], served: Iterable[Mapping[str, Any]], now: float
) -> list[dict[str, Any]]:
    """Conditions with their times, and with reason and message emptied where they hold (a patch would keep them)."""
    before = {entry["type"]: entry for entry in served}
    stamped = []
    for condition in conditions:
        old = before.get(condition["type"], {})
        same = old.get("status") == condition["status"] and old.get("lastTransitionTime")
        time = old["lastTransitionTime"] if same else format_rfc3339(now)
        stamped.append({"reason": None, "message": None, **condition, "lastTransitionTime": time})
    return stamped


__all__ = ["CREATING", "PodRecord", "covers", "initialized", "phase", "pod_status"]
