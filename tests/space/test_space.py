"""A space suggests configs, with any suggester, and its grid has every distinct plan once."""

import math
import warnings
from pathlib import Path

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schedsearch.errors import InputError
from schedsearch.plan import Plan
from schedsearch.report.text import describe_families
from schedsearch.schedules import (
    CURRENT_VERSION,
    Constant,
    IncrementOnImprovement,
    Linear,
    Piecewise,
    ReduceOnPlateau,
)
from schedsearch.space import Space
from schedsearch.space.domains import Fixed, Levels, Range
from schedsearch.space.suggesters import FixedSuggester, RandomSuggester
from tests.space.documents import searching, small

SHIPPED = sorted((Path(__file__).parents[2] / "search_spaces").glob("*.toml"))


@pytest.fixture(params=SHIPPED, ids=lambda path: path.stem)
def shipped(request):
    return Space.load(request.param)


def space_of(content):
    return Space.from_document({"schedule_version": CURRENT_VERSION, **content}, "file.toml")


GROUP = {
    "members": ["weights.a", "weights.b"],
    "families": {"constant": {"value": {"low": 0.1, "high": 10.0, "log": True}}, "dwa": {}},
}
EVERY_KIND = searching(
    {
        "linear": {
            "initial": {"levels": [0.0, 0.25]},
            "final": {"low": 0.0, "high": 1.0, "step": 0.1},
            "duration": {"low": 2, "high": 8, "step": 3},
        },
        "piecewise": {"segments": 2, "values": {"low": 0.1, "high": 1.0, "log": True}},
        "warmup": {
            "inner": {
                "constant": {"value": {"low": 0.5, "high": 1.0}},
                "step": {
                    "initial": 1.0,
                    "decay_rate": 0.5,
                    "step_size": {"low": "10%", "high": "30%"},
                },
            },
            "duration": {"low": 1, "high": 1},
        },
    },
    groups={"g": GROUP},
)


def test_a_space_equals_the_space_of_its_document(shipped):
    assert space_of(shipped.to_document()) == shipped


@pytest.mark.parametrize("suffix", [".toml", ".yaml", ".json"])
def test_a_space_is_unchanged_by_a_file_of_any_format(tmp_path, shipped, suffix):
    shipped.save(tmp_path / f"space{suffix}")
    assert Space.load(tmp_path / f"space{suffix}") == shipped


def test_the_name_defaults_to_the_file_name(tmp_path):
    space_of(small()).save(tmp_path / "other.toml")
    assert Space.load(tmp_path / "other.toml").name == "small"
    (tmp_path / "mine.json").write_text(
        '{"task": "a:b", "horizon": 1, "objective": {"metric": "m"}}'
    )
    assert Space.load(tmp_path / "mine.json").name == "mine"


@given(seed=st.integers(0, 10_000))
def test_suggested_tables_are_a_config_of_the_suggested_plan(seed):
    space = space_of(EVERY_KIND)
    tables = space.suggest_tables(RandomSuggester(seed))
    config = space_of({**space.to_document(), **tables})
    assert config.is_config
    assert config.plan() == Plan.from_tables(tables) == space.suggest(RandomSuggester(seed))


def test_running_frozen_and_fixed_trials_suggest_the_same_plan():
    space = space_of(EVERY_KIND)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    seen = set()
    for _ in range(30):
        trial = study.ask()
        plan = space.suggest(trial)
        study.tell(trial, 0.0)
        frozen = study.get_trials(deepcopy=False)[-1]
        assert space.suggest(frozen) == plan
        assert space.suggest(optuna.trial.FixedTrial(frozen.params)) == plan
        assert space.suggest(FixedSuggester(frozen.params)) == plan
        seen.update(frozen.params)
    assert {"u.family", "u.linear.initial.level", "u.piecewise.values.1", "g.family"} <= seen
    assert {"u.warmup.inner.family", "u.warmup.inner.step.step_size", "g.constant.value.1"} <= seen
    assert not any("warmup.duration" in name for name in seen), "a fixed value is no parameter"


@given(points=st.integers(2, 4))
def test_a_grid_has_size_distinct_points(points):
    space = space_of(EVERY_KIND)
    draws = [space.grid_point(points, i) for i in range(int(space.size(points)))]
    plans = {space.suggest(FixedSuggester(draw)) for draw in draws}
    assert len(plans) == len(draws)


def test_grid_points_are_valid_parameters_in_optuna():
    space = space_of(EVERY_KIND)
    with warnings.catch_warnings():
        # Optuna warns about a value outside its distribution.
        warnings.simplefilter("error")
        for draw in (space.grid_point(5, i) for i in range(0, int(space.size(5)), 7)):
            study = optuna.create_study()
            study.enqueue_trial(dict(draw))
            trial = study.ask()
            space.suggest_tables(trial)
            assert trial.params == draw
            study.tell(trial, 0.0)


@pytest.mark.parametrize("domain", [Range(0.62, 1.86), Range(0.4, 1.2, step=0.8)])
def test_rounding_moves_no_grid_point_out_of_its_range(domain):
    # In floats, 0.62 + (1.86 - 0.62) and 0.4 + 0.8 are above the upper ends.
    assert [domain.grid_point("x", 2, i)["x"] for i in range(2)] == [domain.low, domain.high]


@given(low=st.floats(1e-6, 1e6), width=st.floats(1e-6, 1e6), points=st.integers(3, 20))
def test_grid_points_are_evenly_spaced_on_their_scale(low, width, points):
    for domain, scale in (
        (Range(low, low + width), float),
        (Range(low, low + width, log=True), math.log),
    ):
        values = [scale(domain.grid_point("x", points, i)["x"]) for i in range(points)]
        ends = scale(domain.low), scale(domain.high)
        even = [ends[0] + i / (points - 1) * (ends[1] - ends[0]) for i in range(points)]
        assert values == pytest.approx(even, rel=1e-9, abs=1e-9)


def test_sizes_multiply_over_hyperparameters_and_add_over_families():
    space = space_of(EVERY_KIND)
    sizes = {name: families.size(5) for name, families in space.searched().items()}
    assert sizes == {"u": 5 + 2 * 11 * 3 + 5**2 + (5 + 5), "g": 5**2 + 1}
    assert space.size(5) == sizes["u"] * sizes["g"]
    assert math.isinf(space.size())


def test_a_size_too_large_for_a_float_is_exact():
    levels = {"segments": 1000, "values": {"levels": [0.0, 0.5, 1.0]}}
    space = space_of(searching({"constant": {"value": {"levels": [1, 2]}}, "piecewise": levels}))
    assert space.size() == 2 + 3**1000
    assert space_of(searching({"piecewise": levels})).size() == math.inf


def test_a_range_from_a_number_to_itself_is_that_number():
    content = searching({"linear": {"initial": {"low": 1, "high": 1}, "final": {"levels": [2]}}})
    content["hyperparameters"]["u"]["families"].pop("constant")
    space = space_of(content)
    assert space.is_config
    assert space.plan().schedules["u",] == Linear(1.0, 2.0)


def test_segments_have_independent_values():
    families = {"piecewise": {"segments": 3, "values": {"low": 0.0, "high": 1.0}}}
    draw = {"u.family": "piecewise"} | {f"u.piecewise.values.{i}": i / 2 for i in range(3)}
    plan = space_of(searching(families)).suggest(FixedSuggester(draw))
    assert plan.schedules["u",] == Piecewise((0.0, 0.5, 1.0))


def test_the_constant_of_a_group_has_a_value_for_each_member():
    draw = {"u.family": "constant", "u.constant.value": 0.0, "g.family": "constant"}
    draw |= {"g.constant.value.0": 2.0, "g.constant.value.1": 3.0}
    plan = space_of(EVERY_KIND).suggest(FixedSuggester(draw))
    assert plan.schedules["weights.a",] == Constant(2.0)
    assert plan.schedules["weights.b",] == Constant(3.0)


def test_a_space_with_choices_has_no_plan():
    with pytest.raises(
        InputError, match=r"small is a space, not a config: it searches weights\.penalty"
    ):
        space_of(small()).plan()


# --- the baseline ---------------------------------------------------------------------------------


def test_the_baseline_has_every_default(shipped):
    plan = shipped.baseline()
    tables = shipped.document.hyperparameters
    assert plan.values(plan.start()) == {name: table.default for name, table in tables.items()}


def test_the_baseline_parameters_suggest_the_baseline(shipped):
    drawn = shipped.suggest(FixedSuggester(shipped.baseline_parameters()))
    assert drawn == shipped.baseline()


@pytest.mark.parametrize(
    ("value", "default", "parameters"),
    [
        ({"low": 0.0, "high": 1.0}, 0.3, {"u.constant.value": 0.3}),
        ({"low": 0.0, "high": 1.0}, 1.3, None),
        ({"low": 0.0, "high": 1.0, "step": 0.1}, 0.3, {"u.constant.value": 0.3}),
        ({"low": 0.0, "high": 1.0, "step": 0.1}, 0.35, None),
        ({"levels": [0.1, 0.3]}, 0.3, {"u.constant.value.level": 1}),
        ({"levels": [0.1, 0.3]}, 0.2, None),
        (0.3, 0.3, {}),
        (0.3, 0.4, None),
    ],
)
def test_the_baseline_has_parameters_if_the_constants_contain_the_default(
    value, default, parameters
):
    linear = {"initial": 0.0, "final": {"low": 0.0, "high": 1.0}}
    content = searching({"constant": {"value": value}, "linear": linear})
    content["hyperparameters"]["u"]["default"] = default
    expected = {} if parameters is None else {"u.family": "constant"} | parameters
    assert space_of(content).baseline_parameters() == expected


def test_defaults_of_the_task_are_used_where_the_file_has_none():
    space = space_of(EVERY_KIND).with_defaults({"u": 9.0, "weights.a": 2.0, "weights.b": 3.0})
    defaults = {name: table.default for name, table in space.document.hyperparameters.items()}
    assert defaults == {"u": 0.5, "weights.a": 2.0, "weights.b": 3.0}
    parameters = space.baseline_parameters()
    assert (parameters["g.constant.value.0"], parameters["g.constant.value.1"]) == (2.0, 3.0)


def test_a_config_of_version_0_1_loads_with_its_plan():
    config = Space.load(Path(__file__).parents[1] / "data" / "config_0_1.toml")
    assert (config.task, config.horizon) == ("schedsearch.tasks.two_losses:TwoLosses", 60)
    assert config.plan() == Plan(
        {
            ("lr",): ReduceOnPlateau(initial=0.01, factor=0.5, patience=3),
            ("weights.l2",): Constant(0.8),
            ("weights.l1",): IncrementOnImprovement(initial=0.2, increment=0.01),
        },
        bounds={"weights.l1": (0.0, 1.0)},
    )


def test_words_of_a_file_are_shown_as_in_the_file() -> None:
    assert str(Levels((True, False))) == "one of true, false"
    assert str(Fixed(True)) == "true"
    linear = {"endpoint": True, "initial": 1.0, "final": 0.0}
    assert describe_families({"linear": linear}) == "linear(initial=1, final=0, endpoint=true)"
