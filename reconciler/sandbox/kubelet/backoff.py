"""When a kubelet restarts a container, and how long a pod may take to end. Pure; rules of kubelet 1.35."""

from collections.abc import Mapping
from typing import Any, Final

BACKOFF_BASE_S: Final = 10.0
BACKOFF_LIMIT_S: Final = 300.0
BACKOFF_FORGET_S: Final = 600.0  # an instance that ran this long clears its crashes
DEFAULT_GRACE_S: Final = 30
MINIMUM_GRACE_S: Final = 1  # also after `kubectl delete --force`


def restart_delay_s(
    crashes: int, *, base_s: float = BACKOFF_BASE_S, limit_s: float = BACKOFF_LIMIT_S
) -> float:
    """Seconds from the end of an instance to the next start: none after the first crash, then 10, 20, 40 ... 300."""
    if crashes <= 1:
        return 0.0
    return min(base_s * 2.0 ** min(crashes - 2, 30), limit_s)


def restarts(policy: str, exit_code: int, *, init: bool) -> bool:
    """Does a container that ended so start again? An init container only after a failure."""
    if policy == "Never":
        return False
    return exit_code != 0 or (policy == "Always" and not init)


def grace_s(pod: Mapping[str, Any], current_s: float | None = None) -> float:
    """Seconds between SIGTERM and SIGKILL: what the server says, never longer than was said before, at least one.

    Args:
        pod: as last seen; deleted or not.
        current_s: the grace period in force, None when the pod was not ending yet.
    """
    told = pod["metadata"].get("deletionGracePeriodSeconds")
    if told is None:
        told = pod["spec"].get("terminationGracePeriodSeconds", DEFAULT_GRACE_S)
    shortest = told if current_s is None else min(told, current_s)
    return max(float(shortest), MINIMUM_GRACE_S)
