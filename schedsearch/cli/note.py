"""What the dashboard says of a study, brought up to date by the commands that change it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from schedsearch.cli.app import say

if TYPE_CHECKING:
    from schedsearch.storage import StudyHandle


def refresh_note(handle: StudyHandle) -> None:
    """Write a study's note and plots anew; what goes wrong with them stops no command."""
    from schedsearch.errors import summarize_exception
    from schedsearch.report.dashboard_artifacts import DashboardArtifacts

    try:
        DashboardArtifacts(handle).refresh(handle.trials())
    except Exception as error:
        say(f"the dashboard's note is not current: {summarize_exception(error)}")
