"""What can go wrong in a sandbox, as messages that a user can act on."""


class SandboxError(Exception):
    """The sandbox cannot do what it was asked; the message says what, where, and what to do next."""


class SandboxTimeoutError(SandboxError):
    """Something did not happen within its bound."""
