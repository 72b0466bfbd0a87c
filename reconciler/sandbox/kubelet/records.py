"""What a kubelet remembers of a container, as the three states of the API. Also kept on disk, for a restart of ours."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self, assert_never

from schema.clock import format_rfc3339

EXIT_KILLED = 137  # 128 + SIGKILL
EXIT_POWER_CUT = 255  # what containerd says of a container that was running when the machine went down


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    reason: str
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    started_at: float  # POSIX seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Terminated:
    exit_code: int
    reason: str
    message: str
    started_at: float
    finished_at: float
    container_id: str


State = Waiting | Running | Terminated
CREATING = Waiting(reason="ContainerCreating")
INITIALIZING = Waiting(reason="PodInitializing")


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerRecord:
    """One container of a pod.

    Attributes:
        last: how the instance before this one ended.
        restarts: instances that were started after the first.
        container_id: of the current or latest instance, "" before the first.
    """

    name: str
    image: str
    state: State = CREATING
    last: Terminated | None = None
    restarts: int = 0
    ready: bool = False
    container_id: str = ""

    @property
    def ended(self) -> Terminated | None:
        """How the latest instance ended; None while it runs or before the first."""
        match self.state:
            case Terminated():
                return self.state
            case Running():
                return None
            case Waiting():
                return self.last
            case _:
                assert_never(self.state)

    def to_status(self) -> dict[str, Any]:
        """An entry of containerStatuses."""
        return {
            "name": self.name,
            "image": self.image,
            "imageID": f"hollow://{self.image}" if self.container_id else "",
            "containerID": self.container_id,
            "restartCount": self.restarts,
            "ready": self.ready,
            "started": isinstance(self.state, Running),
            "state": _state_status(self.state),
            "lastState": _state_status(self.last) if self.last else {},
        }

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"state": {"kind": type(self.state).__name__, **asdict(self.state)}}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        last = data["last"]
        return cls(
            **{
                **data,
                "state": _state(data["state"]),
                "last": None if last is None else Terminated(**last),
            }
        )


def _state(data: Mapping[str, Any]) -> State:
    kinds: dict[str, type[Waiting | Running | Terminated]] = {
        kind.__name__: kind for kind in (Waiting, Running, Terminated)
    }
    return kinds[data["kind"]](**{key: value for key, value in data.items() if key != "kind"})


def _state_status(state: State) -> dict[str, Any]:
    match state:
        case Waiting():
            return {"waiting": _present({"reason": state.reason, "message": state.message})}
        case Running():
            return {"running": {"startedAt": format_rfc3339(state.started_at)}}
        case Terminated():
            fields = {
                "reason": state.reason,
                "message": state.message,
                "startedAt": format_rfc3339(state.started_at),
                "finishedAt": format_rfc3339(state.finished_at),
                "containerID": state.container_id,
            }
            return {"terminated": {"exitCode": state.exit_code, **_present(fields)}}
        case _:
            assert_never(state)


def _present(fields: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in fields.items() if value}
