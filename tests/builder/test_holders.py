"""Holders in every way in which the kernel lets them be seen."""

import pytest

from builder.holders import find_holders
from reconciler.sandbox.hosts import FakeHost


@pytest.fixture
def machine(tmp_path):
    machine = FakeHost.create(tmp_path / "host")
    machine.install_container("2.7.0", None)
    machine.host.write("/proc/1/comm", b"init\n")
    return machine


def seen(machine):
    return dict(find_holders(machine.host))


def test_nobody(machine):
    assert seen(machine) == {}


def test_a_descriptor_under_another_name(machine):
    """By device number, not by name: a link or a second node to the same device."""
    machine.hold("train", 500)
    link = machine.root / "proc/500/fd/3"
    link.unlink()
    alias = machine.root / "dev/by-another-name"
    alias.hardlink_to(machine.root / "dev/tenstorrent/0")
    link.symlink_to(alias)
    assert seen(machine) == {500: "pid 500 (train) /dev/tenstorrent/0"}


def test_a_mapping_whose_descriptor_is_closed(machine):
    machine.hold("train", 500, "map")
    assert seen(machine) == {500: "pid 500 (train) /dev/tenstorrent/0 (mapped)"}


def test_an_exported_buffer_and_a_registered_file(machine):
    machine.host.write("/proc/600/comm", b"exporter\n")
    machine.host.write("/proc/600/fdinfo/7", b"pos:\t0\nsize:\t4096\ncount:\t2\nexp_name:\ttenstorrent\n")
    machine.host.write("/proc/700/comm", b"ring\n")
    machine.host.write(
        "/proc/700/fdinfo/5", b"pos:\t0\nUserFiles:\t2\n    0: 0\n    1: notes.txt\nUserBufs:\t0\n"
    )
    machine.host.write(
        "/proc/800/fdinfo/5", b"pos:\t0\nUserFiles:\t1\n    0: notes.txt\nUserBufs:\t1\n  0: 0\n"
    )
    assert seen(machine) == {600: "pid 600 (exporter) dma-buf", 700: "pid 700 (ring) io_uring"}


def test_whom_only_the_driver_knows(machine):
    machine.host.write("/proc/driver/tenstorrent/0/pids", b"1\n")
    assert seen(machine) == {1: "pid 1 (init) /proc/driver/tenstorrent"}


def test_a_descriptor_in_flight_is_seen_by_nobody(machine):
    machine.hold("train", 500, "hidden")
    assert seen(machine) == {}
