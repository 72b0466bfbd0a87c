"""The fake hosts behave as the real ones were measured to; the numbers are those of the measured host facts."""

import re
import subprocess

import pytest

from builder.elf import NotAModule, read_module
from builder.facts import read_facts
from builder.holders import find_holders
from builder.host import Host
from builder.mounts import link_headers
from reconciler.sandbox.hosts import FakeHost, create_source_repository
from reconciler.sandbox.hosts.call import ToolError
from reconciler.sandbox.hosts.koformat import build_module
from reconciler.sandbox.hosts.packages import refuse_if_held
from schema.facts import HostMode

LIARS = ("debian12", "ubuntu2204", "ubuntu2404")
ALL = (*LIARS, "debian13")


@pytest.fixture
def machine_of(tmp_path):
    def make(profile="debian13", **more):
        return FakeHost.create(tmp_path / f"{profile}", profile=profile, **more)

    return make


def run(machine, *argv):
    """Through the wrappers in bin, as the builder does."""
    return machine.host.run(argv, timeout_s=20)


def dkms_files(machine):
    return sorted(path.name for path in machine.root.glob("lib/modules/*/updates/dkms/tenstorrent.ko*"))


# --- the kernel ---------------------------------------------------------------------------------------------


def test_refcount_holds_the_module(machine_of):
    machine = machine_of()
    machine.install_container("2.7.0", None)
    assert machine.hold("pod", 4711)
    assert machine.hold("other", 4712, "map")
    done = run(machine, "rmmod", "tenstorrent")
    assert (done.code, "is in use" in done.err) == (1, True)
    assert [pid for pid, _ in find_holders(machine.host)] == [4711, 4712]
    machine.release("pod")
    assert (machine.root / "sys/module/tenstorrent/refcnt").read_text() == "1\n"
    machine.release("other")
    machine.release("nobody")
    assert run(machine, "rmmod", "tenstorrent").ok
    assert machine.loaded_version is None
    assert not (machine.root / "dev/tenstorrent").exists()
    assert not machine.hold("pod", 4711)


def test_load_errors(machine_of):
    """26, 18."""
    machine = machine_of()
    image = machine.install_container("2.7.0", None, live=False)
    path = machine.host.path(image.path)
    short, other = machine.root / "short.ko", machine.root / "other.ko"
    short.write_bytes(path.read_bytes()[:100])
    other.write_bytes(build_module(version="2.7.0", kernel="5.4.0", source="F" * 23))
    assert "Invalid module format" in run(machine, "insmod", str(short)).err
    assert "Invalid argument" in run(machine, "insmod", str(other)).err
    assert "No such file" in run(machine, "insmod", "/nowhere.ko").err
    assert run(machine, "insmod", str(path), "reset_limit=3", "unknown=1").ok
    assert (machine.root / "sys/module/tenstorrent/parameters/reset_limit").read_text() == "3\n"
    assert "File exists" in run(machine, "insmod", str(path)).err
    (machine.root / "proc/sys/kernel/modules_disabled").write_text("1\n")
    assert "not permitted" in run(machine, "rmmod", "tenstorrent").err


def test_cards_on_vfio_are_left_alone(machine_of):
    """33."""
    machine = machine_of(cards=3)
    driver = machine.root / "sys/bus/pci/devices/0000:02:00.0/driver"
    driver.symlink_to("../../drivers/vfio-pci")
    machine.install_container("2.7.0", None)
    bound = sorted(path.name for path in (machine.root / "sys/bus/pci/drivers/tenstorrent").iterdir())
    assert bound == ["0000:01:00.0", "0000:03:00.0"]
    run(machine, "rmmod", "tenstorrent")
    assert driver.is_symlink()


def test_udev_loads_at_boot_what_depmod_has_indexed(machine_of):
    """16, 17: deleting the file and depmod is what works."""
    machine = machine_of()
    machine.install_dkms("2.7.0")
    machine.reboot()
    assert machine.loaded_version == "2.7.0"
    for path in machine.root.glob("lib/modules/*/updates/dkms/*"):
        path.unlink()
    run(machine, "depmod", "-a")
    machine.reboot()
    assert machine.loaded_version is None


def test_a_reboot_is_a_new_boot(machine_of):
    machine = machine_of()
    machine.install_container("2.7.0", None)
    machine.hold("pod", 99)
    before, facts = machine.boot_id, read_facts(machine.host)
    machine.reboot()
    assert machine.boot_id != before
    assert machine.loaded_version is None
    assert machine.host.names("/run") == ()
    assert machine.host.names("/proc") == ("cmdline", "sys")
    assert read_facts(machine.host).build_id == facts.build_id
    assert read_facts(machine.host).mode is HostMode.CONTAINER


def test_modprobe(machine_of):
    """25: -r fails outside the index; with ours loaded a plain one returns 0 and changes nothing."""
    machine = machine_of()
    machine.install_container("2.8.0", None)
    assert not run(machine, "modprobe", "-r", "tenstorrent").ok
    assert not run(machine, "modprobe", "-n", "-q", "tenstorrent").ok
    machine.install_dkms("2.7.0")
    assert run(machine, "modprobe", "tenstorrent").ok
    assert run(machine, "modprobe", "-S", machine.kernel, "-n", "-q", "tenstorrent").ok
    assert machine.loaded_version == "2.8.0"


# --- dkms and dpkg --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("profile", ALL)
def test_remove_without_a_version_removes_nothing(machine_of, profile):
    """1."""
    machine = machine_of(profile)
    machine.install_dkms("2.7.0")
    assert run(machine, "dkms", "remove", "tenstorrent", "--all").code == 1
    assert read_facts(machine.host).dkms_versions == ("2.7.0",)
    assert len(dkms_files(machine)) == 1


@pytest.mark.parametrize("profile", ALL)
def test_an_upgrade_leaves_the_old_version_dangling(machine_of, profile):
    """2, 3, 4."""
    machine = machine_of(profile)
    machine.install_dkms("2.7.0")
    machine.install_dkms("2.8.0")
    assert machine.loaded_version == "2.7.0"  # nothing reloads it: memory and disk differ
    assert read_facts(machine.host).dkms_versions == ("2.7.0", "2.8.0")
    status, removal = (
        run(machine, "dkms", "status"),
        run(machine, "dkms", "remove", "tenstorrent/2.7.0", "--all"),
    )
    assert status.ok
    if profile in LIARS:
        assert (status.out, removal.code) == ("", 0)
    else:
        assert ("tenstorrent/2.7.0: broken" in status.out, removal.code) == (True, 4)
    assert read_facts(machine.host).dkms_versions == ("2.7.0", "2.8.0")


def test_from_2_9_0_an_upgrade_cleans_up(machine_of):
    machine = machine_of()
    machine.install_dkms("2.9.0")
    machine.install_dkms("2.10.0")
    assert read_facts(machine.host).dkms_versions == ("2.10.0",)


@pytest.mark.parametrize("profile", ALL)
def test_purge_after_the_seeds_procedure_fails_and_loads(machine_of, profile):
    """5: state `pi`, and postinst runs again."""
    machine = machine_of(profile)
    machine.install_dkms("2.7.0")
    for path in ("var/lib/dkms/tenstorrent",):
        subprocess.run(["rm", "-rf", str(machine.root / path)], check=True)
    for path in machine.root.glob("lib/modules/*/updates/dkms/*"):
        path.unlink()
    run(machine, "depmod", "-a")
    run(machine, "rmmod", "tenstorrent")
    done = run(machine, "dpkg", "--purge", "tenstorrent-dkms")
    assert (done.code, "exit status 3" in done.err) == (1, True)
    assert read_facts(machine.host).dkms_package == "pi 2.7.0"
    assert machine.loaded_version == "2.7.0"


@pytest.mark.parametrize("profile", ALL)
def test_purge_without_the_sources(machine_of, profile):
    """7."""
    machine = machine_of(profile)
    machine.install_dkms("2.7.0")
    subprocess.run(["rm", "-rf", str(machine.root / "usr/src/tenstorrent-2.7.0")], check=True)
    done = run(machine, "dpkg", "--purge", "tenstorrent-dkms")
    assert done.code == (0 if profile in LIARS else 1)
    assert read_facts(machine.host).dkms_versions == ("2.7.0",)
    assert dkms_files(machine)


@pytest.mark.parametrize("profile", ALL)
def test_purge_first_is_clean(machine_of, profile):
    """8, 15: the rule is left over, the module goes on serving."""
    machine = machine_of(profile)
    machine.install_dkms("2.7.0")
    assert run(machine, "dpkg", "--purge", "tenstorrent-dkms").ok
    facts = read_facts(machine.host)
    assert (facts.dkms_versions, facts.dkms_package, facts.mode) == ((), "pn", HostMode.ABSENT)
    assert dkms_files(machine) == []
    assert machine.loaded_version == "2.7.0"
    assert machine.host.exists("/etc/udev/rules.d/50-tenstorrent.rules")
    assert machine.host.exists("/var/lib/dkms/mok.key") == (profile == "debian13")


@pytest.mark.parametrize(
    ("profile", "name", "kernels"), [("debian12", "tenstorrent.ko", 1), ("debian13", "tenstorrent.ko.xz", 2)]
)
def test_where_the_package_puts_the_module(machine_of, profile, name, kernels):
    """9."""
    machine = machine_of(profile)
    machine.add_kernel("6.99.0-1-amd64")
    machine.install_dkms("2.7.0")
    assert dkms_files(machine) == [name] * kernels


@pytest.mark.parametrize("profile", ALL)
def test_an_original_module_comes_back(machine_of, profile):
    """10, 11: and the sources stay."""
    machine = machine_of(profile)
    extra = f"/lib/modules/{machine.kernel}/extra/tenstorrent.ko"
    machine.host.write(extra, build_module(version="2.6.0", kernel=machine.kernel, source="E" * 23))
    machine.install_dkms("2.7.0")
    assert machine.host.exists(extra) == (profile != "debian13")
    run(machine, "dkms", "remove", "tenstorrent/2.7.0", "--all")
    assert machine.host.exists(extra)
    assert read_facts(machine.host).mode is HostMode.HOST


def test_a_hold_after_the_purge(machine_of):
    """13: apt refuses, dpkg -i does not."""
    machine = machine_of()
    machine.install_dkms("2.7.0")
    run(machine, "dpkg", "--purge", "tenstorrent-dkms")
    run(machine, "apt-mark", "hold", "tenstorrent-dkms")
    assert read_facts(machine.host).dkms_package == "hn"
    with pytest.raises(ToolError) as refused:
        refuse_if_held(machine.root)
    assert refused.value.code == 100
    assert run(machine, "dpkg", "-i", "/root/tenstorrent-dkms_2.8.0_all.deb").ok
    assert read_facts(machine.host).dkms_package == "ii 2.8.0"


def test_a_purge_that_is_killed_and_one_that_finds_the_lock_taken(machine_of):
    """14."""
    machine = machine_of()
    machine.install_dkms("2.7.0")
    machine.fail("dpkg-lock", "held", times=1)
    assert run(machine, "dpkg", "--purge", "tenstorrent-dkms").code == 2
    machine.fail("dpkg-killed", "SIGKILL", times=1)
    run(machine, "dpkg", "--purge", "tenstorrent-dkms")
    assert read_facts(machine.host).dkms_package == "pF 2.7.0"
    assert "updates/dkms" in (machine.root / f"lib/modules/{machine.kernel}/modules.dep").read_text()
    assert run(machine, "dpkg", "--purge", "tenstorrent-dkms").ok


def test_flip_back(machine_of):
    """12: an upgrade after the seed's procedure brings DKMS back."""
    machine = machine_of()
    machine.install_container("2.8.0", None)
    machine.install_dkms("2.9.0")
    facts = read_facts(machine.host)
    assert (facts.mode, facts.loaded.version, facts.active.version) == (HostMode.HOST, "2.8.0", "2.8.0")


# --- tools and faults ---------------------------------------------------------------------------------------------


def test_faults_by_version_and_count(machine_of):
    machine = machine_of()
    image = machine.install_container("2.7.0", None, live=False)
    path = str(machine.host.path(image.path))
    machine.fail("insmod", "ENOMEM", version="2.8.0")
    machine.fail("insmod", "EIO", version="2.7.0", times=1)
    assert not run(machine, "insmod", path).ok
    assert run(machine, "insmod", path).ok
    machine.fail("depmod", "disk full")
    assert run(machine, "depmod").code == 1
    machine.fail("depmod", None)
    assert run(machine, "depmod").ok


def test_only_its_own_tools_are_ever_run(machine_of):
    """A fake host must never reach the machine that it stands on."""
    machine = machine_of()
    assert run(machine, "mount").code == 127
    assert run(machine, "uname", "-r").out.strip() == machine.kernel


def test_a_command_that_does_not_end_is_killed(machine_of):
    machine = machine_of()
    (machine.bin / "slow").write_text("#!/bin/sh\nsleep 60 & wait\n")
    (machine.bin / "slow").chmod(0o755)
    done = machine.host.run(["slow"], timeout_s=0.3)
    assert (done.code, "no end after" in done.err) == (124, True)


def test_real_elf_files_that_are_no_modules():
    import sys
    from pathlib import Path

    for image in (b"", b"\x7fELF", b"MZ" * 100, Path(sys.executable).resolve().read_bytes()):
        with pytest.raises(NotAModule):
            read_module(image)
    whole = build_module(version="2.7.0", kernel="6.1.0", source="A" * 23)
    assert read_module(whole).version == "2.7.0"
    for length in range(0, len(whole), 7):
        with pytest.raises(NotAModule):
            read_module(whole[:length])


def test_links_are_followed_inside_the_host(machine_of):
    machine = machine_of()
    (machine.root / "vmlinuz").symlink_to("boot/vmlinuz-6.1")
    (machine.root / "abs").symlink_to("/usr/src")
    (machine.root / "loop").symlink_to("loop")
    (machine.root / "up").symlink_to("../../../../etc")
    assert machine.host.resolve("/vmlinuz") == "/boot/vmlinuz-6.1"
    assert machine.host.resolve("/abs/x") == "/usr/src/x"
    assert machine.host.resolve("/up/passwd") == "/etc/passwd"
    assert machine.host.resolve("/loop") == "/loop"
    assert re.fullmatch(
        r"/usr/src/linux-headers-.*", machine.host.resolve(f"/lib/modules/{machine.kernel}/build")
    )


def test_headers_of_the_host_are_linked_into_the_pod(machine_of, tmp_path):
    machine, pod = machine_of(), tmp_path / "pod"
    (pod / "usr/src/ours").mkdir(parents=True)
    machine.host.write("/usr/lib/linux-kbuild-6.12/scripts/Makefile.build", b"")
    machine.host.write("/usr/src/ours/theirs", b"")
    link_headers(machine.host, pod)  # a fake host: nothing
    assert not (pod / "usr/lib").exists()
    for _ in range(2):
        link_headers(Host(machine.root), pod)
    headers = pod / f"usr/src/linux-headers-{machine.kernel}"
    assert headers.readlink() == machine.root / f"usr/src/linux-headers-{machine.kernel}"
    assert (pod / "usr/lib/linux-kbuild-6.12/scripts/Makefile.build").exists()
    assert (pod / "lib/modules" / machine.kernel / "modules.dep").exists()
    assert not (pod / "usr/src/ours/theirs").exists()


def test_the_source_repository_is_the_same_everywhere(tmp_path, commits):
    """fleet/ pins these ids: whoever edits the stub driver changes them there and here."""
    assert create_source_repository(tmp_path / "source") == commits
