"""One invocation of a fake tool, and how it fails."""

from dataclasses import dataclass
from pathlib import Path

from reconciler.sandbox.hosts.kernel import Kernel


class ToolError(Exception):
    """A tool ends with a message on stderr and an exit code."""

    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One invocation. `root` is the fake host's, `here` the working directory."""

    root: Path
    name: str
    arguments: tuple[str, ...]
    here: Path

    @property
    def kernel(self) -> Kernel:
        return Kernel(self.root)

    def operands(self) -> tuple[str, ...]:
        return tuple(argument for argument in self.arguments if not argument.startswith("-"))

    def option(self, name: str) -> str | None:
        """Value of `-k V`."""
        if name not in self.arguments[:-1]:
            return None
        return self.arguments[self.arguments.index(name) + 1]
