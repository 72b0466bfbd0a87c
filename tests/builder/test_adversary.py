"""A seeded adversary: kills, reboots, keepers, workers, holders, faults and an operator that follows the protocol.

Whatever happens, a node whose faults are healed comes to rest with one verified module and no open entry.
"""

import random

import pytest

from builder.active import read_active
from builder.context import Stopped
from builder.journal import read_journal
from builder.keep import is_ready, keep_once
from builder.swap import swap
from schema.names import ANNOTATION_CLAIM
from schema.transaction import ClaimState, Result


class Play:
    """One node's life. The operator's part is rows 5, 9 and 10."""

    def __init__(self, bench, seed, killed):
        self.bench, self.random, self.killed = bench, random.Random(seed), killed
        self.attempt, self.target = 0, "2.8.0"
        self.moves = []

    def move(self):
        name = self.random.choice(
            (
                "permit",
                "worker",
                "worker",
                "worker",
                "worker",
                "keeper",
                "reboot",
                "hold",
                "let_go",
                "fault",
                "heal",
                "release",
            )
        )
        self.moves.append(name)
        getattr(self, name)()
        self.check()

    def check(self):
        """Holds at every moment: a module is unloaded only under a claim, and nothing live is unknown."""
        live = self.bench.machine.loaded_version
        assert live in {None, "2.7.0", "2.8.0"}, self.moves
        if live is None and not self.rebooted:
            claim = self.bench.register.claim
            assert claim is not None or self.hopeless, self.moves

    rebooted = False
    hopeless = False

    def permit(self):
        """Row 5: a new attempt, or row 10 after a reboot, then row 5 with the new boot."""
        register, machine = self.bench.register, self.bench.machine
        claim = register.claim
        if claim and (claim.state is ClaimState.DONE or self.booted != machine.boot_id):
            register.write(annotations={ANNOTATION_CLAIM: None})
            if claim.state is ClaimState.DONE:
                self.attempt += 1
                self.target = self.random.choice(("2.7.0", "2.8.0"))
        if register.claim is None:
            self.booted = machine.boot_id
            register.permit(machine.boot_id, version=self.target, id_=f"{self.attempt:016x}")

    booted = ""

    def run(self, work):
        """With a kill at a random operation, or none."""
        at = self.random.choice((None, self.random.randint(1, 16)))
        context = self.bench.context(self.target, at=at, id_=f"{self.attempt:016x}", boot_id="")
        try:
            return work(context)
        except (self.killed, Stopped):
            return None

    def worker(self):
        before = self.bench.machine.loaded_version
        verdict = self.run(swap)
        if verdict and verdict.result is Result.REBOOT_REQUIRED:
            self.hopeless = True
        if self.bench.machine.loaded_version not in {before, None}:
            self.rebooted = False

    def keeper(self):
        self.run(keep_once)
        if self.bench.machine.loaded_version:
            self.rebooted = False

    def reboot(self):
        self.bench.machine.reboot()
        self.rebooted, self.hopeless = True, False

    def hold(self):
        self.bench.machine.hold("pod", 4000)

    def let_go(self):
        self.bench.machine.release("pod")

    def fault(self):
        verb, error = self.random.choice((("insmod", "ENOMEM"), ("probe", "EIO"), ("rmmod", "EBUSY")))
        version = self.random.choice(("2.7.0", "2.8.0"))
        self.bench.machine.fail(verb, error, version=version, times=self.random.randint(1, 4))

    def heal(self):
        for verb in ("insmod", "probe", "rmmod"):
            self.bench.machine.fail(verb, None)

    def release(self):
        """Row 9: without a claim, or with an answered one that is not RebootRequired."""
        claim = self.bench.register.claim
        if claim is None or (claim.state is ClaimState.DONE and claim.result is not Result.REBOOT_REQUIRED):
            self.bench.register.release()
            self.attempt += 1

    def rest(self):
        """Faults are healed, holders leave; reboot if that is what it takes; the operator goes on to the end."""
        self.heal()
        self.let_go()
        for _ in range(8):
            claim = self.bench.register.claim
            if (
                claim and claim.result is Result.REBOOT_REQUIRED
            ) or self.bench.machine.loaded_version is None:
                self.reboot()
            keep_once(self.bench.context())
            self.permit()
            swap(self.bench.context(self.target, id_=f"{self.attempt:016x}", boot_id=""))
            self.release()
        keep_once(self.bench.context())


@pytest.mark.parametrize("seed", range(16))
def test_whatever_happens_a_node_comes_to_rest(bench_of, killed, seed):
    bench = bench_of()
    play = Play(bench, seed, killed)
    play.booted = bench.machine.boot_id
    for _ in range(25):
        play.move()
    play.rest()
    host = bench.machine.host
    assert read_journal(host).open is None, play.moves
    assert bench.machine.loaded_version == read_active(host).module.version, play.moves
    assert is_ready(host), play.moves
