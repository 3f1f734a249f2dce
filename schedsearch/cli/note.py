"""What the dashboard says of a study, brought up to date by the commands that change it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from schedsearch.cli.app import say

if TYPE_CHECKING:
    from schedsearch.storage import StudyHandle


def refresh_note(handle: StudyHandle) -> None:
    """Write a study's note and plots anew; what goes wrong with them stops no command."""
    from schedsearch.report.dashboard_artifacts import DashboardArtifacts
    from schedsearch.task.user_code import one_line

    try:
        DashboardArtifacts(handle).refresh(handle.trials())
    except Exception as error:
        say(f"the dashboard's note is not current: {one_line(error)}")
