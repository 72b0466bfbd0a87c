"""One profile a distribution: where its tools differ, and where they lie (measured; the numbers are those of host facts)."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """A distribution.

    Attributes:
        kernel: release that its default kernel has.
        compiler: major of the gcc that built it.
        dkms: version of the dkms package.
        suffix: of the module files that dkms installs (9).
        all_kernels: the package builds for every kernel, not only the running one (9).
        honest: `dkms status` shows dangling versions, `dkms remove` of one fails (3, 4), a purge over missing sources
            fails instead of leaving files behind (7), `original_module` is restored (10).
    """

    name: str
    kernel: str
    compiler: int
    dkms: str
    suffix: str
    all_kernels: bool
    honest: bool


PROFILES: Final = {
    profile.name: profile
    for profile in (
        Profile(
            name="debian12",
            kernel="6.1.0-28-amd64",
            compiler=12,
            dkms="3.0.10",
            suffix=".ko",
            all_kernels=False,
            honest=False,
        ),
        Profile(
            name="debian13",
            kernel="6.12.0-1-amd64",
            compiler=14,
            dkms="3.2.2",
            suffix=".ko.xz",
            all_kernels=True,
            honest=True,
        ),
        Profile(
            name="ubuntu2204",
            kernel="5.15.0-130-generic",
            compiler=11,
            dkms="2.8.7",
            suffix=".ko",
            all_kernels=False,
            honest=False,
        ),
        Profile(
            name="ubuntu2404",
            kernel="6.8.0-51-generic",
            compiler=13,
            dkms="3.0.11",
            suffix=".ko",
            all_kernels=False,
            honest=False,
        ),
    )
}
