"""Targets: what a ttdp asks for, what a machine has, and which kind of change lies between them."""

import json
from enum import StrEnum

from reconciler.core.world import NodeView, PolicyView, Settings
from schema.facts import HostFacts, HostMode, Staged
from schema.names import ANNOTATION_PROMOTED
from schema.target import Mode, Target, Vacate


class Change(StrEnum):
    """What it would take to bring a machine to a Target."""

    NONE = "none"
    INSTALL = "install"  # no module is loaded
    SWAP = "swap"  # one module of ours for another
    VACATE = "vacate"  # DKMS owns the driver, the operator shall
    RESTORE = "restore"  # the other way round
    HOST_MANAGED = "host-managed"  # DKMS owns the driver and keeps it


def asked(policy: PolicyView, settings: Settings) -> Target:
    """The Target of a spec. An absent mode detects: it never vacates, so it is `container` without a vacate."""
    spec = policy.spec
    mode = spec.mode or Mode.CONTAINER
    pin = settings.releases.get(spec.version)
    repository, commit = (spec.source.repository, spec.source.commit) if spec.source else pin or (None, None)
    if mode is Mode.HOST:
        return Target(mode=mode, version=spec.version or None)
    return Target(mode=mode, version=spec.version, repository=repository, commit=commit, vacate=spec.vacate)


def promoted(policy: PolicyView) -> Target | None:
    """The Target last promoted for a waiting ttdp; None if there is none or it cannot be read."""
    text = policy.annotations.get(ANNOTATION_PROMOTED)
    if not text:
        return None
    try:
        return Target.from_json(json.loads(text))
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def current_facts(node: NodeView) -> HostFacts | None:
    """The facts, if they speak of the boot that the kubelet reports."""
    facts = node.facts
    return facts if facts is not None and facts.boot_id == node.boot_id else None


def live(facts: HostFacts | None) -> Target | None:
    """What the machine runs now, as a Target; the commit only where active.json vouches for the live module."""
    if facts is None or facts.loaded is None:
        return None
    if facts.mode is HostMode.HOST:
        return Target(mode=Mode.HOST, version=facts.loaded.version)
    commit = facts.active.commit if facts.active and vouched(facts) else None
    return Target(mode=Mode.CONTAINER, version=facts.loaded.version, commit=commit)


def vouched(facts: HostFacts) -> bool:
    """The module that is live is the one that active.json names: verified, and loaded again after a reboot."""
    active, loaded = facts.active, facts.loaded
    return active is not None and loaded is not None and active.srcversion == loaded.srcversion


def reached(facts: HostFacts | None, target: Target) -> bool:
    """The machine runs the Target and keeps it; an adopted module (commit unknown) matches every pin of its version.

    While a journal entry is open nothing is reached: after a reboot in the middle of a swap the target may be live and
    not serve. Nor is what a hand has loaded: nobody verified it, and the next boot does not bring it back.
    """
    running = live(facts)
    if facts is None or running is None or not running.same_module(target):
        return False
    return target.mode is Mode.HOST or (facts.mode is HostMode.CONTAINER and vouched(facts))


def change(facts: HostFacts, target: Target) -> Change:
    """Which kind of change brings the machine to the Target."""
    if target.mode is Mode.HOST:
        return Change.RESTORE if facts.mode is HostMode.CONTAINER else Change.HOST_MANAGED
    if facts.mode is HostMode.HOST:
        return Change.HOST_MANAGED if target.vacate is Vacate.NEVER else Change.VACATE
    if facts.loaded is None:
        return Change.INSTALL
    return Change.NONE if reached(facts, target) else Change.SWAP


def staged(facts: HostFacts, target: Target) -> Staged | None:
    """The verified module of the Target for the running kernel, from the pinned source."""
    for entry in facts.staged:
        fits = entry.version == target.version and entry.build_id == facts.build_id
        if fits and (target.commit is None or entry.commit == target.commit):
            return entry
    return None


def removed(facts: HostFacts, target: Target) -> bool:
    """The module that active.json names for this kernel and that is wanted has gone: somebody unloaded it."""
    active = facts.active
    return (
        facts.loaded is None
        and facts.mode is HostMode.CONTAINER
        and active is not None
        and active.build_id == facts.build_id
        and active.version == target.version
        and (active.commit is None or target.commit is None or active.commit == target.commit)
    )
