"""An invalid space is refused with all its problems: file, key, value, rule, and a hint."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schedsearch.errors import FileError, SchedSearchError
from schedsearch.schedules import CURRENT_VERSION, FAMILIES
from schedsearch.schedules.parameters import parameters_of
from schedsearch.space import Space
from tests.space.documents import searching, small


def problems_of(content):
    """Return the problems of a file, without the file name at the beginning of each."""
    with pytest.raises(FileError) as refused:
        Space.from_document(content, "file.toml")
    lines = str(refused.value).splitlines()
    assert all(line.startswith("file.toml: ") for line in lines)
    return [line.removeprefix("file.toml: ") for line in lines]


PENALTY = "hyperparameters__weights.penalty"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": None}, "task: is missing"),
        ({"task": 3}, "task = 3: must be text"),
        ({"horizon": 0}, "horizon = 0: must be at least 1"),
        ({"horizon": "60"}, "horizon = '60': must be a whole number"),
        ({"horizon": 2.5}, "horizon = 2.5: must be a whole number"),
        (
            {"name": "a b"},
            "name = 'a b': must consist of letters, digits and the characters _ . @ + -",
        ),
        ({"objective": "val_loss"}, "objective = 'val_loss': must be a table"),
        (
            {"objective__metrik": "a"},
            "objective.metrik = 'a': unknown key (hint: did you mean `metric`",
        ),
        (
            {"objective__direction": "maximise"},
            "'maximise': must be one of minimize, maximize (hint: did you mean `maximize`?)",
        ),
        (
            {"hyperparameter": {}},
            "hyperparameter: unknown key (hint: did you mean `hyperparameters`",
        ),
        ({"trials": 30}, "trials = 30: unknown key (hint: move it to [search])"),
        (
            {"search__trails": 3},
            "search.trails = 3: unknown key (hint: did you mean `trials`?)",
        ),
        ({"search__trials": 0}, "search.trials = 0: must be at least 1"),
        ({"search__seed": 2**31}, "search.seed = 2147483648: must be less than 2147483648"),
        ({"search__sampler__name": "tpee"}, "(hint: did you mean `tpe`?)"),
        ({"search__sampler__constants": 1.5}, "search.sampler.constants = 1.5: must be at most 1"),
        (
            {"search__pruner": {"nme": "asha"}},
            "search.pruner.nme = 'asha': unknown key (hint: did you mean `name`?)",
        ),
        (
            {"arguments": {"widths": [1, 2]}},
            "arguments.widths = [1, 2]: must be text, a number, true or false",
        ),
        ({"hyperparameters": []}, "hyperparameters = []: must be a table"),
        (
            {"hyperparameters__lr__defualt": 1},
            "hyperparameters.lr.defualt = 1: unknown key (hint: did you mean `default`?)",
        ),
        (
            {"hyperparameters__lr__default": True},
            "hyperparameters.lr.default = True: must be a number",
        ),
        (
            {"hyperparameters__lr__default": 2.0},
            "hyperparameters.lr.default = 2.0: must be within the bounds [0.0, 1.0]",
        ),
        (
            {"hyperparameters__lr__bounds": [1.0, 0.0]},
            "hyperparameters.lr.bounds = [1.0, 0.0]: must be [low, high] with low <= high",
        ),
        ({"hyperparameters__lr__bounds": [1.0]}, "hyperparameters.lr.bounds.1: is missing"),
        (
            {"hyperparameters__lr__bounds": 1.0},
            "hyperparameters.lr.bounds = 1.0: must be a list: [low, high]",
        ),
        (
            {"hyperparameters__a,b": {}},
            "hyperparameters.a,b = 'a,b': must be a name without spaces and commas",
        ),
        (
            {"hyperparameters__weights": {"kl": {"default": 1.0}}},
            '(hint: put a name with a dot in quotes: [hyperparameters."weights.kl"])',
        ),
        (
            {f"{PENALTY}__families": 3},
            "hyperparameters.weights.penalty.families = 3: must be a table",
        ),
    ],
)
def test_a_problem_of_a_table_is_reported(changes, message):
    [line] = problems_of(small(**changes))
    assert message in line


@pytest.mark.parametrize(
    ("families", "message"),
    [
        (
            {"exponental": {}},
            "exponental: unknown family (hint: did you mean `exponential`?)",
        ),
        ({"linear": 3}, "linear = 3: must be a table of parameters"),
        ({"linear": {"initial": 0.0}}, "linear.final: is missing and has no default"),
        (
            {"exponential": {"initial": 1.0, "decayrate": 0.9}},
            "decayrate = 0.9: unknown parameter (hint: did you mean `decay_rate`?)",
        ),
        ({"linear": {"initial": "a", "final": 1}}, "linear.initial = 'a': must be a number"),
        (
            {"linear": {"initial": "1e-4", "final": 1}},
            "YAML reads 1e-4 as text, and 1.0e-4 as a number",
        ),
        (
            {"linear": {"initial": 0.0, "final": 1, "duration": "20"}},
            "linear.duration = '20': must be a whole number of epochs, or a share",
        ),
        (
            {"linear": {"initial": 0.0, "final": 1, "duration": 0}},
            "linear.duration = 0: must be more than 0 epochs",
        ),
        (
            {"exponential": {"initial": 1.0, "decay_rate": {"low": 0.0, "high": 1.0}}},
            "decay_rate.low = 0.0: must be greater than 0",
        ),
        ({"piecewise": {"values": 3}}, "piecewise.values = 3: must be a list, each item a number"),
        (
            {"piecewise": {"values": []}},
            "piecewise.values = []: must be a list of at least one item, each a number",
        ),
        (
            {"exponential": {"initial": 1.0, "decay_rate": 0.9, "final": 0.1}},
            "exponential.final = 0.1: unknown parameter (hint: an exponential curve to a final "
            "value is the family `geometric`)",
        ),
        (
            {
                "product": {
                    "schedules": [
                        {"constant": {"value": 1.0}},
                        {"coupled": {"to": "w2", "factor": {"constant": {"value": 1}}}},
                    ]
                }
            },
            "hyperparameters.u.families.product.schedules.1.coupled.to = 'w2': must be",
        ),
        (
            {
                "warmup_stable_decay": {
                    "initial": 0.0,
                    "peak": 0.0,
                    "final": 0.1,
                    "cooldown": "exponential",
                }
            },
            "warmup_stable_decay.peak = 0.0: must be greater than 0 if `cooldown` is exponential",
        ),
        (
            {"piecewise": {"segments": 0, "values": {"low": 0.0, "high": 1.0}}},
            "segments = 0: must be a whole number from 1 to 1000",
        ),
        ({"dwa": {}}, "dwa: is a family for groups: move it to [groups.NAME.families]"),
        (
            {"coupled": {"to": "lr", "factor": 3}},
            "coupled.factor = 3: must be a table of at least one family",
        ),
        (
            {"coupled": {"to": "lr", "factor": {}}},
            "coupled.factor = {}: must be a table of at least one family",
        ),
        (
            {"coupled": {"to": {"low": 1, "high": 2}, "factor": {"constant": {"value": 1}}}},
            "must be a name, or { levels = [...] }",
        ),
        (
            {"coupled": {"to": "v", "factor": {"constant": {"value": 1}}}},
            "hyperparameters.u.families.coupled.to = 'v': must be a hyperparameter of the file "
            "(hint: add [hyperparameters.v])",
        ),
        (
            {"coupled": {"to": "u", "factor": {"constant": {"value": 1}}}},
            "hyperparameters.u.families.coupled.to = 'u': must be another hyperparameter, not the",
        ),
        (
            {"product": {"schedules": [{"constant": {"value": 0.1}}]}},
            "families.product.schedules: is 1 schedule, but must be at least two schedules",
        ),
        (
            {"sum": {"schedules": [{"constant": {"value": {"low": 0.1, "high": 1.0}}}]}},
            "families.sum.schedules: is 1 schedule, but must be at least two schedules",
        ),
        (
            {"linear": {"initial": 1.0, "final": 0.0, "duration": "-5%"}},
            "families.linear.duration = '-5%': must be more than 0 epochs",
        ),
        (
            {"one_cycle": {"initial": 1.0, "peak": 2.0, "final": 0.0, "rise": {"levels": ["-5%"]}}},
            "families.one_cycle.rise.levels.0 = '-5%': must be at least 0 epochs",
        ),
        (
            {"clamp": {"low": 1.0, "high": 0.0, "inner": {"constant": {"value": 1}}}},
            "hyperparameters.u.families.clamp.low = 1.0: must be at most `high`, which is 0.0",
        ),
        (
            {
                "clamp": {
                    "low": {"low": 1.0, "high": 1.0},
                    "high": {"levels": [0.0]},
                    "inner": {"constant": {"value": 1}},
                }
            },
            "must be at most `high`",
        ),
    ],
)
def test_a_problem_of_a_family_is_reported(families, message):
    lines = problems_of(searching(families))
    assert any(message in line for line in lines), lines
    assert len(lines) == (2 if "lr" in str(families) else 1)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"low": 1.0, "high": 0.5}, "value.low = 1.0: must be at most `high`, which is 0.5"),
        (
            {"low": 0.0, "high": 1.0, "log": True},
            "value.low = 0.0: must be greater than 0 on a log scale",
        ),
        ({"low": -1.0, "high": 1.0, "log": True}, "greater than 0 on a log scale"),
        ({"low": 0.0, "high": 1.0, "log": 1}, "value.log = 1: must be true or false"),
        ({"low": 0.0}, "value.high: is missing: a range has low and high"),
        (
            {"low": 0.0, "hihg": 1.0},
            "value.hihg = 1.0: unknown key of a range (hint: did you mean `high`?)",
        ),
        ({"low": 0.0, "high": 1.0, "level": [1]}, "(hint: did you mean `levels`?)"),
        ({"low": "a", "high": 1.0}, "value.low = 'a': must be a number"),
        (
            {"low": 0.0, "high": 1.0, "step": 0.0},
            "value.step = 0.0: must be a number greater than 0",
        ),
        (
            {"low": 0.0, "high": 1.0, "step": True},
            "value.step = True: must be a number greater than 0",
        ),
        (
            {"low": 0.0, "high": 1.0, "step": "10%"},
            "value.step = '10%': must be a number greater than 0",
        ),
        (
            {"low": 0.0, "high": 1.0, "step": 0.3},
            "must lead from `low` to `high` exactly, but high is 1.0 (hint: high = 0.9)",
        ),
        ({"low": 0.0, "high": 1.0, "step": 2.0}, "must divide the range into 1 to 1,000,000 steps"),
        (
            {"low": 0.1, "high": 1.0, "step": 0.1, "log": True},
            "value.step = 0.1: cannot be combined with `log`",
        ),
        ({"low": -1e308, "high": 1e308}, "is too wide"),
        ({"levels": []}, "value.levels = []: must be a list of at least one value"),
        ({"levels": [1.0, 1.0]}, "must not repeat a value"),
        ({"levels": [1.0, "b"]}, "value.levels.1 = 'b': must be a number"),
        ({"levels": [1.0, 2.0], "low": 1.0}, "value.low = 1.0: cannot be combined with `levels`"),
    ],
)
def test_a_problem_of_a_range_is_reported(value, message):
    [line] = problems_of(searching({"constant": {"value": value}}))
    assert line.startswith("hyperparameters.u.families.constant.value")
    assert message in line


@pytest.mark.parametrize(
    ("duration", "message"),
    [
        ({"low": 1, "high": "50%"}, "must be all in epochs or all in shares of the horizon"),
        ({"low": "10%", "high": "50%", "step": 5}, "must be all in epochs or all in shares"),
        ({"low": 1, "high": 5, "step": 0.5}, "duration.step = 0.5: must be a whole number"),
        ({"low": "10%", "high": "50%", "step": "15%"}, "(hint: high = 40%)"),
    ],
)
def test_a_problem_of_a_range_of_durations_is_reported(duration, message):
    [line] = problems_of(
        searching({"linear": {"initial": 0.0, "final": 1.0, "duration": duration}})
    )
    assert message in line


def test_the_hint_for_a_missing_constant_has_the_lines_to_add():
    content = small(**{f"{PENALTY}__families__constant": None})
    assert problems_of(content) == [
        "hyperparameters.weights.penalty.families: needs a `constant` family, the baseline of "
        'the schedules (hint: add [hyperparameters."weights.penalty".families.constant] with '
        "value = { low = 0.0, high = 0.5 })"
    ]


def test_a_config_needs_no_constant():
    fixed = {"linear": {"initial": 0.0, "final": 1.0}}
    content = small(**{f"{PENALTY}__families": fixed})
    assert Space.from_document(content, "file.toml").is_config


MEMBERS = ["weights.a", "weights.b"]
GROUP = {"constant": {"value": {"low": 0.1, "high": 1.0}}, "dwa": {}}


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        (
            {"g": {"members": ["weights.a"], "families": GROUP}},
            "groups.g.members = ['weights.a']: must have at least 2 items",
        ),
        (
            {"g": {"members": ["weights.a", "b"], "families": GROUP}},
            "groups.g.members = 'b': must be the weight of a loss term, named weights.TERM",
        ),
        (
            {"g": {"members": ["weights.a", "weights.a"], "families": GROUP}},
            "groups.g.members = 'weights.a': is already a member of groups.g",
        ),
        (
            {
                "g": {"members": MEMBERS, "families": GROUP},
                "h": {"members": ["weights.c", "weights.b"], "families": GROUP},
            },
            "groups.h.members = 'weights.b': is already a member of groups.g",
        ),
        (
            {"g": {"members": MEMBERS, "families": {"linear": {"initial": 0.0, "final": 1.0}}}},
            "groups.g.families.linear: is a family for one hyperparameter",
        ),
        (
            {"g": {"members": MEMBERS, "families": {}}},
            "groups.g.families = {}: must be a table of at least one family",
        ),
        ({"g": {"members": MEMBERS}}, "groups.g.families: is missing"),
        (
            {
                "g": {
                    "members": MEMBERS,
                    "families": {"dwa": {"temperature": {"low": 0.5, "high": 1.0}}},
                }
            },
            "[groups.g.families.constant]",
        ),
        (
            {"g": {"members": MEMBERS, "families": {"target_contribution": {"targets": [1.0]}}}},
            "targets",
        ),
        (
            {"u": {"members": MEMBERS, "families": GROUP}},
            "groups.u: is also the name of a hyperparameter: rename the group",
        ),
    ],
)
def test_a_problem_of_a_group_is_reported(groups, message):
    [line] = problems_of(searching({}, groups=groups))
    assert message in line


def test_a_member_of_a_group_cannot_have_families():
    content = small(groups={"g": {"members": ["weights.penalty", "weights.b"], "families": GROUP}})
    assert problems_of(content) == [
        "groups.g.members = 'weights.penalty': also has "
        "hyperparameters.weights.penalty.families: remove one of the two"
    ]


def test_a_cycle_of_couplings_in_inner_schedules_is_refused():
    def coupled(to):
        inner = {"coupled": {"to": to, "factor": {"constant": {"value": 1.0}}}}
        return {"families": {"warmup": {"inner": inner}}}

    content = small(hyperparameters={"a": coupled("b"), "b": coupled("a")})
    assert problems_of(content) == [
        "hyperparameters.b.families.warmup.inner.coupled.to = 'a': must not be coupled in a cycle: "
        "a -> b -> a"
    ]


def test_all_problems_of_a_file_are_reported_at_once():
    content = small(
        horizon=-1,
        hyperparameters__lr__default=7.0,
        hyperparameters__lr__familys={},
        groups={"g": {"members": ["weights.penalty", "kl"], "families": GROUP}},
        **{f"{PENALTY}__families__exponental": {}, f"{PENALTY}__families__constant": None},
    )
    problems = problems_of(content)
    for key in (
        "horizon",
        "hyperparameters.lr.familys",
        "hyperparameters.lr.default",
        "hyperparameters.weights.penalty.families.exponental",
        "hyperparameters.weights.penalty.families: needs a `constant`",
        "groups.g.members = 'weights.penalty'",
        "groups.g.members = 'kl'",
    ):
        assert sum(line.startswith(key) for line in problems) == 1, (key, problems)
    assert len(problems) == 7


def test_long_values_are_shortened_and_control_characters_are_escaped():
    [line] = problems_of(small(horizon="9" * 5000))
    assert len(line) < 120
    [line] = problems_of(small(**{"\x1b[31mred\n": 1}))
    assert "\x1b" not in line


# --- fuzz -----------------------------------------------------------------------------------------

KEYS = [
    "name", "task", "horizon", "objective", "search", "sampler", "hyperparameters", "groups", "lr",
    "u", "members", "families", "default", "bounds", "low", "high", "log", "step", "levels", "to",
    "factor", "inner", "segments", "points", "values", "constant", "weights.a", "term",
    *FAMILIES, *{p.name for cls in FAMILIES.values() for p in parameters_of(cls)},
]  # fmt: skip
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([0, 1, 0.5, "10%", "x", "lr", "u", "weights.a", *FAMILIES]),
    st.text(max_size=5),
)
KEY = st.sampled_from(KEYS)
VALUES = st.recursive(
    SCALARS, lambda v: st.lists(v, max_size=3) | st.dictionaries(KEY, v, max_size=4), max_leaves=12
)
PARAMETERS = st.dictionaries(KEY, VALUES, max_size=4)
FAMILY_TABLES = st.dictionaries(st.sampled_from(list(FAMILIES)), PARAMETERS, max_size=3)


@settings(max_examples=150)
@given(
    changes=st.dictionaries(KEY, VALUES, max_size=3),
    families=FAMILY_TABLES,
    group=FAMILY_TABLES | VALUES,
    table=st.dictionaries(KEY, VALUES, max_size=3),
)
def test_any_content_is_a_space_or_an_error(changes, families, group, table):
    content = searching(
        families, groups={"g": {"members": ["weights.a", "weights.b"], "families": group}}
    )
    content["hyperparameters"]["lr"] = table
    try:
        space = Space.from_document(content | changes, "file.toml")
    except SchedSearchError:
        return
    assert Space.from_document(space.to_document(), "again.toml") == space


LOG = {"low": 0.01, "high": 0.5, "log": True}
ABOVE = "must be greater than 0, as all its constants are: trial 0 trains with it"
NOT_BELOW = "must be at least 0, as all its constants are: trial 0 trains with it"


def with_default(name, default, constants=LOG):
    table = {"default": default, "families": {"constant": {"value": constants}}}
    return small() | {"hyperparameters": {name: table}}


@pytest.mark.parametrize(
    ("name", "default", "constants", "rule"),
    [
        ("lr", -0.1, LOG, ABOVE),
        ("lr", 0.0, LOG, ABOVE),
        ("generator.lr", 0, {"levels": [0.1, 0.2]}, ABOVE),
        ("weights.lr", -1.0, {"levels": [0.1, 0.2]}, NOT_BELOW),
        ("weights.penalty", -0.1, {"low": 0.0, "high": 1.0}, NOT_BELOW),
        ("momentum", -0.5, {"levels": [0.0, 0.9]}, NOT_BELOW),
    ],
)
def test_a_default_with_another_sign_than_all_constants_is_refused(name, default, constants, rule):
    with pytest.raises(FileError) as refused:
        Space.from_file(with_default(name, default, constants), "file.toml")
    value = float(default)
    assert str(refused.value) == f"file.toml: hyperparameters.{name}.default = {value}: {rule}"


@pytest.mark.parametrize(
    ("name", "default", "constants"),
    [
        ("weight_decay", 0.0, LOG),
        ("weights.lr", 0.0, LOG),
        ("lr", 5.0, LOG),
        ("lr", 0.0, {"low": 0.0, "high": 1.0}),
        ("shift", -3.0, {"low": -1.0, "high": 1.0}),
    ],
)
def test_a_default_outside_the_range_with_a_sign_of_the_constants_is_valid(
    name, default, constants
):
    space = Space.from_file(with_default(name, default, constants), "file.toml")
    assert space.document.hyperparameters[name].default == default


def test_a_negative_default_of_a_group_member_is_refused():
    members = ["weights.a", "weights.b"]
    constant = {"constant": {"value": {"low": 0.1, "high": 1.0}}}
    content = small() | {
        "hyperparameters": {"weights.b": {"default": -1.0}},
        "groups": {"g": {"members": members, "families": constant}},
    }
    with pytest.raises(FileError, match=r"hyperparameters\.weights\.b\.default = -1.0: must be at"):
        Space.from_file(content, "file.toml")


def test_a_study_and_a_config_keep_a_default_that_no_new_space_may_have():
    content = with_default("lr", -0.1)
    stored = Space.from_document(content, "file.toml")
    assert Space.from_file(content, "file.toml", stored) == Space.from_document(
        content | {"schedule_version": CURRENT_VERSION}, "file.toml"
    )
    other = with_default("lr", -0.2)
    with pytest.raises(FileError, match=r"hyperparameters\.lr\.default = -0.2: must be greater"):
        Space.from_file(other, "file.toml", stored)
    config = with_default("lr", -0.1, 0.3)
    assert Space.from_file(config, "file.toml").is_config


def test_whether_values_are_rounded_is_true_or_false() -> None:
    content = searching({})
    content["hyperparameters"]["u"]["round"] = "yes"
    [line] = problems_of(content)
    assert "hyperparameters.u.round = 'yes': must be true or false" in line
