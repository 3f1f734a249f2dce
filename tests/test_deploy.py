"""The programs that read the files of docs/deploy accept them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import yaml

from tests.searches import ROOT

DEPLOY = ROOT / "docs" / "deploy"
BIN = Path(sys.executable).parent


def run(*command: object) -> str:
    """Run a program that must succeed; return its output."""
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_systemd_accepts_the_unit(tmp_path):
    unit = (DEPLOY / "schedsearch-worker@.service").read_text()
    installed = unit.replace("/opt/schedsearch/.venv/bin/schedsearch", str(BIN / "schedsearch"))
    assert installed != unit
    (tmp_path / "schedsearch-worker@.service").write_text(installed)
    assert run("systemd-analyze", "verify", tmp_path / "schedsearch-worker@1.service") == ""


def test_shellcheck_accepts_the_batch_script():
    assert run(BIN / "shellcheck", DEPLOY / "workers.sbatch") == ""


def test_slurm_reads_all_directives_of_the_batch_script():
    """Slurm ignores directives after the first command."""
    lines = (DEPLOY / "workers.sbatch").read_text().splitlines()
    first = next(i for i, line in enumerate(lines) if line and not line.startswith("#"))
    directives = [line for line in lines if line.startswith("#SBATCH")]
    assert directives == [line for line in lines[:first] if line.startswith("#SBATCH")]
    assert len(directives) == 8
    assert all(re.fullmatch(r"#SBATCH --[a-z-]+(=\S+)?", line) for line in directives)


def test_the_job_conforms_to_the_schema_of_kubernetes():
    assert "passed" in run(BIN / "kubernetes-validate", "--strict", DEPLOY / "kubernetes.yaml")


def test_only_the_secret_contains_the_url():
    [job] = yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text())
    [container] = job["spec"]["template"]["spec"]["containers"]
    [variable] = container["env"]
    assert variable["name"] == "SCHEDSEARCH_STORAGE"
    assert set(variable["valueFrom"]) == {"secretKeyRef"}
    assert "://" not in " ".join(container["command"])


def test_the_page_links_every_file():
    page = (ROOT / "docs" / "deploy.md").read_text()
    assert all(f"(deploy/{file.name})" in page for file in DEPLOY.iterdir())
