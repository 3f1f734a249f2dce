"""What docs/integrations.md says about the settings of the frameworks."""

from __future__ import annotations

import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "integrations.md"


def section(heading: str) -> str:
    """Return the text below a heading, up to the next one of its level or a higher one."""
    text = PAGE.read_text("utf-8").split(f"\n{heading}\n")[1]
    level = len(heading.split()[0])
    return re.split(rf"\n#{{1,{level}}} ", text)[0]


def rows(header: str) -> set[str]:
    """Return the names in the first column of the table with this header there."""
    [table] = [
        part for part in PAGE.read_text("utf-8").split("\n\n") if part.startswith(f"| {header} |")
    ]
    first_column = "\n".join(line.split("|")[1] for line in table.splitlines()[2:])
    return set(re.findall(r"`(\w+)", first_column))
