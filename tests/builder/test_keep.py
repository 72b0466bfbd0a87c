"""keep: once a boot, never over DKMS, never an unload; adoption; facts that stay still on an idle node."""

import json

import pytest

from builder.active import Active, Marker, read_active, write_active, write_marker
from builder.api import ApiError
from builder.facts import labels, read_facts, to_text
from builder.keep import LOAD_ATTEMPTS, READY, is_ready, keep_once
from builder.kernel import loaded
from schema.facts import HostFacts, HostMode
from schema.names import ANNOTATION_HOST_FACTS, LABEL_INSTALL_MODE, LABEL_KMD_VERSION
from schema.states import Reason
from schema.transaction import Result


def loads(bench):
    return sum(line.startswith("insmod") for line in bench.machine.commands())


def test_loads_after_a_boot_and_reports(bench_of):
    bench = bench_of()
    bench.machine.reboot()
    assert not is_ready(bench.machine.host)
    verdict = keep_once(bench.context())
    assert (verdict.result, verdict.changed) == (Result.OK, True)
    assert bench.machine.loaded_version == "2.7.0"
    assert is_ready(bench.machine.host)
    assert bench.machine.host.exists(READY)
    assert bench.register.labels == {LABEL_INSTALL_MODE: "container", LABEL_KMD_VERSION: "2.7.0"}
    assert HostFacts.from_json(bench.register.facts) == read_facts(bench.machine.host)


def test_what_a_person_unloads_stays_unloaded(bench_of):
    bench = bench_of()
    bench.machine.reboot()
    keep_once(bench.context())
    bench.machine.host.run(["rmmod", "tenstorrent"], timeout_s=5)
    for _ in range(3):
        verdict = keep_once(bench.context())
    assert (verdict.result, verdict.reason) == (Result.FAILED, Reason.MODULE_REMOVED)
    assert loads(bench) == 1
    assert not bench.machine.host.exists(READY)
    assert LABEL_KMD_VERSION not in bench.register.labels
    assert read_facts(bench.machine.host).problems == ()
    bench.machine.reboot()
    keep_once(bench.context())
    assert loads(bench) == 2


def test_a_module_found_live_counts_as_the_load_of_this_boot(bench_of):
    bench = bench_of()
    keep_once(bench.context())
    bench.machine.host.run(["rmmod", "tenstorrent"], timeout_s=5)
    keep_once(bench.context())
    assert loads(bench) == 0


def test_gives_up_after_three_failed_loads(bench_of):
    bench = bench_of()
    bench.machine.reboot()
    bench.machine.fail("insmod", "ENOMEM")
    reasons = [keep_once(bench.context()).reason for _ in range(LOAD_ATTEMPTS + 2)]
    assert set(reasons) == {Reason.LOAD_FAILED}
    assert loads(bench) == LOAD_ATTEMPTS


def test_a_transient_failure_is_tried_again(bench_of):
    bench = bench_of()
    bench.machine.reboot()
    bench.machine.fail("insmod", "ENOMEM", times=1)
    assert keep_once(bench.context()).result is Result.FAILED
    assert keep_once(bench.context()).result is Result.OK
    assert bench.machine.loaded_version == "2.7.0"


def test_never_loads_while_a_dkms_signal_exists(bench_of):
    bench = bench_of()
    bench.machine.reboot()
    bench.machine.host.write("/usr/src/tenstorrent-2.6.0/dkms.conf", b'PACKAGE_NAME="tenstorrent"\n')
    keep_once(bench.context())
    assert bench.machine.loaded_version is None
    assert bench.register.labels[LABEL_INSTALL_MODE] == "host"


def test_a_damaged_file_is_not_loaded(bench_of):
    bench = bench_of()
    bench.machine.reboot()
    path = bench.machine.host.path(f"/var/cache/tt-kmd/{bench.machine.kernel}/2.7.0/tenstorrent.ko")
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert keep_once(bench.context()).reason == Reason.PREFLIGHT_FAILED
    assert loads(bench) == 0


def test_host_managed_node_is_left_alone(bench_of):
    bench = bench_of(live=None, staged=())
    bench.machine.install_dkms("2.7.0")
    before = bench.machine.commands()
    keep_once(bench.context())
    keep_once(bench.context())
    assert bench.machine.commands() == before
    assert bench.register.labels == {LABEL_INSTALL_MODE: "host", LABEL_KMD_VERSION: "2.7.0"}
    facts = read_facts(bench.machine.host)
    assert (facts.dkms_versions, facts.dkms_package, facts.mode) == (("2.7.0",), "ii 2.7.0", HostMode.HOST)
    assert is_ready(bench.machine.host)


def test_empty_machine(bench_of):
    bench = bench_of(live=None, staged=())
    keep_once(bench.context())
    assert bench.register.labels == {}
    assert bench.register.facts["mode"] == "absent"
    assert is_ready(bench.machine.host)


def test_adopts_what_upstream_left(bench_of):
    """Loaded from upstream's cache, which has no record of ours: source unknown."""
    bench = bench_of(live="2.7.0", staged=())
    for name in (
        f"/var/cache/tt-kmd/{bench.machine.kernel}/2.7.0/ttfleet.json",
        "/var/lib/ttfleet/active.json",
    ):
        bench.machine.host.remove(name)
    assert read_facts(bench.machine.host).mode is HostMode.ABSENT
    assert keep_once(bench.context()).changed
    facts = read_facts(bench.machine.host)
    assert (facts.mode, facts.active.version, facts.active.commit) == (HostMode.CONTAINER, "2.7.0", None)
    assert facts.staged == (facts.active,)
    assert not keep_once(bench.context()).changed
    bench.machine.reboot()
    keep_once(bench.context())
    assert bench.machine.loaded_version == "2.7.0"


def test_does_not_adopt_what_is_not_in_the_cache(bench_of):
    bench = bench_of(live="2.7.0", staged=())
    for path in bench.machine.host.path("/var/cache/tt-kmd").glob("*/2.7.0/*"):
        path.unlink()
    bench.machine.host.remove("/var/lib/ttfleet/active.json")
    keep_once(bench.context())
    assert read_active(bench.machine.host) is None


def test_another_module_than_the_active_one_is_reported_never_unloaded(bench_of):
    bench = bench_of(live="2.8.0", staged=("2.7.0",))
    from builder.modules import cached

    old = cached(bench.machine.host, bench.machine.kernel, "2.7.0").module
    write_active(bench.machine.host, Active(module=old))
    verdict = keep_once(bench.context())
    assert (verdict.result, verdict.reason) == (Result.FAILED, Reason.VERIFY_FAILED)
    assert bench.machine.loaded_version == "2.8.0"
    assert bench.register.labels[LABEL_KMD_VERSION] == "2.8.0"


# --- facts -------------------------------------------------------------------------------------------------------


def test_an_idle_node_writes_nothing(bench_of):
    """Facts do not change with refcount or holders."""
    bench = bench_of()
    keep_once(bench.context())
    version, text = bench.register.version, to_text(read_facts(bench.machine.host))
    for number in range(5):
        bench.machine.hold(f"pod-{number}", 1000 + number, "fd" if number % 2 else "hidden")
        bench.clock.seconds += 3600
        assert not keep_once(bench.context()).changed
    assert bench.register.version == version
    assert (
        to_text(read_facts(bench.machine.host)) == text == bench.register.annotations[ANNOTATION_HOST_FACTS]
    )


def test_what_somebody_else_overwrites_is_put_right(bench_of):
    bench = bench_of()
    keep_once(bench.context())
    bench.register.write(labels={LABEL_KMD_VERSION: "9.9.9", "other": "kept"})
    assert keep_once(bench.context()).changed
    assert bench.register.labels[LABEL_KMD_VERSION] == "2.7.0"
    assert bench.register.labels["other"] == "kept"


@pytest.mark.parametrize("code", [0, 409, 500, 403])
def test_an_api_that_fails_keeps_nobody_from_loading(bench_of, code):
    bench = bench_of()
    bench.machine.reboot()
    bench.register.faults = [ApiError(code, "no")] * 4
    assert keep_once(bench.context()).result is Result.OK
    assert bench.machine.loaded_version == "2.7.0"
    for _ in range(3):
        keep_once(bench.context())
    assert keep_once(bench.context()).result is Result.OK
    assert bench.register.labels[LABEL_KMD_VERSION] == "2.7.0"


def test_without_a_cluster(bench_of):
    import dataclasses

    bench = bench_of()
    bench.machine.reboot()
    context = dataclasses.replace(bench.context(), api=None)
    assert keep_once(context).changed
    assert not keep_once(context).changed


def test_while_another_verb_works_nothing_is_loaded(bench_of):
    import fcntl

    bench = bench_of()
    bench.machine.reboot()
    with bench.machine.host.path("/var/lib/ttfleet/lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        verdict = keep_once(bench.context())
        assert verdict.result is Result.OK
        assert bench.machine.loaded_version is None
    keep_once(bench.context())
    assert bench.machine.loaded_version == "2.7.0"


def test_the_marker_is_of_one_boot(bench_of):
    bench = bench_of()
    write_marker(bench.machine.host, "an earlier boot", Marker(live=True))
    bench.machine.host.run(["rmmod", "tenstorrent"], timeout_s=5)
    keep_once(bench.context())
    assert bench.machine.loaded_version == "2.7.0"


def test_facts_fit_into_the_annotation(bench_of):
    bench = bench_of()
    facts = read_facts(bench.machine.host)
    import dataclasses

    many = tuple(
        dataclasses.replace(facts.active, kernel=f"6.1.{number}", version=f"2.7.{number}")
        for number in range(80)
    )
    text = to_text(dataclasses.replace(facts, staged=(*many, facts.active)))
    assert len(text) <= 8192
    assert HostFacts.from_json(json.loads(text)).staged[-1] == facts.active


def test_labels_stay_while_a_transaction_is_open(bench_of):
    import dataclasses

    facts = read_facts(bench_of().machine.host)
    opened = dataclasses.replace(facts, mode=HostMode.TRANSITIONING, loaded=None)
    assert labels(opened) == {LABEL_KMD_VERSION: None}


@pytest.mark.parametrize(
    ("status", "shown"),
    [
        ("install ok installed", "ii 2.7.0"),
        ("hold ok not-installed", "hn 2.7.0"),
        ("purge ok installed", "pi 2.7.0"),
        ("purge ok half-configured", "pF 2.7.0"),
        ("deinstall ok config-files", "rc 2.7.0"),
    ],
)
def test_the_package_as_dpkg_shows_it(bench_of, status, shown):
    bench = bench_of()
    text = f"Package: tenstorrent\nStatus: install ok installed\n\nPackage: tenstorrent-dkms\nStatus: {status}\nPriority: optional\nVersion: 2.7.0\nDescription: driver\n .\n more\n\nPackage: zlib\n"
    bench.machine.host.write("/var/lib/dpkg/status", text.encode())
    assert read_facts(bench.machine.host).dkms_package == shown


def test_a_journal_that_is_not_ours_stops_everything(bench_of):
    bench = bench_of()
    bench.machine.reboot()
    bench.machine.host.write("/var/lib/ttfleet/journal.json", b"{}")
    with pytest.raises(KeyError):
        keep_once(bench.context())
    assert loaded(bench.machine.host) is None
