"""The programs that read the files of docs/deploy accept them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from torch.distributed.run import get_args_parser

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


SCRIPTS = ["workers.sbatch", "ranks.sbatch"]
JOBS = ["kubernetes.yaml", "ranks.yaml"]


@pytest.mark.parametrize("name", SCRIPTS)
def test_shellcheck_accepts_the_batch_script(name):
    assert run(BIN / "shellcheck", DEPLOY / name) == ""


@pytest.mark.parametrize(("name", "count"), [("workers.sbatch", 8), ("ranks.sbatch", 9)])
def test_slurm_reads_all_directives_of_the_batch_script(name, count):
    """Slurm ignores directives after the first command."""
    lines = (DEPLOY / name).read_text().splitlines()
    first = next(i for i, line in enumerate(lines) if line and not line.startswith("#"))
    directives = [line for line in lines if line.startswith("#SBATCH")]
    assert directives == [line for line in lines[:first] if line.startswith("#SBATCH")]
    assert len(directives) == count
    assert all(re.fullmatch(r"#SBATCH --[a-z-]+(=\S+)?", line) for line in directives)


@pytest.mark.parametrize("name", JOBS)
def test_the_job_conforms_to_the_schema_of_kubernetes(name):
    assert "passed" in run(BIN / "kubernetes-validate", "--strict", DEPLOY / name)


@pytest.mark.parametrize("name", JOBS)
def test_only_the_secret_contains_the_url(name):
    *_, job = yaml.safe_load_all((DEPLOY / name).read_text())
    [container] = job["spec"]["template"]["spec"]["containers"]
    [variable] = container["env"]
    assert variable["name"] == "SCHEDSEARCH_STORAGE"
    assert set(variable["valueFrom"]) == {"secretKeyRef"}
    assert "://" not in " ".join(container["command"])


def test_the_page_links_every_file():
    page = (ROOT / "docs" / "deploy.md").read_text()
    assert all(f"(deploy/{file.name})" in page for file in DEPLOY.iterdir())


def test_torchrun_accepts_the_commands_of_ranks():
    """The commands name as many nodes as the pods, and options that torchrun has."""
    service, job = yaml.safe_load_all((DEPLOY / "ranks.yaml").read_text())
    template = job["spec"]["template"]
    [container] = template["spec"]["containers"]
    in_pods = container["command"]
    script = (DEPLOY / "ranks.sbatch").read_text().replace("\\\n", " ")
    in_script = next(line for line in script.splitlines() if line.startswith("exec srun"))
    for command in (in_pods, in_script.split()[2:]):
        assert Path(command[0]).name == "torchrun"
        given = get_args_parser().parse_args(command[1:])
        assert given.module
        assert (given.training_script, given.training_script_args[0]) == ("schedsearch", "worker")
    given = get_args_parser().parse_args(in_pods[1:])
    assert int(given.nnodes) == job["spec"]["completions"] == job["spec"]["parallelism"]
    name = service["metadata"]["name"]
    assert given.rdzv_endpoint == f"{job['metadata']['name']}-0.{name}:29400"
    assert template["spec"]["subdomain"] == name
    assert service["spec"]["selector"] == template["metadata"]["labels"]
