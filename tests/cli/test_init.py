"""`schedsearch init` writes a project that runs at once, and copies the shipped spaces."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib

import pytest

from schedsearch.metric_names import metric_on_test
from schedsearch.scaffold import Kind, shipped_spaces
from schedsearch.space import Space
from tests.cli.command import Command
from tests.searches import ROOT

SPACES = ROOT / "search_spaces"
FLAGS = {kind: () if kind == "task" else (f"--{kind}",) for kind in Kind}
FRAMEWORKS = [
    pytest.param(kind, marks=pytest.mark.long if kind in ("lightning", "transformers") else ())
    for kind in Kind
]


@pytest.fixture
def run(tmp_path, monkeypatch, capsys) -> Command:
    monkeypatch.chdir(tmp_path)
    return Command(monkeypatch, capsys)


@pytest.fixture
def schedsearch(tmp_path, monkeypatch):
    """Run a command in the folder of the project, in a process that has only that to import."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.delenv("SCHEDSEARCH_TRUST_TASK")
    monkeypatch.delenv("SCHEDSEARCH_STORAGE", raising=False)

    def schedsearch(*arguments: str) -> str:
        command = [sys.executable, "-m", "schedsearch", *arguments]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return schedsearch


@pytest.mark.parametrize(
    ("name", "rule"),
    [("-x", "must not begin with a dash"), ("..", "must not consist of dots only")],
)
@pytest.mark.parametrize("flags", [[], ["--from", "noisy_digits"]])
def test_a_name_that_no_new_study_may_have_is_refused(run, tmp_path, name, rule, flags):
    done = run("init", *flags, "--", name)
    assert done.status == 2
    assert done.err.startswith(f"error: the name {name!r} {rule}")
    assert not list(tmp_path.iterdir())


# --- projects ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", FRAMEWORKS)
def test_a_project_passes_check_unedited(run, schedsearch, tmp_path, kind):
    done = run("init", "demo", *FLAGS[kind])
    assert (done.status, done.out) == (0, "")
    assert done.err.splitlines() == [
        "demo.toml: written",
        "task.py: written",
        "next: schedsearch check demo.toml && schedsearch start demo.toml",
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["demo.toml", "task.py"]
    assert schedsearch("check", "demo.toml").startswith("name       demo\n")


@pytest.mark.long
@pytest.mark.parametrize("kind", list(Kind))
def test_a_project_is_searched_confirmed_exported_and_trained_unedited(
    run, schedsearch, tmp_path, kind
):
    run("init", "demo", *FLAGS[kind])
    assert "6 of 6 ended" in schedsearch("start", "demo.toml", "--trials", "6")
    confirmed = schedsearch("confirm", "demo", "--top", "1", "--seeds", "6", "--workers", "1")
    assert re.search(r"^mean test_\w+ over 6 fresh seeds", confirmed)
    schedsearch("export", "demo", "-o", "best.toml")
    recorded = tomllib.loads((tmp_path / "best.toml").read_text())["source"]
    trained = schedsearch("train", "best.toml", "--no-reuse")
    metrics = dict(re.findall(r"^  (\w+) (\S+)$", trained, re.MULTILINE))
    assert float(metrics[recorded["metric"]]) == recorded["value"]
    assert float(metrics[metric_on_test(recorded["metric"])]) > 0


@pytest.mark.parametrize("kind", list(Kind))
def test_the_files_explain_themselves_by_one_line_comments(run, tmp_path, kind):
    run("init", "demo", *FLAGS[kind])
    lines = (tmp_path / "demo.toml").read_text().splitlines()
    assert lines[0].startswith("# ")
    families = [line for line in lines if ".families." in line]
    assert len(families) == 4
    # The second `constant` needs no other comment than the first.
    assert sum("#" in line for line in families) >= 3
    assert max(map(len, lines)) <= 100
    text = (tmp_path / "task.py").read_text()
    assert "NAME" not in text
    assert "NAME" not in "\n".join(lines)
    assert text.count("    # ") >= 3


def test_folder_names_where_the_project_is_written(run, tmp_path):
    done = run("init", "demo", "--folder", "new/my project")
    assert done.status == 0
    folder = tmp_path / "new" / "my project"
    assert sorted(path.name for path in folder.iterdir()) == ["demo.toml", "task.py"]
    assert done.err.splitlines()[-1].startswith("next: cd 'new/my project' && schedsearch check")


@pytest.mark.parametrize("taken", [("demo.toml",), ("task.py",), ("demo.toml", "task.py")])
def test_no_file_is_overwritten_and_none_is_added(run, tmp_path, taken):
    for name in taken:
        (tmp_path / name).write_text("mine")
    done = run("init", "demo")
    assert (done.status, done.out) == (2, "")
    assert done.err == (
        f"error: {', '.join(taken)}: already there, and `init` never overwrites a file: choose an "
        "empty folder with --folder\n"
    )
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == dict.fromkeys(
        taken, "mine"
    )


def test_a_package_that_would_shadow_the_task_is_refused(run, tmp_path):
    (tmp_path / "task").mkdir()
    (tmp_path / "task" / "__init__.py").touch()
    done = run("init", "demo")
    assert done.status == 2
    assert done.err.startswith("error: task/__init__.py: already there")
    (tmp_path / "task" / "__init__.py").unlink()
    assert run("init", "demo").status == 0, "a folder without code hides nothing"


@pytest.mark.parametrize(
    ("folder", "message"),
    [
        ("file", "error: file: cannot be written: File exists"),
        ("file/inner", "error: file/inner: cannot be written: Not a directory"),
    ],
)
def test_a_folder_that_cannot_be_written_is_one_error_line(run, tmp_path, folder, message):
    (tmp_path / "file").touch()
    done = run("init", "demo", "--folder", folder)
    assert (done.status, done.err) == (2, f"{message}\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "`init` needs a name: `schedsearch init my_study`"),
        (
            ("a b",),
            "the name 'a b' must consist of 1 to 128 letters, digits and the characters _ . @ + -",
        ),
        (("a" * 129,), "must consist of 1 to 128 letters"),
        (("../demo",), "the name '../demo' must consist"),
        (("vae.toml",), "the name 'vae.toml' must not have the suffix of a file: give 'vae'"),
        (("a b", "--from", "vae"), "the name 'a b' must consist"),
        (
            ("demo", "--loop", "--lightning"),
            "--loop and --lightning exclude each other: give one of them",
        ),
        (("demo", "--loop", "--from", "vae"), "whose task is built in: remove --loop"),
        (
            ("demo", "--list"),
            "--list takes nothing else: `schedsearch init --from SPACE` copies a space",
        ),
    ],
)
def test_invalid_arguments_are_one_error_line(run, tmp_path, arguments, message):
    done = run("init", *arguments)
    assert (done.status, done.out) == (2, "")
    [line] = done.err.splitlines()
    assert line.startswith("error: ")
    assert message in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("kind", "module"),
    [("lightning", "lightning"), ("transformers", "transformers"), ("transformers", "accelerate")],
)
def test_a_missing_framework_is_a_warning_that_names_its_extra(run, monkeypatch, kind, module):
    monkeypatch.setitem(sys.modules, module, None)
    done = run("init", "demo", f"--{kind}", "--quiet")
    assert done.status == 0
    assert done.err == (f"warning: task.py needs {module}: pip install 'schedsearch[{kind}]'\n")


# --- shipped spaces ------------------------------------------------------------------------------


def test_every_shipped_space_is_listed_with_what_it_searches(run):
    done = run("init", "--list")
    assert (done.status, done.err) == (0, "copy one: `schedsearch init --from SPACE`\n")
    listed = dict(re.split(" {2,}", line, maxsplit=1) for line in done.out.splitlines())
    assert list(listed) == sorted(path.stem for path in SPACES.glob("*.toml"))
    for name, description in listed.items():
        first = (SPACES / f"{name}.toml").read_text().splitlines()[0]
        assert first == f"# {description}"


def test_a_shipped_space_is_copied_as_it_is(run, tmp_path):
    assert run("init", "--from", "noisy_digits").status == 0
    [copied] = tmp_path.iterdir()
    assert copied.name == "noisy_digits.toml"
    assert copied.read_bytes() == (SPACES / "noisy_digits.toml").read_bytes()
    done = run("init", "--from", "noisy_digits")
    assert (done.status, done.err.partition(":")[0]) == (2, "error")


@pytest.mark.parametrize("path", sorted(SPACES.glob("*.toml")), ids=lambda path: path.stem)
def test_a_copy_may_have_another_name_and_differs_in_nothing_else(run, tmp_path, path):
    assert run("init", "mine", "--from", path.stem).status == 0
    copied, shipped = Space.load(tmp_path / "mine.toml"), Space.load(path)
    assert copied.name == "mine"
    assert copied.document == shipped.document.model_copy(update={"name": "mine"})


def test_an_unknown_space_suggests_the_nearest(run):
    done = run("init", "--from", "noisy_digit")
    assert (done.status, done.out) == (2, "")
    assert done.err == (
        "error: there is no shipped space `noisy_digit`: did you mean `noisy_digits`?\n"
    )
    assert "`schedsearch init --list` shows all" in run("init", "--from", "xyz").err


def test_the_package_reads_the_spaces_of_the_repository():
    """In a checkout there is one copy of each space, and no link that an archive could lose."""
    assert not (ROOT / "schedsearch" / "search_spaces").exists()
    assert shipped_spaces().keys() == {path.stem for path in SPACES.glob("*.toml")}
