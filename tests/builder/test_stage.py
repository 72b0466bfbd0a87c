"""stage: from a real git repository through the fake compiler into the cache, and every reason why not."""

import fcntl
import json
import subprocess

import pytest

from builder.active import read_active
from builder.context import Stopped
from builder.facts import read_facts
from builder.modules import BACKUP_DIRECTORY, all_cached, cached
from builder.stage import next_kernels, stage
from builder.swap import swap
from schema.states import Reason
from schema.transaction import Result


@pytest.fixture
def bench(bench_of, repository):
    bench = bench_of(staged=())
    bench.repository = str(repository)
    return bench


def why(bench, reason, version="2.8.0", **settings):
    before = all_cached(bench.machine.host)
    with pytest.raises(Stopped) as stopped:
        stage(bench.context(version, **settings))
    assert stopped.value.reason is reason, str(stopped.value)
    assert stopped.value.result is Result.FAILED
    assert all_cached(bench.machine.host) == before
    return str(stopped.value)


def test_builds_verifies_and_reports(bench, commits):
    verdict = stage(bench.context())
    assert (verdict.result, verdict.changed, verdict.version) == (Result.OK, True, "2.8.0")
    image = cached(bench.machine.host, bench.machine.kernel, "2.8.0")
    assert image.module.commit == commits["2.8.0"]
    assert image.module.build_id == read_facts(bench.machine.host).build_id
    assert bench.machine.loaded_version == "2.7.0"
    assert [entry["version"] for entry in bench.register.facts["staged"]] == ["2.7.0", "2.8.0"]


def test_is_idempotent_and_compiles_once(bench):
    stage(bench.context())
    builds = [line for line in bench.machine.commands() if line.startswith("make")]
    patches = bench.register.patches
    verdict = stage(bench.context())
    assert not verdict.changed
    assert [line for line in bench.machine.commands() if line.startswith("make")] == builds
    assert bench.register.patches == patches


def test_a_hit_needs_neither_headers_nor_the_repository(bench):
    stage(bench.context())
    bench.machine.host.remove(f"/lib/modules/{bench.machine.kernel}/build")
    assert not stage(bench.context(repository="/nowhere")).changed


def test_saves_the_way_back(bench):
    loaded = read_facts(bench.machine.host).loaded
    stage(bench.context())
    names = bench.machine.host.names(f"{BACKUP_DIRECTORY}/{bench.machine.kernel}")
    assert names == (f"{loaded.srcversion}.ko", f"{loaded.srcversion}.ko.json")


def test_stage_then_swap(bench):
    stage(bench.context())
    bench.permit()
    assert swap(bench.context()).result is Result.OK
    assert read_active(bench.machine.host).module.version == "2.8.0"


def test_staging_again_gives_the_same_source(bench, commits):
    """What install_container lays down, and what stage builds from the same commit, are one source."""
    before = cached(bench.machine.host, bench.machine.kernel, "2.7.0").module
    assert not stage(bench.context("2.7.0")).changed
    bench.machine.host.remove(f"/var/cache/tt-kmd/{bench.machine.kernel}/2.7.0/ttfleet.json")
    assert stage(bench.context("2.7.0")).changed
    assert cached(bench.machine.host, bench.machine.kernel, "2.7.0").module.srcversion == before.srcversion


@pytest.mark.parametrize("owner", ["nobody", "dkms"])
def test_the_source_that_is_live_already_is_adopted(bench, commits, owner):
    """Loaded by hand or by an upstream whose cache has gone: the same source, so nothing is left to swap."""
    host = bench.machine.host
    module = cached(host, bench.machine.kernel, "2.7.0")
    host.write(f"/lib/modules/{bench.machine.kernel}/extra/tenstorrent.ko", host.data(module.path))
    for name in host.names(f"/var/cache/tt-kmd/{bench.machine.kernel}/2.7.0"):
        host.remove(f"/var/cache/tt-kmd/{bench.machine.kernel}/2.7.0/{name}")
    host.remove("/var/lib/ttfleet/active.json")
    if owner == "dkms":
        host.write("/var/lib/dkms/tenstorrent/2.7.0/source/dkms.conf", b"")
    stage(bench.context("2.8.0"))
    assert read_active(host) is None
    assert stage(bench.context("2.7.0")).changed
    active = read_active(host)
    assert active is None if owner == "dkms" else active.module.commit == commits["2.7.0"]
    assert not any(line.startswith("rmmod") for line in bench.machine.commands())
    if active:
        assert bench.register.facts["mode"] == "container"


def test_another_commit_of_the_same_version_is_built_anew(bench, commits):
    path = f"/var/cache/tt-kmd/{bench.machine.kernel}/2.7.0/ttfleet.json"
    record = json.loads(bench.machine.host.text(path))
    bench.machine.host.write(path, json.dumps(record | {"commit": "0" * 40}).encode())
    assert stage(bench.context("2.7.0")).changed
    assert cached(bench.machine.host, bench.machine.kernel, "2.7.0").module.commit == commits["2.7.0"]


def test_a_kernel_that_was_rebuilt_locally_is_built_for_anew(bench):
    stage(bench.context())
    notes = bench.machine.root / "sys/kernel/notes"
    notes.write_bytes(notes.read_bytes()[:-4] + b"abcd")
    assert stage(bench.context()).changed
    assert cached(bench.machine.host, bench.machine.kernel, "2.8.0").module.build_id.endswith("61626364")


def test_a_damaged_file_is_built_anew(bench):
    stage(bench.context())
    path = bench.machine.host.path(f"/var/cache/tt-kmd/{bench.machine.kernel}/2.8.0/tenstorrent.ko")
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert stage(bench.context()).changed


# --- the next kernel ---------------------------------------------------------------------------------------


def test_stages_for_the_newest_kernel_too_and_keep_loads_it_there(bench):
    from builder.keep import keep_once

    bench.machine.add_kernel("6.12.10-1-amd64")
    bench.machine.add_kernel("6.12.9-1-amd64")
    assert next_kernels(bench.machine.host) == ("6.12.10-1-amd64",)
    stage(bench.context())
    assert cached(bench.machine.host, "6.12.10-1-amd64", "2.8.0").module.build_id == ""
    bench.permit()
    swap(bench.context())
    bench.machine.reboot("6.12.10-1-amd64")
    assert keep_once(bench.context()).changed
    assert bench.machine.loaded_version == "2.8.0"
    facts = read_facts(bench.machine.host)
    assert facts.active.kernel == facts.kernel
    assert facts.active.build_id == facts.build_id


def test_a_next_kernel_without_headers_is_only_logged(bench):
    bench.machine.add_kernel("6.13.0-1-amd64")
    bench.machine.host.remove("/lib/modules/6.13.0-1-amd64/build")
    assert stage(bench.context()).result is Result.OK
    assert any("6.13.0-1-amd64" in line and "HeadersMissing" in line for line in bench.log)


def test_booted_into_a_kernel_that_nothing_is_staged_for(bench):
    from builder.keep import keep_once

    bench.machine.add_kernel("6.13.0-1-amd64")
    bench.machine.reboot("6.13.0-1-amd64")
    verdict = keep_once(bench.context())
    assert (verdict.result, verdict.reason) == (Result.FAILED, Reason.PREFLIGHT_FAILED)
    assert bench.machine.loaded_version is None
    assert stage(bench.context("2.7.0")).changed
    assert keep_once(bench.context()).changed
    assert bench.machine.loaded_version == "2.7.0"


# --- why not --------------------------------------------------------------------------------------------------


def test_the_tag_is_another_commit(bench, commits):
    message = why(bench, Reason.SOURCE_MISMATCH, commit="0" * 40)
    assert commits["2.8.0"] in message


def test_a_moved_tag_is_refused(bench, commits, repository, tmp_path):
    copy = tmp_path / "moved"
    subprocess.run(["git", "clone", "-q", str(repository), str(copy)], check=True)
    subprocess.run(
        ["git", "-C", str(copy), "tag", "-f", "ttkmd-2.8.0", "ttkmd-2.7.0"], check=True, capture_output=True
    )
    why(bench, Reason.SOURCE_MISMATCH, repository=str(copy))


def test_a_source_that_calls_itself_otherwise(bench, commits, repository, tmp_path):
    copy = tmp_path / "renamed"
    subprocess.run(["git", "clone", "-q", str(repository), str(copy)], check=True)
    subprocess.run(["git", "-C", str(copy), "tag", "ttkmd-2.9.0", "ttkmd-2.8.0"], check=True)
    why(bench, Reason.SOURCE_MISMATCH, "2.9.0", repository=str(copy), commit=commits["2.8.0"])


def test_no_pin(bench):
    why(bench, Reason.UNKNOWN_RELEASE, commit="")


def test_no_such_version(bench):
    why(bench, Reason.SOURCE_UNAVAILABLE, "9.9.9", commit="0" * 40)


def test_no_repository(bench):
    why(bench, Reason.SOURCE_UNAVAILABLE, repository="/nowhere/at/all")


def test_an_option_is_no_repository(bench):
    why(bench, Reason.SOURCE_UNAVAILABLE, repository="--upload-pack=touch /nowhere")


@pytest.mark.parametrize("version", ["", "2.10", "../../etc", "2.8.0\n"])
def test_no_version(bench, version):
    why(bench, Reason.PREFLIGHT_FAILED, version, commit="0" * 40)


def test_no_headers(bench):
    bench.machine.host.remove(f"/lib/modules/{bench.machine.kernel}/build")
    why(bench, Reason.HEADERS_MISSING)


def test_does_not_compile(bench):
    bench.machine.fail("make", "linux/gone.h: No such file or directory", version="2.8.0")
    assert "linux/gone.h" in why(bench, Reason.BUILD_FAILED)


def test_a_compiler_that_is_new_enough_is_chosen(bench):
    stage(bench.context())
    assert any("CC=gcc-14" in line for line in bench.machine.commands())


def test_a_kernel_of_a_newer_compiler_than_ours(bench):
    configuration = next(bench.machine.root.glob("usr/src/*/include/config/auto.conf"))
    configuration.write_text("CONFIG_GCC_VERSION=150100\n")
    why(bench, Reason.BUILD_FAILED)


def test_a_kernel_of_clang(bench):
    next(bench.machine.root.glob("usr/src/*/include/config/auto.conf")).write_text("CONFIG_CC_IS_CLANG=y\n")
    why(bench, Reason.BUILD_FAILED)


def test_an_older_gcc_is_bridged_by_the_next_newer_one(bench_of, repository):
    bench = bench_of(staged=(), profile="ubuntu2204")
    bench.repository = str(repository)
    assert stage(bench.context()).changed
    assert any("CC=gcc-12" in line for line in bench.machine.commands())


@pytest.mark.parametrize(
    ("path", "text", "reason"),
    [
        ("proc/sys/kernel/modules_disabled", "1", Reason.MODULES_DISABLED),
        ("proc/cmdline", "module_blacklist=tenstorrent", Reason.MODULE_BLACKLISTED),
        ("sys/module/module/parameters/sig_enforce", "Y", Reason.SIGNATURE_REQUIRED),
    ],
)
def test_a_kernel_that_would_not_load_it(bench, path, text, reason):
    (bench.machine.root / path).write_text(text)
    why(bench, reason)


def test_no_space(bench, monkeypatch):
    monkeypatch.setattr("builder.stage.SPACE_BYTES", 1 << 62)
    why(bench, Reason.NO_SPACE)


def test_no_way_back(bench):
    for path in bench.machine.host.path("/var/cache/tt-kmd").glob("*/2.7.0/*"):
        path.unlink()
    with pytest.raises(Stopped) as stopped:
        stage(bench.context())
    assert stopped.value.reason is Reason.NO_FALLBACK


def test_the_lock_is_taken(bench):
    with bench.machine.host.path("/var/lib/ttfleet/lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        why(bench, Reason.HOST_BUSY)


def test_killed_anywhere_the_next_stage_finishes(bench_of, repository, killed):
    whole = bench_of(staged=())
    whole.repository = str(repository)
    context = whole.context()
    stage(context)
    for at in range(1, context.host.bomb.count + 1, 2):
        bench = bench_of(staged=())
        bench.repository = str(repository)
        with pytest.raises(killed):
            stage(bench.context(at=at))
        assert bench.machine.loaded_version == "2.7.0"
        assert stage(bench.context()).result is Result.OK
        assert cached(bench.machine.host, bench.machine.kernel, "2.8.0") is not None
