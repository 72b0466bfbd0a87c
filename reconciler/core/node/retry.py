"""Retry memory: what the history of a node says about the next attempt, and what an attempt adds to it.

Failures before the claim are retried with back-off. A failure after it (rolled back) waits for a human's `retry`
annotation or another Target: a module that did not load will not load in a minute, and each try drains the node.
"""

from dataclasses import replace

from reconciler.core.world import NodeView, Settings
from schema.clock import format_rfc3339, seconds
from schema.names import ANNOTATION_RETRY
from schema.states import Reason
from schema.target import Target
from schema.transaction import Attempt, History, Result

_FINAL = frozenset({Result.ROLLED_BACK, Result.REBOOT_REQUIRED})


def failure(node: NodeView, target: Target) -> Attempt | None:
    """The latest attempt, if it was for this Target, failed, and no `retry` is newer."""
    latest = node.history.latest
    if latest is None or latest.result is Result.OK or not latest.to.same_module(target):
        return None
    return None if retried(node) else latest


def retried(node: NodeView) -> bool:
    """A human's `retry` annotation is newer than the latest attempt: older failures no longer count."""
    latest = node.history.latest
    return seconds(node.annotations.get(ANNOTATION_RETRY)) > (seconds(latest.at) if latest else 0.0)


def waits(attempt: Attempt | None, now: float) -> float:
    """Seconds until the next attempt is due; infinite when only a human's retry makes it so."""
    if attempt is None:
        return 0.0
    if attempt.result in _FINAL:
        return float("inf")
    return max(0.0, seconds(attempt.not_before) - now)


def succeeded(
    node: NodeView, *, plan: str, from_: Target | None, to: Target, now: float, outage_s: float | None
) -> History:
    """The Target is reached: newest first, one entry per Target, and the latest attempt."""
    past = failure(node, to)
    entry = Attempt(
        at=format_rfc3339(now),
        plan=plan,
        from_=from_,
        to=to,
        result=Result.OK,
        attempts=past.attempts + 1 if past else 1,
        outage_s=outage_s,
    )
    return node.history.reaching(entry)


def failed(
    node: NodeView,
    settings: Settings,
    *,
    plan: str,
    from_: Target | None,
    to: Target,
    result: Result,
    reason: Reason | str,
    now: float,
    outage_s: float | None = None,
) -> History:
    """One more failure of this Target: counted, with the time before which it is not tried again."""
    past = failure(node, to)
    attempts = past.attempts + 1 if past else 1
    entry = Attempt(
        at=format_rfc3339(now),
        plan=plan,
        from_=from_,
        to=to,
        result=result,
        attempts=attempts,
        not_before=None if result in _FINAL else format_rfc3339(now + back_off_s(settings, attempts) + 1),
        reason=str(reason),
        outage_s=outage_s,
    )
    return replace(node.history, latest=entry)


def back_off_s(settings: Settings, attempts: int) -> float:
    """Seconds to wait after that many failures: doubled each time, up to the limit."""
    doubled: float = settings.retry_base_s * 2.0 ** min(attempts - 1, 30)
    return min(settings.retry_limit_s, doubled)
