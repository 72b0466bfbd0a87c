"""Verb `swap`: procedure "Swap" of docs/builder.md, under the permit of one transaction."""

from dataclasses import dataclass, replace
from typing import Final

from builder import claim, kernel
from builder.active import read_active
from builder.claim import Permit, Standing
from builder.context import Context, Stopped
from builder.fallback import save_loaded
from builder.holders import find_holders
from builder.journal import Closed, Entry, Step, open_entry, read_journal
from builder.loading import POLL_S, TOOL_TIMEOUT_S, install_rule, wanted_parameters
from builder.lock import Busy, host_lock
from builder.modules import Image, cached
from builder.recovery import recover, resume
from schema.clock import format_rfc3339
from schema.names import ENV_KMD_VERSION, ENV_TXN_ID
from schema.states import Reason
from schema.transaction import Claim, ClaimState, Result
from schema.verdict import Verdict

LOCK_WAIT_S: Final = 30.0
HOLDER_WAIT_S: Final = 20.0  # a telemetry reader that opens the device for a moment is no holder
KILL_WAIT_S: Final = 10.0
VERB: Final = "swap"


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """All that the swap needs, checked while the old module serves. `fallback` None: none is loaded."""

    target: Image
    fallback: Image | None
    parameters: dict[str, str]
    fallback_parameters: dict[str, str]


def swap(context: Context) -> Verdict:
    """Replace the live module (or none) by the staged one.

    Raises:
        Stopped: a precondition failed, nothing has been changed and nothing is claimed.
    """
    try:
        with host_lock(context.host, wait_s=LOCK_WAIT_S, sleep=context.clock.sleep):
            return _swap(context)
    except Busy as error:
        raise Stopped(Reason.HOST_BUSY, f"another verb holds {error}") from error


def _swap(context: Context) -> Verdict:
    """Under the lock: replay, resume, or begin."""
    settings, host = context.settings, context.host
    boot = kernel.boot_id(host)
    if not settings.transaction_id or not settings.version:
        raise Stopped(Reason.PERMIT_VOID, f"{ENV_TXN_ID} or {ENV_KMD_VERSION} is not set")
    if settings.boot_id and settings.boot_id != boot:
        raise Stopped(Reason.PERMIT_VOID, f"permitted for boot {settings.boot_id}, this is {boot}")
    permit = Permit(
        id=settings.transaction_id, boot_id=boot, version=settings.version, commit=settings.commit
    )
    journal = read_journal(host)
    if past := journal.result_of(permit.id):
        return _replay(context, permit, past)
    if journal.open and journal.open.id == permit.id:
        return _resume(context, permit, journal.open)
    ours = claim.look(context, permit) is Standing.OURS
    if journal.open:  # the record is ours now: that one has none
        context.log(f"transaction {journal.open.id} was left open")
        if recover(context, journal.open) is None:
            raise Stopped(Reason.HOST_BUSY, f"transaction {journal.open.id} is still open on the host")
    return _begin(context, permit, ours=ours)


def _replay(context: Context, permit: Permit, past: Closed) -> Verdict:
    """The host has closed this transaction: the same verdict again, also to a permit renewed after a reboot."""
    context.log(f"transaction {permit.id} was closed at {past.at}: its verdict again")
    if past.result is Result.REBOOT_REQUIRED and past.boot_id != permit.boot_id:
        past = _rebooted(context, past)
    try:
        claim.begin(context, permit)
    except Stopped as void:
        context.log(f"nothing to answer: {void}")
    return _answer(context, past, changed=False)


def _rebooted(context: Context, past: Closed) -> Closed:
    """The reboot that was required has been: what is live now counts, not what was then."""
    loaded = kernel.loaded(context.host)
    result = Result.ROLLED_BACK if loaded else Result.FAILED
    return replace(past, result=result, version=loaded.version if loaded else None)


def _resume(context: Context, permit: Permit, entry: Entry) -> Verdict:
    """A worker of this transaction died after its claim: go on where it stood."""
    context.committed()
    try:
        claim.begin(context, permit)
    except Stopped as void:
        context.log(f"no permit any more ({void}): nothing is unloaded")
        closed = recover(context, entry)
        if closed is None:
            raise
        return _answer(context, closed)
    context.log(f"resuming at {entry.step}")
    return _answer(context, resume(context, entry))


def _begin(context: Context, permit: Permit, *, ours: bool) -> Verdict:
    """`ours`: an earlier worker died between its claim and its journal; whatever stops us now must be answered."""
    try:
        prepared = _prepare(context, permit)
        if not context.settings.force_unload:
            _wait_until_free(context, HOLDER_WAIT_S)
    except Stopped as stopped:
        if not ours:
            raise
        return _answer(context, _refused(context, permit, stopped))
    context.committed()
    claim.begin(context, permit)
    context.log(f"claimed {permit.id}")
    try:
        if context.settings.force_unload:
            _kill_holders(context)
        _wait_until_free(context, 0)
    except Stopped as stopped:
        return _answer(context, _refused(context, permit, stopped))
    install_rule(context.host, prepared.target, context.log)
    entry = _entry(context, permit, prepared)
    open_entry(context.host, entry)
    return _answer(context, resume(context, entry))


def _prepare(context: Context, permit: Permit) -> Prepared:
    """Steps 1 and 2 of the procedure: nothing here changes what serves.

    Raises:
        Stopped
    """
    host = context.host
    if signals := kernel.dkms_signals(host):
        raise Stopped(Reason.HOST_MANAGED_KMD, f"DKMS owns the driver here: {', '.join(signals)}")
    target = _staged(context, permit)
    for obstacle in kernel.obstacles(host, signed=target.info.signed):
        raise Stopped(obstacle.reason, obstacle.message)
    fallback = save_loaded(host)
    active = read_active(host)
    present = kernel.parameters(host) if fallback else dict(active.parameters) if active else {}
    return Prepared(
        target=target,
        fallback=fallback,
        parameters=wanted_parameters(host, target.info, present, context.log),
        fallback_parameters={
            name: value for name, value in present.items() if fallback and name in fallback.info.parameters
        },
    )


def _staged(context: Context, permit: Permit) -> Image:
    release, build = kernel.release(context.host), kernel.build_id(context.host)
    image = cached(context.host, release, permit.version)
    if image is None:
        raise Stopped(Reason.PREFLIGHT_FAILED, f"{permit.version} is not staged for kernel {release}")
    if permit.commit and image.module.commit != permit.commit:
        raise Stopped(Reason.SOURCE_MISMATCH, f"{permit.version} is staged from {image.module.commit}")
    if image.module.build_id not in {build, ""}:
        raise Stopped(Reason.PREFLIGHT_FAILED, f"{permit.version} is staged for another build of {release}")
    return image


def _entry(context: Context, permit: Permit, prepared: Prepared) -> Entry:
    loaded = kernel.loaded(context.host)
    leaves = loaded is not None and loaded.srcversion != prepared.target.module.srcversion
    return Entry(
        verb=VERB,
        id=permit.id,
        boot_id=permit.boot_id,
        step=Step.UNLOADING,
        target=prepared.target.module,
        fallback=prepared.fallback.module if prepared.fallback else None,
        parameters=prepared.parameters,
        fallback_parameters=prepared.fallback_parameters,
        cards=kernel.bound_cards(context.host),
        unloaded_at=context.clock.now() if leaves else None,
    )


def _wait_until_free(context: Context, wait_s: float) -> None:
    """Wait until nothing holds the module.

    Raises:
        Stopped: DeviceInUse with the holders, or UnknownHolder when nobody is seen.
    """
    left = wait_s
    while kernel.loaded(context.host) is not None and kernel.refcnt(context.host) != 0:
        if left <= 0:
            holders = tuple(text for _, text in find_holders(context.host))
            reason = Reason.DEVICE_IN_USE if holders else Reason.UNKNOWN_HOLDER
            count = kernel.refcnt(context.host)
            raise Stopped(reason, f"refcnt is {count} after {wait_s:.0f} s", holders=holders)
        context.clock.sleep(POLL_S)
        left -= POLL_S


def _kill_holders(context: Context) -> None:
    """`forceUnload`, and only after the claim: the operator has deleted the pods by then."""
    if kernel.refcnt(context.host) <= 0:
        return
    for pid, text in find_holders(context.host):
        context.log(f"forceUnload: SIGKILL {text}")
        context.host.run(["kill", "-KILL", str(pid)], timeout_s=TOOL_TIMEOUT_S)
    _wait_until_free(context, KILL_WAIT_S)


def _refused(context: Context, permit: Permit, stopped: Stopped) -> Closed:
    """After the claim, before the journal: an answer is owed, but nothing has been changed."""
    loaded = kernel.loaded(context.host)
    return Closed(
        id=permit.id,
        at=format_rfc3339(context.clock.now()),
        result=stopped.result,
        changed=False,
        version=loaded.version if loaded else None,
        reason=str(stopped.reason),
        message=" ".join((str(stopped), *stopped.holders)),
    )


def _answer(context: Context, closed: Closed, *, changed: bool | None = None) -> Verdict:
    """Row 8 and the verdict. The host has closed the transaction: whether the API hears of it changes nothing here."""
    answer = Claim(
        id=closed.id,
        state=ClaimState.DONE,
        result=closed.result,
        reason=closed.reason,
        outage_s=closed.outage_s,
    )
    if not claim.finish(context, answer):
        context.log("the claim's answer has not been written; the next worker replays it")
    return Verdict(
        verb=VERB,
        id=closed.id,
        result=closed.result,
        changed=closed.changed if changed is None else changed,
        reason=closed.reason,
        message=closed.message,
        version=closed.version,
        outage_s=closed.outage_s,
    )
