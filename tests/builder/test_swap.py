"""swap: the procedure, its refusals, its way back, and a kill at every write and every command."""

import json

import pytest

from builder.active import read_active, read_marker
from builder.api import ApiError
from builder.context import Stopped
from builder.facts import read_facts
from builder.journal import Step, read_journal
from builder.keep import keep_once
from builder.kernel import refcnt
from builder.swap import swap
from schema.facts import HostMode
from schema.names import (
    ANNOTATION_CLAIM,
    LABEL_INSTALL_MODE,
    LABEL_KMD_VERSION,
)
from schema.states import Reason
from schema.transaction import Claim, ClaimState, Phase, Result


def ended(bench, *, version, result):
    """The invariants of every end: one verified module, no open entry, an answered claim, true labels."""
    host = bench.machine.host
    assert bench.machine.loaded_version == version
    assert read_journal(host).open is None
    assert read_active(host).module.version == version
    assert read_facts(host).mode is HostMode.CONTAINER
    assert bench.register.claim.state is ClaimState.DONE
    assert bench.register.claim.result is result
    assert bench.register.labels[LABEL_KMD_VERSION] == version
    assert bench.register.labels[LABEL_INSTALL_MODE] == "container"
    assert bench.register.facts["loaded"]["version"] == version


def test_upgrade(bench_of):
    bench = bench_of()
    bench.permit()
    verdict = swap(bench.context())
    assert (verdict.result, verdict.changed, verdict.version) == (Result.OK, True, "2.8.0")
    assert verdict.outage_s is not None
    ended(bench, version="2.8.0", result=Result.OK)
    assert bench.machine.host.text("/etc/udev/rules.d/50-tenstorrent.rules").startswith("SUBSYSTEM")
    assert read_marker(bench.machine.host, bench.machine.boot_id).live
    assert bench.register.facts["last"]["id"] == "0123456789abcdef"


def test_downgrade(bench_of):
    bench = bench_of(live="2.8.0", staged=("2.7.0",))
    bench.permit("2.7.0")
    assert swap(bench.context("2.7.0")).result is Result.OK
    ended(bench, version="2.7.0", result=Result.OK)


def test_first_install(bench_of):
    bench = bench_of(live=None)
    bench.permit()
    verdict = swap(bench.context())
    assert (verdict.result, verdict.changed, verdict.outage_s) == (Result.OK, True, None)
    ended(bench, version="2.8.0", result=Result.OK)


def test_first_install_that_does_not_load_leaves_nothing_as_it_was(bench_of):
    bench = bench_of(live=None)
    bench.permit()
    bench.machine.fail("insmod", "ENOMEM")
    verdict = swap(bench.context())
    assert (verdict.result, verdict.reason) == (Result.FAILED, Reason.LOAD_FAILED)
    assert bench.machine.loaded_version is None
    assert read_journal(bench.machine.host).open is None


def test_what_is_live_already_changes_no_module(bench_of):
    bench = bench_of(live="2.8.0", staged=())
    bench.permit()
    verdict = swap(bench.context())
    assert (verdict.result, verdict.outage_s) == (Result.OK, None)
    assert not [line for line in bench.machine.commands() if line.startswith(("rmmod", "insmod"))]
    ended(bench, version="2.8.0", result=Result.OK)


def test_a_second_worker_replays_the_verdict_and_changes_nothing(bench_of):
    bench = bench_of()
    bench.permit()
    first = swap(bench.context())
    before, commands = bench.register.version, len(bench.machine.commands())
    again = swap(bench.context())
    assert (again.result, again.version, again.outage_s) == (first.result, first.version, first.outage_s)
    assert not again.changed
    assert (bench.register.version, len(bench.machine.commands())) == (before, commands)


def test_a_lost_answer_is_written_by_the_next_worker(bench_of):
    bench = bench_of()
    bench.permit()
    context = bench.context()
    bench.register.faults = []
    bench.clock.then = None
    original = bench.register.get
    done = []

    def silent_after_the_swap():
        if read_journal(bench.machine.host).closed and not done:
            raise ApiError(0, "connection refused")
        return original()

    bench.register.get = silent_after_the_swap
    assert swap(context).result is Result.OK
    assert bench.register.claim.state is ClaimState.BEGUN
    done.append(True)
    assert not swap(bench.context()).changed
    ended(bench, version="2.8.0", result=Result.OK)


@pytest.mark.parametrize("hurt", ["claim lost", "claim conflict", "answer lost"])
def test_conflicts_and_lost_answers_of_the_api(bench_of, hurt):
    bench = bench_of()
    bench.permit()
    match hurt:
        case "claim lost":
            bench.register.lost = 1
        case "claim conflict":
            original, once = bench.register.get, []

            def get_then_status_heartbeat():
                node = original()
                if len(once) < 2:
                    once.append(True)
                    bench.register.write(labels={"heartbeat": str(len(once))})
                return node

            bench.register.get = get_then_status_heartbeat
        case "answer lost":
            bench.register.lost = 2
    assert swap(bench.context()).result is Result.OK
    ended(bench, version="2.8.0", result=Result.OK)


# --- refusals: nothing is changed -------------------------------------------------------------------------


def refused(bench, reason, **settings):
    before = bench.register.version
    loaded, last = bench.machine.loaded_version, read_active(bench.machine.host)
    with pytest.raises(Stopped) as stopped:
        swap(bench.context(**settings))
    assert stopped.value.reason is reason, str(stopped.value)
    assert stopped.value.result is Result.REFUSED
    assert bench.register.version == before
    assert bench.machine.loaded_version == loaded
    assert read_active(bench.machine.host) == last
    assert read_journal(bench.machine.host).open is None
    assert not [line for line in bench.machine.commands() if line.startswith(("rmmod", "insmod"))]
    return stopped.value


def test_no_record(bench_of):
    refused(bench_of(), Reason.PERMIT_VOID)


@pytest.mark.parametrize("phase", [Phase.RESERVED, Phase.CORDONED])
def test_record_without_permit(bench_of, phase):
    bench = bench_of()
    bench.permit(phase=phase)
    refused(bench, Reason.PERMIT_VOID)


def test_record_of_another_attempt(bench_of):
    bench = bench_of()
    bench.permit(id_="f" * 16)
    refused(bench, Reason.PERMIT_VOID)


def test_record_of_another_target(bench_of):
    bench = bench_of(staged=("2.8.0",))
    bench.permit("2.7.0")
    refused(bench, Reason.PERMIT_VOID)


def test_permit_of_another_boot(bench_of):
    bench = bench_of()
    bench.register.permit("an earlier boot")
    refused(bench, Reason.PERMIT_VOID)


def test_worker_of_another_boot(bench_of):
    bench = bench_of()
    bench.permit()
    refused(bench, Reason.PERMIT_VOID, boot_id="an earlier boot")


@pytest.mark.parametrize("managers", [(), ("kubectl",), ("ttfleet-operator", "kubectl")])
def test_cordon_that_is_not_the_operators_alone(bench_of, managers):
    bench = bench_of()
    bench.permit()
    bench.register.write(managers=managers)
    refused(bench, Reason.PERMIT_VOID)


def test_uncordoned_by_a_human_before_the_claim(bench_of):
    bench = bench_of()
    bench.permit()
    bench.register.write(unschedulable=False)
    refused(bench, Reason.PERMIT_VOID)


def test_claimed_by_another_transaction(bench_of):
    bench = bench_of()
    bench.permit()
    other = Claim(id="f" * 16, state=ClaimState.BEGUN)
    bench.register.write(annotations={ANNOTATION_CLAIM: json.dumps(other.to_json())})
    refused(bench, Reason.PERMIT_VOID)


def test_forbidden_by_admission(bench_of):
    bench = bench_of()
    bench.permit()
    bench.register.faults = [ApiError(403, "denied the request")]
    refused(bench, Reason.PERMIT_VOID)


def test_api_server_that_never_answers(bench_of):
    bench = bench_of()
    bench.permit()
    bench.register.faults = [ApiError(0, "timed out")] * 50
    refused(bench, Reason.PERMIT_VOID)


def test_released_while_waiting_for_a_holder(bench_of):
    """Rows 7 and 9 race on one resourceVersion: the operator was faster."""
    bench = bench_of()
    bench.permit()
    bench.machine.hold("telemetry", 4242)

    def meanwhile():
        bench.machine.release("telemetry")
        if "fleet.tenstorrent.com/txn" in bench.register.annotations:
            bench.register.release()

    bench.clock.then = meanwhile
    with pytest.raises(Stopped) as stopped:
        swap(bench.context())
    assert stopped.value.reason is Reason.PERMIT_VOID
    assert bench.machine.loaded_version == "2.7.0"


@pytest.mark.parametrize(
    ("how", "reason"),
    [("fd", Reason.DEVICE_IN_USE), ("map", Reason.DEVICE_IN_USE), ("hidden", Reason.UNKNOWN_HOLDER)],
)
def test_a_holder_is_named_and_nothing_happens(bench_of, how, reason):
    bench = bench_of()
    bench.permit()
    assert bench.machine.hold("train", 4711, how)
    stopped = refused(bench, reason)
    assert refcnt(bench.machine.host) == 1
    assert bool(stopped.holders) == (how != "hidden")
    assert all("pid 4711 (train) /dev/tenstorrent/0" in text for text in stopped.holders)


def test_a_holder_that_leaves_in_time_is_waited_for(bench_of):
    bench = bench_of()
    bench.permit()
    bench.machine.hold("telemetry", 4242)
    bench.clock.then = lambda: bench.machine.release("telemetry")
    assert swap(bench.context()).result is Result.OK


def test_force_unload_kills_the_holder_after_the_claim(bench_of):
    bench = bench_of()
    bench.permit()
    bench.machine.hold("train", 4711)
    assert swap(bench.context(force_unload=True)).result is Result.OK
    assert "kill -KILL 4711" in bench.machine.commands()
    ended(bench, version="2.8.0", result=Result.OK)


def test_force_unload_cannot_kill_whom_it_does_not_see(bench_of):
    bench = bench_of()
    bench.permit()
    bench.machine.hold("train", 4711, "hidden")
    verdict = swap(bench.context(force_unload=True))
    assert (verdict.result, verdict.reason) == (Result.REFUSED, Reason.UNKNOWN_HOLDER)
    ended(bench, version="2.7.0", result=Result.REFUSED)


def test_dkms_owns_the_driver(bench_of):
    bench = bench_of(live=None)
    bench.machine.install_dkms("2.7.0")
    bench.permit()
    refused(bench, Reason.HOST_MANAGED_KMD)


def test_not_staged(bench_of):
    bench = bench_of(staged=())
    bench.permit()
    refused(bench, Reason.PREFLIGHT_FAILED)


def test_a_truncated_module_is_not_staged(bench_of):
    bench = bench_of()
    bench.permit()
    path = bench.machine.host.path(f"/var/cache/tt-kmd/{bench.machine.kernel}/2.8.0/tenstorrent.ko")
    path.write_bytes(path.read_bytes()[:-20])
    refused(bench, Reason.PREFLIGHT_FAILED)


@pytest.mark.parametrize(
    ("path", "text", "reason"),
    [
        ("proc/sys/kernel/modules_disabled", "1", Reason.MODULES_DISABLED),
        ("proc/cmdline", "quiet module_blacklist=nouveau,tenstorrent", Reason.MODULE_BLACKLISTED),
        ("sys/module/module/parameters/sig_enforce", "Y", Reason.SIGNATURE_REQUIRED),
        ("sys/kernel/security/lockdown", "none [integrity] confidentiality", Reason.SIGNATURE_REQUIRED),
    ],
)
def test_a_kernel_that_takes_no_module(bench_of, path, text, reason):
    bench = bench_of()
    bench.permit()
    (bench.machine.root / path).write_text(text)
    refused(bench, reason)
    assert read_facts(bench.machine.host).problems == (reason,)


def test_no_file_is_the_loaded_module(bench_of):
    """After an apt upgrade without a reload memory and disk differ."""
    bench = bench_of()
    bench.permit()
    for path in bench.machine.host.path("/var/cache/tt-kmd").glob("*/2.7.0/*"):
        path.unlink()
    refused(bench, Reason.NO_FALLBACK)


def test_the_lock_is_taken(bench_of):
    import fcntl

    bench = bench_of()
    bench.permit()
    lock = bench.machine.host.path("/var/lib/ttfleet/lock")
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        refused(bench, Reason.HOST_BUSY)


# --- the way back ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", ["ENOEXEC", "EINVAL", "ENOMEM", "EPERM"])
def test_a_module_that_does_not_load_falls_back(bench_of, error):
    bench = bench_of()
    bench.permit()
    bench.machine.fail("insmod", error, version="2.8.0")
    verdict = swap(bench.context())
    assert (verdict.result, verdict.reason, verdict.changed) == (Result.ROLLED_BACK, Reason.LOAD_FAILED, True)
    ended(bench, version="2.7.0", result=Result.ROLLED_BACK)


def test_a_module_that_loads_but_does_not_serve_falls_back(bench_of):
    """A failed probe does not fail insmod: right version, no device nodes."""
    bench = bench_of()
    bench.permit()
    bench.machine.fail("probe", "EIO", version="2.8.0")
    verdict = swap(bench.context())
    assert (verdict.result, verdict.reason) == (Result.ROLLED_BACK, Reason.VERIFY_FAILED)
    assert "0000:01:00.0" in verdict.message
    ended(bench, version="2.7.0", result=Result.ROLLED_BACK)


def test_neither_loads(bench_of):
    bench = bench_of()
    bench.permit()
    bench.machine.fail("insmod", "ENOMEM")
    verdict = swap(bench.context())
    assert (verdict.result, verdict.reason) == (Result.REBOOT_REQUIRED, Reason.REBOOT_REQUIRED)
    assert bench.machine.loaded_version is None
    assert read_journal(bench.machine.host).open is None
    assert bench.register.claim.result is Result.REBOOT_REQUIRED
    assert LABEL_KMD_VERSION not in bench.register.labels
    bench.machine.fail("insmod", None)
    bench.machine.reboot()
    assert keep_once(bench.context()).changed
    assert bench.machine.loaded_version == "2.7.0"


@pytest.mark.parametrize("live", [True, False])
def test_a_required_reboot_that_has_been_is_not_required_again(bench_of, live):
    """The answer got lost, then the machine rebooted: row 10, a new permit, and the host closed this id long ago."""
    bench = bench_of()
    bench.permit()
    bench.machine.fail("insmod", "ENOMEM")
    swap(bench.context())
    bench.machine.fail("insmod", None if live else "ENOMEM")
    bench.machine.reboot()
    keep_once(bench.context())
    bench.register.write(annotations={ANNOTATION_CLAIM: None})
    bench.permit()
    verdict = swap(bench.context())
    assert verdict.result is bench.register.claim.result
    assert verdict.result is (Result.ROLLED_BACK if live else Result.FAILED)
    assert (verdict.changed, verdict.version) == (False, "2.7.0" if live else None)


def test_a_module_of_unknown_source_is_not_the_pinned_one(bench_of):
    bench = bench_of()
    bench.permit()
    path = f"/var/cache/tt-kmd/{bench.machine.kernel}/2.8.0/ttfleet.json"
    record = json.loads(bench.machine.host.text(path))
    bench.machine.host.write(path, json.dumps(record | {"commit": None}).encode())
    with pytest.raises(Stopped) as stopped:
        swap(bench.context())
    assert stopped.value.reason is Reason.SOURCE_MISMATCH
    assert bench.register.claim is None


def test_rmmod_is_refused(bench_of):
    bench = bench_of()
    bench.permit()
    bench.machine.fail("rmmod", "EBUSY")
    verdict = swap(bench.context())
    assert (verdict.result, verdict.reason, verdict.changed) == (Result.REFUSED, Reason.UNLOAD_FAILED, False)
    ended(bench, version="2.7.0", result=Result.REFUSED)


def old_module_in_the_tree(machine):
    """An `extra/tenstorrent.ko` of the old version that nobody registered: udev may load it at any time."""
    image = machine.host.data(f"/var/cache/tt-kmd/{machine.kernel}/2.7.0/tenstorrent.ko")
    machine.host.write(f"/lib/modules/{machine.kernel}/extra/tenstorrent.ko", image)
    machine.host.run(["depmod"], timeout_s=5)


def test_udev_wins_the_race_twice(bench_of):
    """EEXIST: the old version is live again after our rmmod; it is unloaded once more."""
    bench = bench_of()
    bench.permit()
    old_module_in_the_tree(bench.machine)
    bench.machine.fail("udev-reload", "add", times=2)
    assert swap(bench.context()).result is Result.OK
    assert len([line for line in bench.machine.commands() if line.startswith("rmmod")]) == 3
    ended(bench, version="2.8.0", result=Result.OK)


def test_udev_wins_every_race(bench_of):
    bench = bench_of()
    bench.permit()
    old_module_in_the_tree(bench.machine)
    bench.machine.fail("udev-reload", "add")
    verdict = swap(bench.context())
    assert verdict.result is Result.ROLLED_BACK
    ended(bench, version="2.7.0", result=Result.ROLLED_BACK)


def test_parameters_survive(bench_of):
    bench = bench_of()
    bench.permit()
    machine = bench.machine
    (machine.root / "sys/module/tenstorrent/parameters/max_devices").write_text("4\n")
    (machine.root / "sys/module/tenstorrent/parameters/gone_in_2_8").write_text("1\n")
    (machine.root / "etc/modprobe.d/tt.conf").write_text("options tenstorrent reset_limit=3\n")
    assert swap(bench.context()).result is Result.OK
    parameters = machine.root / "sys/module/tenstorrent/parameters"
    assert (parameters / "max_devices").read_text() == "4\n"
    assert (parameters / "reset_limit").read_text() == "3\n"
    assert read_active(machine.host).parameters == {"max_devices": "4", "reset_limit": "3"}
    assert any("gone_in_2_8" in line for line in bench.log)
    machine.reboot()
    keep_once(bench.context())
    assert (machine.root / "sys/module/tenstorrent/parameters/max_devices").read_text() == "4\n"


# --- a kill at every write and every command ------------------------------------------------------------------


def prepared(bench_of, scenario):
    bench = bench_of(live=None) if scenario == "install" else bench_of()
    bench.permit()
    match scenario:
        case "fallback":
            bench.machine.fail("insmod", "EINVAL", version="2.8.0")
        case "unserved":
            bench.machine.fail("probe", "EIO", version="2.8.0")
        case "race":
            old_module_in_the_tree(bench.machine)
            bench.machine.fail("udev-reload", "add", times=1)
    return bench


SCENARIOS = {
    "upgrade": ("2.8.0", Result.OK),
    "install": ("2.8.0", Result.OK),
    "race": ("2.8.0", Result.OK),
    "fallback": ("2.7.0", Result.ROLLED_BACK),
    "unserved": ("2.7.0", Result.ROLLED_BACK),
}


def operations(bench_of, scenario):
    bench = prepared(bench_of, scenario)
    context = bench.context()
    swap(context)
    return context.host.bomb.count


def kill_at(bench_of, scenario, at, killed):
    """A bench whose worker was killed at operation `at`, in the middle of `scenario`."""
    bench = prepared(bench_of, scenario)
    with pytest.raises(killed):
        swap(bench.context(at=at))
    return bench


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_killed_anywhere_the_next_worker_finishes(bench_of, killed, scenario):
    version, result = SCENARIOS[scenario]
    total = operations(bench_of, scenario)
    assert total >= 9
    for at in range(1, total + 1):
        bench = kill_at(bench_of, scenario, at, killed)
        assert swap(bench.context()).result is result, f"killed at {at} of {total}"
        ended(bench, version=version, result=result)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_killed_anywhere_then_rebooted_the_keeper_brings_a_module_back(bench_of, killed, scenario):
    total = operations(bench_of, scenario)
    for at in range(1, total + 1):
        bench = kill_at(bench_of, scenario, at, killed)
        bench.machine.reboot()
        keep_once(bench.context())
        host, where = bench.machine.host, f"killed at {at} of {total}"
        active, opened = read_active(host), read_journal(host).open
        if active is None:  # a first install that had not begun
            assert not read_journal(host).closed, where
            assert bench.machine.loaded_version is None, where
            continue
        assert bench.machine.loaded_version in {"2.7.0", "2.8.0"}, where
        if opened:  # loaded, and no device appeared: only the next worker may unload it
            assert (scenario, opened.step) == ("unserved", Step.FALLING_BACK), where
        elif scenario != "race":  # there udev finds an old module in the tree at boot, and keep never unloads
            assert bench.machine.loaded_version == active.module.version, where


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_killed_anywhere_rebooted_and_permitted_again(bench_of, killed, scenario):
    """Row 10: the claim is gone, the permit is for the new boot, and the worker and the keeper agree on the end."""
    version, result = SCENARIOS[scenario]
    total = operations(bench_of, scenario)
    for at in range(1, total + 1):
        bench = kill_at(bench_of, scenario, at, killed)
        bench.machine.reboot()
        keep_once(bench.context())
        bench.register.write(annotations={ANNOTATION_CLAIM: None})
        bench.permit()
        swap(bench.context())
        assert bench.register.claim.state is ClaimState.DONE
        assert bench.register.claim.result in {result, Result.ROLLED_BACK}, f"killed at {at} of {total}"
        assert bench.machine.loaded_version in {version, "2.7.0"}
        if (
            scenario != "race"
        ):  # closed before the reboot, and then udev loads an old module: facts tell the operator
            assert read_active(bench.machine.host).module.version == bench.machine.loaded_version


def test_killed_anywhere_the_keeper_leaves_a_standing_permit_to_the_next_worker(bench_of, killed):
    total = operations(bench_of, "upgrade")
    for at in range(1, total + 1):
        bench = kill_at(bench_of, "upgrade", at, killed)
        open_entry = read_journal(bench.machine.host).open
        loaded = bench.machine.loaded_version
        keep_once(bench.context())
        assert read_journal(bench.machine.host).open == open_entry
        if open_entry:
            assert bench.machine.loaded_version == loaded


def test_killed_anywhere_and_released_by_hand_the_keeper_never_unloads(bench_of, killed):
    total = operations(bench_of, "upgrade")
    for at in range(1, total + 1):
        bench = kill_at(bench_of, "upgrade", at, killed)
        unloads = sum(line.startswith("rmmod") for line in bench.machine.commands())
        bench.register.release()
        keep_once(bench.context())
        host = bench.machine.host
        assert read_journal(host).open is None
        assert bench.machine.loaded_version == read_active(host).module.version, f"killed at {at}"
        assert sum(line.startswith("rmmod") for line in bench.machine.commands()) == unloads


def test_killed_twice(bench_of, killed):
    total = operations(bench_of, "upgrade")
    for first in range(4, total + 1, 2):
        for second in range(1, total, 3):
            bench = kill_at(bench_of, "upgrade", first, killed)
            try:
                swap(bench.context(at=second))
            except killed:
                swap(bench.context())
            ended(bench, version="2.8.0", result=Result.OK)


def test_an_answer_is_owed_once_claimed(bench_of, killed):
    """Killed between claim and journal, and then a precondition fails: the claim is answered, not left hanging."""
    bench = bench_of()
    bench.permit()
    bench.machine.hold("late", 77)
    claim = Claim(id="0123456789abcdef", state=ClaimState.BEGUN)
    bench.register.write(annotations={ANNOTATION_CLAIM: json.dumps(claim.to_json())})
    verdict = swap(bench.context())
    assert (verdict.result, verdict.reason, verdict.changed) == (Result.REFUSED, Reason.DEVICE_IN_USE, False)
    ended(bench, version="2.7.0", result=Result.REFUSED)


def test_an_entry_left_by_an_earlier_transaction_is_closed_first(bench_of, killed):
    bench = kill_at(bench_of, "upgrade", operations(bench_of, "upgrade") // 2, killed)
    assert read_journal(bench.machine.host).open is not None
    bench.register.release()
    bench.permit(id_="f" * 16)
    assert swap(bench.context(id_="f" * 16)).result is Result.OK
    assert {entry.id for entry in read_journal(bench.machine.host).closed} == {"0123456789abcdef", "f" * 16}
    ended(bench, version="2.8.0", result=Result.OK)


def test_once_falling_back_the_target_is_not_tried_again(bench_of, killed):
    """The target failed once and might load now; whoever comes goes on with the way back all the same."""
    seen = 0
    for at in range(1, operations(bench_of, "fallback") + 1):
        bench = bench_of()
        bench.permit()
        bench.machine.fail("insmod", "ENOMEM", version="2.8.0", times=1)
        with pytest.raises(killed):
            swap(bench.context(at=at))
        entry = read_journal(bench.machine.host).open
        if entry is None or entry.step is not Step.FALLING_BACK:
            continue
        seen += 1
        assert swap(bench.context()).result is Result.ROLLED_BACK
        ended(bench, version="2.7.0", result=Result.ROLLED_BACK)
    assert seen > 1
