"""The last gate: whatever a verb does, it ends with one Verdict."""

import sys
import traceback
from collections.abc import Callable

from builder.context import Context, Stopped
from schema.transaction import Result
from schema.verdict import Verdict


def conclude(context: Context, verb: str, work: Callable[[Context], Verdict]) -> Verdict:
    """Run `work`. What we did not foresee counts as a change."""
    identity = context.settings.transaction_id or None
    try:
        return work(context)
    except Stopped as stopped:
        return Verdict(
            verb=verb,
            id=identity,
            result=stopped.result,
            changed=False,
            reason=str(stopped.reason),
            message=str(stopped),
            holders=stopped.holders,
        )
    except Exception as error:  # noqa: BLE001  the last gate: a verdict is owed in every case
        traceback.print_exc(file=sys.stderr)
        message = f"{type(error).__name__}: {error}"
        return Verdict(verb=verb, id=identity, result=Result.FAILED, changed=True, message=message)
