"""The pictures of trials, studies, confirmations and explanations, by matplotlib's objects."""

from __future__ import annotations

import copy
import math
from types import MappingProxyType

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.patches import StepPatch
from optuna.trial import TrialState

from schedsearch.errors import StudyError
from schedsearch.report.optimization_history import improvements, optimization_history
from schedsearch.report.pictures import (
    draw_confirmation,
    draw_explanation,
    draw_preview,
    draw_study,
    image,
)
from schedsearch.report.pictures import draw_trial as draw
from schedsearch.report.pictures.trial import change_epochs
from schedsearch.report.preview import sample_preview
from schedsearch.space import Space
from tests.claims import claim
from tests.searches import document, make_study, work

GREY = "#8a8a8a"
MANY = MappingProxyType({"lr": "lr", "reg": "reg", "a": "a", "b": "b"})


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    study = make_study(tmp_path_factory.mktemp("pictures"), document(trials=20))
    work(study)
    return study


def draw_trial(study, trial):
    return draw(study.space, trial, next(iter(study.complete_trials(constant=True)), None))


def schedule_of(study):
    """Return the best trial whose learning rate changes."""
    return next(t for t in study.complete_trials(constant=False) if isinstance(rates(t), list))


def rates(trial):
    return trial.user_attrs["values"]["lr"]


def steps(axis) -> list[StepPatch]:
    return [patch for patch in axis.patches if isinstance(patch, StepPatch)]


def labelled(axis, label: str):
    [line] = [line for line in axis.get_lines() if line.get_label() == label]
    return line


def test_each_value_in_force_spans_its_epoch(study):
    trial = schedule_of(study)
    axis = draw_trial(study, trial).axes[0]
    [drawn] = steps(axis)
    values, edges, _ = drawn.get_data()
    assert list(values) == rates(trial)
    assert list(edges) == list(range(10))
    assert axis.get_ylabel() == "lr"


def test_the_metric_stands_at_the_end_of_its_epoch_beside_the_best_constants(study):
    trial, constant = schedule_of(study), study.complete_trials(constant=True)[0]
    axis = draw_trial(study, trial).axes[1]
    assert axis.get_ylabel() == "val_loss"
    for label, shown in (
        (f"trial {trial.number}", trial),
        (f"trial {constant.number}, best constant", constant),
    ):
        line = labelled(axis, label)
        assert list(line.get_xdata()) == list(range(1, 10))
        assert list(line.get_ydata()) == list(shown.intermediate_values.values())
    assert labelled(axis, f"trial {constant.number}, best constant").get_color() == GREY


def test_the_best_constants_own_value_is_drawn_beside_the_schedule(study):
    constant = study.complete_trials(constant=True)[0]
    axis = draw_trial(study, schedule_of(study)).axes[0]
    label = f"trial {constant.number}, best constant: {rates(constant):.3g}"
    assert labelled(axis, label).get_ydata()[0] == rates(constant)
    assert labelled(axis, label).get_color() == GREY


def test_every_mark_of_a_trials_picture_has_a_name_in_a_legend(study):
    figure = draw_trial(study, schedule_of(study))
    named = {
        line.get_label()
        for axis in figure.axes
        for line in axis.get_lines()
        if not line.get_label().startswith("_child")
    }
    shown = {t.get_text() for axis in figure.axes for t in axis.get_legend().get_texts()}
    assert named == shown
    assert "a schedule changes" in shown


def test_loss_terms_have_their_own_panel(study):
    trial = schedule_of(study)
    axis = draw_trial(study, trial).axes[2]
    assert axis.get_ylabel() == "loss term\nfit"
    assert list(labelled(axis, "fit").get_ydata()) == trial.user_attrs["terms"]["fit"]
    assert axis.get_xlabel() == "epochs trained"


def test_a_constants_picture_has_no_schedule_and_its_title_says_so(study):
    constant = study.complete_trials(constant=True)[0]
    figure = draw_trial(study, constant)
    assert [axis.get_ylabel() for axis in figure.axes] == ["val_loss", "loss term\nfit"]
    first, second, constants = figure.get_suptitle().splitlines()
    assert (first, second) == (f"small, trial {constant.number}", "constants only")
    assert constants.startswith(f"constant: lr {constant.user_attrs['values']['lr']:.3g}")


def test_few_changes_are_all_marked_but_of_many_only_the_first_and_the_last():
    assert change_epochs({"u": [0.0, 0.0, 0.1, 0.1, 0.3]}, 5) == [2, 4]
    assert change_epochs({"u": [0.0, 0.0, *range(1, 40), 39]}, 42) == [2, 40]
    assert change_epochs({"u": [0.0, 1.0, 1.0], "v": [0.0, 0.0, 1.0]}, 3) == [1, 2]
    assert change_epochs({}, 0) == []


@pytest.fixture
def put(tmp_path):
    """Put a complete trial with these values and metrics into a new study."""
    study = make_study(tmp_path)

    def put(values, metrics, terms):
        numbers = {"plan": {"hyperparameters": {}}, "values": values, "terms": terms, "draw": 0}
        optuna_study = study.load()
        optuna_study.ask()  # the default, which is queued
        trial = optuna_study.ask()
        for key, value in numbers.items():
            trial.set_user_attr(key, value)
        for epoch, metric in enumerate(metrics, 1):
            trial.report(metric, epoch)
        optuna_study.tell(trial, metrics[-1])
        return study, study.trial(trial.number)

    return put


def test_more_than_three_schedules_share_a_panel_each_scaled_to_its_range(put):
    values = {name: [2.0 * i, 4.0 * i] for i, name in enumerate(MANY, 1)}
    figure = draw_trial(*put(values, [0.2, 0.1], {"fit": [1.0, 0.5]}))
    drawn = steps(figure.axes[0])
    assert [list(step.get_data()[0]) for step in drawn] == [[0.0, 1.0]] * 4
    assert drawn[1].get_label() == "reg: 4 to 8"
    assert (
        len({step.get_linestyle() for step in drawn}) == 4
    )  # so the lines differ in greyscale too


def test_a_schedule_with_one_known_value_shares_the_panel_flat_with_a_gap(put):
    values = {name: [0.1, None, 0.1] for name in MANY}
    figure = draw_trial(*put(values, [0.3, 0.2, 0.1], {"fit": [1.0, 0.5, 0.4]}))
    for step in steps(figure.axes[0]):
        first, gap, last = step.get_data()[0]
        assert (first, math.isnan(gap), last) == (0.0, True, 0.0)


def test_an_axis_is_logarithmic_where_positive_values_spread_beyond_tenfold(put):
    wide = draw_trial(*put({"lr": [0.1, 0.2]}, [11.0, 1.0], {"fit": [-1.0, 50.0]}))
    assert [axis.get_yscale() for axis in wide.axes] == ["linear", "log", "linear"]


def test_a_schedule_is_drawn_on_the_scale_on_which_its_constants_are_sampled(put):
    values = {"lr": [0.01, 0.5], "reg": [0.01, 0.5]}  # of the two, lr is searched on a log scale
    axes = draw_trial(*put(values, [0.2, 0.1], {})).axes
    assert [(axis.get_ylabel(), axis.get_yscale()) for axis in axes[:2]] == [
        ("lr", "log"),
        ("reg", "linear"),
    ]


@pytest.mark.parametrize("last", [0.0, 1e-9])
def test_a_schedule_that_ends_at_zero_is_drawn_on_an_axis_that_is_linear_near_zero(put, last):
    figure = draw_trial(*put({"lr": [0.5, 0.05, last]}, [0.3, 0.2, 0.1], {}))
    axis = figure.axes[0]
    assert axis.get_yscale() == "symlog"
    low, high = axis.get_ylim()
    assert low < 0 < 0.5 < high
    figure.draw_without_rendering()
    shown = [text.get_text() for text in axis.get_yticklabels()]
    assert {"0", "0.1"} <= set(shown)


@pytest.mark.parametrize("least", [0.05, 1e-3, 1e-5, 1e-9])
def test_a_logarithmic_axis_is_labelled_however_wide(put, least):
    axis = draw_trial(*put({"lr": [0.1, 0.2]}, [1.0, least], {})).axes[1]
    low, high = axis.get_ylim()
    assert 3 <= sum(low <= tick <= high for tick in axis.get_yticks()) <= 12


def test_the_legend_of_a_studys_picture_is_above_the_trials(study):
    figure = draw_study(study.space, study.trials())
    best = figure.axes[0]
    assert best.get_legend() is None
    [part] = [part for part in figure.subfigs if best in part.axes]
    [named] = part.legends
    figure.draw_without_rendering()
    assert named.get_window_extent().y0 >= best.get_window_extent().y1


def test_an_unknown_metric_leaves_a_gap(put):
    study, trial = put({"lr": [0.1, 0.2, 0.2]}, [2.0, math.nan, 1.0], {})
    line = labelled(draw_trial(study, trial).axes[1], f"trial {trial.number}")
    assert [math.isnan(y) for y in line.get_ydata()] == [False, True, False]


def test_terms_without_values_leave_an_empty_panel(put):
    study, trial = put({"lr": [0.1, 0.2]}, [math.nan, 1.0], {"fit": None})
    line = labelled(draw_trial(study, trial).axes[2], "fit")
    assert [math.isnan(y) for y in line.get_ydata()] == [True, True]


def test_a_trial_that_has_not_ended_cannot_be_drawn(tmp_path):
    study = make_study(tmp_path)
    trial_id = claim(study, "ann")
    [trial] = study.trials()
    assert (trial._trial_id, trial.state) == (trial_id, TrialState.RUNNING)
    with pytest.raises(StudyError, match="trial 0 has no curve to draw: its state is running"):
        draw_trial(study, trial)


@pytest.mark.parametrize(("kind", "begins"), [("png", b"\x89PNG"), ("svg", b"<?xml")])
def test_a_picture_drawn_twice_is_the_same_file(study, kind, begins):
    first, second = (image(draw_trial(study, schedule_of(study)), kind) for _ in range(2))
    assert first.startswith(begins)
    assert first == second


# --- a study -------------------------------------------------------------------------------------


def test_the_best_so_far_is_drawn_over_trials_and_over_epochs(study):
    ends = optimization_history(study.space, study.trials())
    best = improvements(ends)
    assert best[-1].value == study.complete_trials()[0].value
    by_trials, by_epochs = draw_study(study.space, study.trials()).axes[:2]
    for axis, last in ((by_trials, len(ends)), (by_epochs, ends[-1].epochs)):
        line = labelled(axis, "best so far")
        assert list(line.get_ydata()) == [*(trial.value for trial in best), best[-1].value]
        assert line.get_xdata()[-1] == last
        constant = study.complete_trials(constant=True)[0]
        label = f"best constant: {constant.value:.4g}, trial {constant.number}"
        assert labelled(axis, label).get_ydata()[0] == constant.value


def test_every_family_has_a_row_with_the_number_of_its_complete_trials(study):
    axis = draw_study(study.space, study.trials()).axes[2]
    rows = [label.get_text() for label in axis.get_yticklabels()]
    constants = len(study.complete_trials(constant=True))
    decays = len(study.complete_trials(constant=False))
    assert rows[0] == "lr"
    assert set(rows[1:]) == {f"constant ({constants})", f"exponential ({decays})"}


def test_importances_are_of_one_family_each_and_add_up_to_one(tmp_path):
    study = make_study(tmp_path, document(trials=60, pruner={"name": "none"}))
    work(study)
    axis = draw_study(study.space, study.trials()).axes[3]
    assert {label.get_text() for label in axis.get_yticklabels()} == {
        "lr: exponential",
        "initial",
        "decay_rate",
    }
    assert sum(bar.get_width() for bar in axis.patches) == pytest.approx(1)


def test_a_study_without_a_complete_trial_has_nothing_to_draw(tmp_path):
    study = make_study(tmp_path)
    with pytest.raises(StudyError, match="study small has no complete trial yet"):
        draw_study(study.space, study.trials())


# --- a confirmation ------------------------------------------------------------------------------


def entry(number, mean, **more):
    return {"number": number, "mean": mean, "plan": {}, "diverged": 0, **more}


def test_each_interval_is_drawn_where_it_was_measured():
    against = [
        {"number": 0, "difference": -0.2, "interval": [-0.3, -0.1]},
        {"number": None, "difference": -0.1, "interval": [-0.25, 0.05]},
    ]
    result = {
        "metric": "test_loss",
        "direction": "minimize",
        "test": True,
        "seeds": [100, 120],
        "constants": [entry(0, 0.5), entry(None, 0.4)],
        "plans": [entry(7, 0.3, against=against, verdict="no difference seen")],
    }
    figure = draw_confirmation("small", result)
    [axis] = figure.axes
    drawn = [line.get_segments()[0][:, 0].tolist() for line in axis.collections]
    assert drawn == [pytest.approx(one["interval"]) for one in against]
    assert [label.get_text() for label in axis.get_yticklabels()] == [
        "trial 7\nmean 0.3\nno difference seen"
    ]
    assert {text.get_text() for text in figure.legends[0].get_texts()} == {
        "no difference",
        "the schedule is better",
        "against trial 0, mean 0.5",
        "against the default, mean 0.4",
    }


# --- an explanation ------------------------------------------------------------------------------


def an_explanation():
    constant = {"lr": {"constant": {"value": 0.2}}}
    linear = {"lr": {"linear": {"initial": 1.0, "final": 0}}}
    lines = [
        ("gain", "constants", [], {}, "worse"),
        ("carries", "without", ["lr"], constant, "worse"),
        ("follows", "path", ["lr"], {}, "no difference seen"),
        ("simpler", "constant", ["lr"], constant, "not shown"),
        ("simpler", "linear", ["lr"], linear, "not worse"),
    ]
    return {
        "metric": "test_loss",
        "direction": "minimize",
        "test": True,
        "seeds": [100, 120],
        "trial": 7,
        "margin": 0.1,
        "paths": {"lr": [0.9, 0.5, 0.1]},
        "comparisons": [
            {
                "question": question,
                "change": change,
                "names": names,
                "schedules": schedules,
                "verdict": verdict,
                "difference": 0.4 - 0.1 * i,
                "interval": [0.3 - 0.1 * i, 0.5 - 0.1 * i],
            }
            for i, (question, change, names, schedules, verdict) in enumerate(lines)
        ],
    }


def space_of_three_epochs(**settings):
    content = document() | {"horizon": 3}
    content["hyperparameters"]["lr"] |= settings
    return Space.from_document(content, "small.toml")


def test_the_simple_schedules_of_an_explanation_are_drawn_as_they_trained():
    """Within bounds, and whole."""
    result = an_explanation()
    result["comparisons"][-1]["schedules"]["lr"] = {"linear": {"initial": 6.0, "final": 0.0}}
    space = space_of_three_epochs(bounds=[3, 9], round=True)
    paths = draw_explanation(space, "small", result).axes[1]
    drawn = {line.get_label(): list(line.get_ydata()) for line in paths.lines}
    assert (drawn["linear"], drawn["constant"]) == ([6, 4, 3], [3, 3, 3])


def test_an_explanation_shows_each_difference_and_the_paths():
    bars, paths = draw_explanation(space_of_three_epochs(), "small", an_explanation()).axes
    assert [bar.get_width() for bar in bars.patches] == pytest.approx([0.4, 0.3, 0.2, 0.1, 0.0])
    assert [label.get_text() for label in bars.get_yticklabels()] == [
        "the best constants",
        "without lr",
        "mean path of lr",
        "lr: constant",
        "lr: linear",
    ]
    drawn = {line.get_label(): list(line.get_ydata()) for line in paths.lines}
    assert drawn["mean path"] == [0.9, 0.5, 0.1]
    assert drawn["constant"] == [0.2, 0.2, 0.2]
    assert drawn["linear"] == pytest.approx([1.0, 2 / 3, 1 / 3])


# --- legends -------------------------------------------------------------------------------------


def legends_of(figure):
    parts = [figure, *getattr(figure, "subfigs", [])]
    return [
        *(legend for part in parts for legend in part.legends),
        *(legend for axis in figure.axes if (legend := axis.get_legend()) is not None),
    ]


def with_many_names(study):
    """Return a trial with more loss terms and schedules than a row of a legend holds."""
    trial = copy.deepcopy(schedule_of(study))
    rate, terms = rates(trial), trial.user_attrs["terms"]["fit"]
    trial.user_attrs["values"] = {f"weights.boundary_condition_{i}": rate for i in range(7)}
    trial.user_attrs["terms"] = {f"boundary_condition_{i}": terms for i in range(9)}
    return trial


def a_confirmation():
    against = [{"number": i, "difference": 0.1 * i, "interval": [-0.3, 0.4]} for i in range(4)]
    return {
        "metric": "test_loss",
        "direction": "maximize",
        "test": True,
        "seeds": [100, 120],
        "constants": [entry(i, 0.5) for i in range(4)],
        "plans": [entry(7 + i, 0.3, against=against, verdict="worse") for i in range(5)],
    }


@pytest.mark.parametrize(
    "kind", ["trial", "many names", "study", "confirmation", "explanation", "preview"]
)
def test_no_legend_covers_data_or_leaves_the_picture(study, kind):
    figure = {
        "trial": lambda: draw_trial(study, schedule_of(study)),
        "many names": lambda: draw_trial(study, with_many_names(study)),
        "study": lambda: draw_study(study.space, study.trials()),
        "confirmation": lambda: draw_confirmation("small", a_confirmation()),
        "explanation": lambda: draw_explanation(space_of_three_epochs(), "small", an_explanation()),
        "preview": lambda: draw_preview(sample_preview(study.space, 3, 0), "small"),
    }[kind]()
    FigureCanvasAgg(figure).draw()
    legends = legends_of(figure)
    assert bool(legends) == (kind != "preview")
    title = figure._suptitle.get_window_extent()
    for legend in legends:
        box = legend.get_window_extent()
        # The box is empty at its rim, and touches the frame of its axis.
        assert not any(box.padded(-0.5).overlaps(axis.bbox) for axis in figure.axes)
        assert not any(text.get_window_extent().overlaps(title) for text in legend.get_texts())
        assert figure.bbox.x0 <= box.x0
        assert box.x1 <= figure.bbox.x1 + 1
        assert box.y1 <= figure.bbox.y1
