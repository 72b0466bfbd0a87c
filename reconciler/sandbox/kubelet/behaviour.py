"""What a test may tell a hollow node about a pod, by annotations of the pod. This is the only list.

All keys begin with `hollow.fleet.tenstorrent.com/`. With `.CONTAINER` at the end a key means one container and wins
over the plain one (`exit-code.main`). They mean workloads; containers of the builder image run the real builder and
obey only `pull`.

| key | value | default |
|---|---|---|
| `exit-after-s` | the container ends by itself after so many seconds | runs until SIGTERM |
| `exit-code` | with which it then ends | 0 |
| `term` | `ignore`: SIGTERM does nothing, only SIGKILL ends it | ends at once |
| `term-delay-s` | seconds that it takes to end after SIGTERM | 0 |
| `term-exit-code` | with which it ends after SIGTERM | 0 |
| `message` | what it writes to its termination log when it ends | nothing |
| `log` | a line that it prints at its start | nothing |
| `log-every-s` | prints `tick N` so often | never |
| `ready` | `false`: its readiness probe fails | succeeds |
| `pull` | `fail`: its image cannot be pulled | can |
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

PREFIX = "hollow.fleet.tenstorrent.com/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """The annotations of a pod that mean one container."""

    exit_after_s: float | None = None
    exit_code: int = 0
    ignores_term: bool = False
    term_delay_s: float = 0.0
    term_exit_code: int = 0
    message: str = ""
    log: str = ""
    log_every_s: float | None = None
    ready: bool = True
    pulls: bool = True

    @classmethod
    def of(cls, pod: Mapping[str, Any], container: str) -> Self:
        """Of `container`; an annotation that is no number raises ValueError."""
        annotations: Mapping[str, str] = pod["metadata"].get("annotations") or {}

        def say(key: str, default: str = "") -> str:
            plain = annotations.get(PREFIX + key, default)
            return annotations.get(f"{PREFIX}{key}.{container}", plain)

        def seconds(key: str) -> float | None:
            return float(text) if (text := say(key)) else None

        return cls(
            exit_after_s=seconds("exit-after-s"),
            exit_code=int(say("exit-code", "0")),
            ignores_term=say("term") == "ignore",
            term_delay_s=seconds("term-delay-s") or 0.0,
            term_exit_code=int(say("term-exit-code", "0")),
            message=say("message"),
            log=say("log"),
            log_every_s=seconds("log-every-s"),
            ready=say("ready", "true") != "false",
            pulls=say("pull") != "fail",
        )
