"""`schedsearch preview` draws sampled schedules; closed-loop ones against a synthetic training."""

import io
import json
import math
from itertools import pairwise
from pathlib import Path

import pytest
from matplotlib.image import imread

from schedsearch.files import write_document
from schedsearch.report.braille import plot
from schedsearch.report.pictures import draw_preview
from schedsearch.report.preview import sample_preview
from schedsearch.report.value_axis import axis_for
from schedsearch.space import Space
from tests.cli.command import Command
from tests.space.documents import searching

ROOT = Path(__file__).parents[2]
SPACES = ROOT / "search_spaces"
SHIPPED = sorted(SPACES.glob("*.toml"))


@pytest.fixture
def run(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "120")
    return Command(monkeypatch, capsys)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_family_of_every_searched_hyperparameter_is_drawn(path):
    space = Space.load(path)
    preview = sample_preview(space, 20, seed=0)
    drawn = {name: [family for family, _ in families] for name, families in preview.panels()}
    searched = {}
    for name, families in space.searched().items():
        group = space.document.groups.get(name)
        for member in group.members if group else [name]:
            searched[member] = list(families.options)
    assert drawn == searched
    per_hyperparameter = dict.fromkeys(drawn, 0)
    for curve in preview.curves:
        per_hyperparameter[curve.hyperparameter] += 1
        assert len(curve.values) == space.horizon
        assert all(map(math.isfinite, curve.values))
    assert set(per_hyperparameter.values()) == {20}


def test_the_same_seed_gives_the_same_sample():
    space = Space.load(SPACES / "regularized.toml")
    assert (
        sample_preview(space, 9, seed=1)
        == sample_preview(space, 9, seed=1)
        != sample_preview(space, 9, seed=2)
    )


def test_closed_loop_schedules_are_marked():
    preview = sample_preview(Space.load(SPACES / "vae.toml"), 24, seed=0)
    closed_loop = {curve.family for curve in preview.curves if curve.is_closed_loop}
    assert closed_loop == {"increment_on_improvement", "pi"}


def test_the_synthetic_metric_falls_with_noise_and_has_a_plateau():
    metric = sample_preview(Space.load(SPACES / "noisy_digits.toml"), 1, seed=0).metric
    assert metric[-1] < 0.5 * metric[0]
    rises = sum(after > before for before, after in pairwise(metric))
    assert 5 < rises < 40
    middle = metric[20:30]
    assert max(middle) - min(middle) < 0.1 * (metric[0] - metric[-1])


def test_samples_that_break_a_rule_are_replaced():
    ends = {"low": 0.0, "high": 1.0}
    clamp = {"low": ends, "high": ends, "inner": {"constant": {"value": 0.5}}}
    preview = sample_preview(
        Space.from_document(searching({"clamp": clamp}), "file.toml"), 40, seed=0
    )
    assert len(preview.curves) == 40


def test_the_terminal_shows_each_family_with_its_axis(run):
    done = run("preview", SPACES / "noisy_digits.toml", "--count", "10", "--seed", "3")
    assert (done.status, done.err) == (0, "")
    for family in ("constant", "increment_on_plateau *", "linear", "logistic_ramp"):
        assert f"  {family}" in done.out
    assert "epoch 59" in done.out
    assert "* drawn against a synthetic training curve" in done.out
    assert max(map(len, done.out.splitlines())) <= 120


def test_open_loop_schedules_need_no_synthetic_training(run):
    done = run("preview", SPACES / "pattern_decay.toml")
    assert done.status == 0
    assert "synthetic" not in done.out


def test_a_config_shows_its_one_plan(run):
    done = run("preview", ROOT / "examples" / "best.toml")
    assert done.status == 0
    headings = [line for line in done.out.splitlines() if line.startswith(("lr", "weights"))]
    assert headings == 2 * ["lr", "weights.l2", "weights.l1"]  # plots, and the table


def test_the_picture_is_a_png_that_is_neither_empty_nor_full(run, tmp_path):
    done = run("preview", SPACES / "pattern_contribution.toml", "--png", tmp_path / "a.png")
    assert (done.status, done.err) == (0, f"wrote {tmp_path / 'a.png'}\n")
    pixels = imread(io.BytesIO((tmp_path / "a.png").read_bytes()))
    assert pixels.shape[1] > 1500
    assert 0.01 < (pixels[..., :3].mean(axis=2) < 0.9).mean() < 0.3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--png", "a.jpg"], "a.jpg: the name must end in .png"),
        (
            ["--png", "no/such/a.png"],
            "no/such/a.png: cannot be written: there is no folder no/such",
        ),
    ],
)
def test_a_picture_that_cannot_be_written_is_one_line(run, arguments, message):
    done = run("preview", SPACES / "pattern_decay.toml", *arguments)
    assert (done.status, done.err) == (2, f"error: {message}\n")


def write_space(path, family, **table):
    families = {"constant": {"value": {"low": 0.0, "high": 1.0}}, **family}
    hyperparameters = {"u": {"default": 0.5, "families": families, **table}}
    content = {"task": "a:b", "horizon": 400, "objective": {"metric": "val_loss"}}
    write_document(path, {**content, "hyperparameters": hyperparameters})


def test_an_overflow_is_reported_with_its_file_and_hyperparameter(run, tmp_path):
    growth = {"exponential": {"initial": {"low": 1.0, "high": 2.0}, "decay_rate": 10.0}}
    write_space(tmp_path / "a.toml", growth)
    done = run("preview", tmp_path / "a.toml")
    assert done.status == 2
    assert done.err.startswith(f"error: {tmp_path / 'a.toml'}: every sampled plan breaks a rule")
    assert "u: exponential: the value of `parameters` is exponential(initial=" in done.err


def test_settings_without_effect_give_a_warning(run, tmp_path):
    ends = {"initial": {"low": 0.0, "high": 0.5}, "final": 1.0}
    write_space(tmp_path / "a.toml", {"linear": {**ends, "duration": 10, "endpoint": True}})
    done = run("preview", tmp_path / "a.toml")
    assert done.status == 0
    assert done.err.startswith("warning: u.linear.endpoint has no effect, since `duration`")


def test_a_file_without_a_schedule_has_no_preview(run, tmp_path):
    (tmp_path / "a.toml").write_text('task = "a:b"\nhorizon = 3\nobjective.metric = "val_loss"\n')
    done = run("preview", tmp_path / "a.toml")
    assert done.status == 2
    assert done.err.endswith("the file has no schedule: give a hyperparameter `families`\n")


def test_braille_dots_are_at_the_values():
    assert plot("title", [[0.0, 1.0]], (18, 2), 0.0, 1.0) == [
        "title             ",
        "       1 ┤⠀⠀⠀⠀⣀⠤⠒⠉",
        "       0 ┤⣀⠤⠒⠉⠀⠀⠀⠀",
        "         0 epoch 1",
    ]


def test_a_gap_stays_empty_and_values_outside_the_axis_are_drawn_at_its_end():
    cut = plot("", [[math.nan, 9.0, 0.0, -9.0]], (18, 1), 0.0, 1.0)
    assert cut == plot("", [[math.nan, 1.0, 0.0, 0.0]], (18, 1), 0.0, 1.0)
    assert cut[1].startswith("       0 ┤⠀⠀⠈")


def test_a_logarithmic_axis_is_even_in_the_logarithm():
    log = plot("", [[0.01, 0.1, 1.0]], (18, 2), 0.01, 1.0, scale=math.log)
    linear = plot("", [[0.0, 0.5, 1.0]], (18, 2), 0.0, 1.0)
    assert [line[10:] for line in log] == [line[10:] for line in linear]


TO_ZERO = """
task = "a:b"
horizon = 11
objective.metric = "val_loss"
[hyperparameters.lr]
default = 0.1
[hyperparameters.lr.families.constant]
value = 0.1
[hyperparameters.scale]
default = 1.0
interval = "step"
[hyperparameters.scale.families.linear]
initial = 1.0
final = 0.0
"""


def test_a_table_has_the_values_in_numbers(run, tmp_path):
    (tmp_path / "a.toml").write_text(TO_ZERO)
    lines = run("preview", tmp_path / "a.toml").out.splitlines()
    table = lines[lines.index("values of one schedule of each family, by epoch") + 1 :]
    assert [line.split() for line in table] == [
        ["0", "2.189", "4.378", "6.595", "8.784", "10.97"],
        ["lr"],
        ["constant(value=0.1)"],
        ["0.1"] * 6,
        ["scale"],
        ["linear(initial=1,", "final=0)"],
        ["1", "0.801", "0.602", "0.4005", "0.2015", "0.002457"],
    ]


def test_json_has_all_values_of_all_schedules(run):
    path = SPACES / "noisy_digits.toml"
    done = run("preview", path, "--count", 7, "--json")
    found = json.loads(done.out)
    preview = sample_preview(Space.load(path), 7, seed=0)
    assert (found["space"], found["horizon"]) == ("noisy_digits", 60)
    assert found["synthetic_metric"] == list(preview.metric)
    for name, curves in found["hyperparameters"].items():
        expected = [curve for curve in preview.curves if curve.hyperparameter == name]

        def key(values):
            return values["family"], values["values"]

        assert sorted(curves, key=key) == sorted(
            (
                {
                    "family": curve.family,
                    "schedule": curve.schedule,
                    "closed_loop": curve.is_closed_loop,
                    "values_per_epoch": 1,
                    "values": list(curve.values),
                }
                for curve in expected
            ),
            key=key,
        )
        assert len(curves) == 7


@pytest.mark.parametrize(
    ("curves", "linear_below"),
    [
        ([[0.1, 0.001]], 0.0),
        ([[0.1, 0.00009]], 0.01),
        ([[0.1, 0.0], [0.02]], 0.002),
        ([[0.1, -0.1]], 0.01),
        ([[0.0, 0.0], [0.5]], 0.05),
        ([[math.nan, 0.1], [math.nan], [0.0]], 0.01),
    ],
)
def test_a_logarithmic_axis_is_linear_near_zero_if_a_curve_comes_there(curves, linear_below):
    axis = axis_for(curves, log=True)
    assert axis.log
    assert axis.linear_below == pytest.approx(linear_below)
    values = sorted(value for curve in curves for value in curve if math.isfinite(value))
    places = [axis.position(value) for value in values]
    assert all(map(math.isfinite, places))
    assert places == sorted(places)


def test_without_a_positive_value_the_axis_is_linear():
    assert not axis_for([[0.0, -1.0], [0.0]], log=True).log
    assert not axis_for([[0.1, 0.0]], log=False).log


@pytest.mark.parametrize("final", ["0.0", "1e-12"])
def test_schedules_that_end_at_zero_leave_room_for_the_others(run, tmp_path, final):
    (tmp_path / "a.toml").write_text(
        TO_ZERO.replace("final = 0.0", f"final = {final}\nendpoint = true").replace(
            "initial = 1.0", "initial = { low = 0.1, high = 1.0, log = true }"
        )
        + "[hyperparameters.scale.families.constant]\n"
        + "value = { low = 0.1, high = 1.0, log = true }\n"
    )
    [head] = [line for line in run("preview", tmp_path / "a.toml").out.splitlines() if "(" in line][
        :1
    ]
    assert head.startswith("scale (log scale, linear below 0.01")
    preview = sample_preview(Space.load(tmp_path / "a.toml"), 20, 0)
    axis = preview.axes["scale"]
    # Ten times as much is one of about three parts of the axis.
    part = axis.position(1.0) - axis.position(0.1)
    assert part > 0.25 * (axis.position(axis.high) - axis.position(axis.low))
    figure = draw_preview(preview, "a")
    figure.draw_without_rendering()
    for panel in figure.axes[:2]:
        low, high = panel.get_ylim()
        assert low <= 0 < axis.high < high
        labels = [
            t.get_text() for t in panel.get_yticklabels() if low <= t.get_position()[1] <= high
        ]
        assert {"0", "0.1"} <= set(labels)
