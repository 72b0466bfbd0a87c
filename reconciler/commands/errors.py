"""Exit codes, and the one exception that carries them to `main`."""

from typing import Final

EXIT_OK: Final = 0
EXIT_FINDINGS: Final = 1  # validate, diff; plan only with --exit-code
EXIT_USAGE: Final = 2  # wrong usage, or it could not run
EXIT_GUARD: Final = 3  # a guard refused
EXIT_TRUST: Final = 4  # trust failure, also a Cluster.uid mismatch
EXIT_TIMEOUT: Final = 5
EXIT_PARTIAL: Final = 6  # partial apply
EXIT_INTERRUPTED: Final = 130


class Failure(Exception):  # noqa: N818  it is what the user reads, not a fault of ours
    """Ends a verb with a message (what, where, what to do next) and an exit code."""

    def __init__(self, message: str, exit_code: int = EXIT_USAGE) -> None:
        super().__init__(message)
        self.exit_code = exit_code
