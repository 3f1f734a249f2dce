"""Make studies.db.example: a complete search of noisy_digits in one file."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path

from schedsearch.trajectories.tables import checkpoints, nodes

ROOT = Path(__file__).parent.parent
SPACE = ROOT / "search_spaces" / "noisy_digits.toml"
EXAMPLE = ROOT / "studies.db.example"


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        searched = Path(folder) / "studies.db"
        command = [sys.executable, "-m", "schedsearch", "start", str(SPACE), "--workers", "2"]
        storage = ["--storage", f"sqlite:///{searched}"]
        subprocess.run([*command, "--trials", "200", *storage], check=True, cwd=ROOT)
        copy = Path(folder) / EXAMPLE.name
        copy_for_publication(searched, copy)
        EXAMPLE.write_bytes(copy.read_bytes())
    print(f"{EXAMPLE.name}: {EXAMPLE.stat().st_size / 1e6:.1f} MB")


def copy_for_publication(searched: Path, copy: Path) -> None:
    """Copy a database without host names, checkpoints and pictures."""
    with closing(sqlite3.connect(searched)) as connection:
        connection.execute("VACUUM INTO ?", (str(copy),))
    with closing(sqlite3.connect(copy, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=DELETE")
        workers = "SELECT DISTINCT value_json FROM trial_user_attributes WHERE key = 'worker'"
        for position, (name,) in enumerate(connection.execute(workers).fetchall()):
            connection.execute(
                "UPDATE trial_user_attributes SET value_json = ? "
                "WHERE key = 'worker' AND value_json = ?",
                (json.dumps(f"worker-{position}"), name),
            )
        for of in ("study", "trial"):
            connection.execute(f"DELETE FROM {of}_system_attributes WHERE key LIKE 'artifacts:%'")
        for table in (checkpoints, nodes):
            connection.execute(f"DELETE FROM {table.name}")
        connection.execute("VACUUM")


if __name__ == "__main__":
    main()
