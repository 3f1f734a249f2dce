"""`plot`: the pictures it writes, and the input it refuses without leaving a partial file."""

from __future__ import annotations

import pytest

from tests.claims import claim
from tests.cli.command import Command
from tests.confirmation.tasks import content_of, searched
from tests.searches import begin, make_study, url_of, work


@pytest.fixture
def run(tmp_path, monkeypatch, capsys) -> Command:
    monkeypatch.setenv("SCHEDSEARCH_STORAGE", url_of(tmp_path))
    monkeypatch.chdir(tmp_path)
    return Command(monkeypatch, capsys)


@pytest.fixture
def study(tmp_path):
    study = make_study(tmp_path)
    work(study)
    return study


@pytest.mark.parametrize(("suffix", "begins"), [("png", b"\x89PNG"), ("svg", b"<?xml")])
def test_a_study_or_one_of_its_trials_is_drawn(run, study, tmp_path, suffix, begins):
    best = study.complete_trials()[0].number
    for what, drawn in (
        ("small", "study small"),
        ("small/best", f"trial {best} of small"),
        ("small/0", "trial 0 of small"),
    ):
        done = run("plot", what, "-o", f"it.{suffix}")
        assert (done.status, done.out, done.err) == (0, "", f"wrote it.{suffix}: {drawn}\n")
        assert (tmp_path / f"it.{suffix}").read_bytes().startswith(begins)


def test_an_exported_config_is_drawn(run, study, tmp_path):
    assert run("export", "small", "-o", "best.toml").status == 0
    done = run("plot", "best.toml", "-o", "best.svg")
    assert (done.status, done.err) == (0, "wrote best.svg: the plan of best.toml\n")
    assert (tmp_path / "best.svg").read_text().startswith("<?xml")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("small", "-o", "best.jpg"), "error: best.jpg: the name must end in .png or .svg\n"),
        (("small/99", "-o", "x.png"), "error: study `small` has no trial 99\n"),
        (("smal", "-o", "x.png"), "has no study `smal`: did you mean `small`?\n"),
        (("small/worst", "-o", "x.png"), "worst is not part of a study: give STUDY/NUMBER"),
        (("small/confirmation", "-o", "x.png"), "study small has no confirmation yet"),
        (("none.toml", "-o", "x.png"), "error: none.toml: "),
        (("small", "-o", "no/x.png"), "error: no/x.png: cannot be written: "),
    ],
)
def test_wrong_input_is_one_line_and_leaves_no_file(run, study, tmp_path, arguments, said):
    before = set(tmp_path.iterdir())
    done = run("plot", *arguments)
    assert (done.status, done.out) == (2, "")
    assert said in done.err
    assert done.err.count("\n") == 1
    assert set(tmp_path.iterdir()) == before


def test_a_study_without_a_complete_trial_has_no_picture(run, tmp_path):
    make_study(tmp_path)
    done = run("plot", "small", "-o", "best.png")
    assert (done.status, (tmp_path / "best.png").exists()) == (2, False)
    assert "study small has no complete trial yet" in done.err


def test_a_trial_in_training_has_no_picture(run, tmp_path):
    claim(make_study(tmp_path), "ann")
    done = run("plot", "small/0", "-o", "best.png")
    assert done.status == 2
    assert done.err == "error: trial 0 has no curve to draw: its state is running\n"
    assert not (tmp_path / "best.png").exists()


def test_attach_adds_any_trial_to_the_dashboard_without_a_file(run, study, tmp_path):
    done = run("plot", "small/0", "--attach")
    assert (done.status, done.err) == (
        0,
        "added the picture of trial 0 of small to the dashboard\n",
    )
    [picture] = (tmp_path / "studies.db.pictures").iterdir()
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("small/0",), "no output: give -o FILE.png, -o FILE.svg, or --attach"),
        (("small", "--attach"), "--attach needs a trial, but got small: give STUDY/NUMBER"),
    ],
)
def test_a_picture_without_an_output_is_refused(run, study, arguments, said):
    done = run("plot", *arguments)
    assert done.status == 2
    assert said in done.err


def test_a_confirmation_is_drawn(run, tmp_path):
    searched(tmp_path, content_of())
    assert run("confirm", "small", "--top", 1, "--seeds", 6, "--workers", 1).status == 0
    done = run("plot", "small/confirmation", "-o", "it.png")
    assert (done.status, done.err) == (0, "wrote it.png: the confirmation of small\n")
    assert (tmp_path / "it.png").read_bytes().startswith(b"\x89PNG")


SETTINGS = (
    "lines.linewidth: 9\nfont.size: 30\naxes.facecolor: red\naxes.grid: True\nbackend: tkagg\n"
)


@pytest.mark.long
@pytest.mark.parametrize("suffix", ["png", "svg"])
@pytest.mark.parametrize(
    "settings", [SETTINGS.encode(), b"\xff\xfe: \x00", b"text.usetex: True\n"], ids=ascii
)
def test_settings_of_matplotlib_change_no_picture(run, study, tmp_path, settings, suffix):
    best = study.complete_trials()[0].number
    for what in ("small", f"small/{best}"):
        assert run("plot", what, "-o", f"expected.{suffix}").status == 0
        (tmp_path / "stranger").mkdir(exist_ok=True)
        for file in (tmp_path / "stranger" / "matplotlibrc", tmp_path / "rc"):
            file.write_bytes(settings)
        # A process for each: matplotlib reads its settings when it is imported.
        with begin(
            *("plot", what, "-o", f"drawn.{suffix}", "--storage", url_of(tmp_path)),
            folder=tmp_path / "stranger",
            MATPLOTLIBRC=str(tmp_path / "rc"),
            MPLBACKEND="tkagg",
        ) as process:
            _, err = process.communicate(timeout=120)
        assert (process.returncode, err.count("\n")) == (0, 1), err
        drawn = tmp_path / "stranger" / f"drawn.{suffix}"
        assert drawn.read_bytes() == (tmp_path / f"expected.{suffix}").read_bytes()
