"""The progress of fresh runs."""

from __future__ import annotations

from schedsearch.confirmation.fresh_runs import FreshRuns
from schedsearch.report.progress import Progress


def draw_fresh_runs(display: Progress, fresh: FreshRuns) -> None:
    """Show how many runs are recorded, and keep the call alive."""
    fresh.call.renew()
    total = len(fresh.runs)
    recorded, trained = fresh.progress()
    share = f"{100 * trained / total:.0f} % of all epochs trained"
    display.count(recorded, total, share, worked=trained)
