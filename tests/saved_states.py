"""What both kinds of schedulers do with a state that is none."""

from __future__ import annotations

from typing import Any

import pytest

from schedsearch.errors import InputError


def check_refused(scheduler: Any, changes: Any, message: str) -> None:
    """Check that a state is refused with a message, and that nothing changes.

    Args:
        scheduler: of this package, or of torch.
        changes: to entries of its state; what is no dict, or no state, is given as it is.
        message: a part of the error.
    """
    own = scheduler.state_dict()
    is_state = isinstance(changes, dict) and "the state has no" not in message
    with pytest.raises(InputError) as refused:
        scheduler.load_state_dict({**own, **changes} if is_state else changes)
    assert message in str(refused.value)
    assert scheduler.state_dict() == own
