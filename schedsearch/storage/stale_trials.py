"""Who gives no sign of life: seen from here, without trusting any clock but one's own."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Hashable, Mapping


class StaleTrialDetector:
    """For how long trials gave no sign of life, as far as this process looked.

    A sign of life counts from when it was first seen here, by the clock of this process, so it does
    not matter what other clocks say. And only watching counts: whoever has not looked for half of
    the grace, because the database was away, or this process or the whole machine was suspended,
    knows nothing of that time, when the others may have been unable to speak. He begins anew.

    Args:
        clock: tells the seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._looked = -math.inf
        self._since: dict[tuple[int, Hashable], float] = {}

    def look(self, signs: Mapping[int, Hashable], grace: float) -> frozenset[int]:
        """Return which trials have been silent for the grace, in seconds.

        Args:
            signs: the last sign of life of each running trial, as it has just been read.
            grace: how long a silence tells that nobody is there.

        >>> seconds = iter([0, 50, 100, 150, 300])
        >>> silence = StaleTrialDetector(lambda: next(seconds))
        >>> [sorted(silence.look({7: sign, 8: "x"}, 120)) for sign in "abcde"]
        [[], [], [], [8], []]
        """
        with self._lock:
            now = self._clock()
            if now - self._looked > grace / 2:
                self._since.clear()
            self._looked = now
            self._since = {sign: self._since.get(sign, now) for sign in signs.items()}
            return frozenset(
                trial_id for (trial_id, _), since in self._since.items() if now - since >= grace
            )
