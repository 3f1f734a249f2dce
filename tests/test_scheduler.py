"""The scheduler: saved state, direction, clamped values, and setting an optimizer."""

import hashlib
import json
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from schedsearch.errors import InputError
from schedsearch.files import write_document
from schedsearch.plan import Plan
from schedsearch.scheduler import Scheduler
from schedsearch.schedules import (
    Clamp,
    Constant,
    Cosine,
    Coupled,
    Cyclical,
    Dwa,
    Exponential,
    IncrementOnImprovement,
    IncrementOnPlateau,
    Join,
    Linear,
    Noise,
    Offset,
    OneCycle,
    Product,
    ReduceOnPlateau,
    Relobralo,
    Scale,
    Triangular,
    WarmRestarts,
    Warmup,
    WarmupStableDecay,
)
from schedsearch.space import Space
from schedsearch.space.cut_phases import cut_phase_warnings
from tests.saved_states import check_refused
from tests.schedules.strategies import MEMBERS, TERMS, feedbacks, plans


@pytest.mark.filterwarnings("ignore:.*the horizon")  # of some drawn plans
@given(
    plan=plans(),
    before=st.lists(feedbacks, max_size=8),
    after=st.lists(feedbacks, min_size=1, max_size=8),
    direction=st.sampled_from(["minimize", "maximize"]),
)
def test_a_scheduler_continues_identically_from_a_state_that_was_json(
    plan, before, after, direction
):
    try:
        saved, restored = (Scheduler(plan, horizon=20, direction=direction) for _ in range(2))
    except InputError:
        return  # values that overflow within the horizon
    for feedback in before:
        saved.step(feedback.metric, terms=feedback.terms)
    restored.load_state_dict(json.loads(json.dumps(saved.state_dict(), allow_nan=False)))
    for feedback in after:
        assert (restored.values, restored.epoch) == (saved.values, saved.epoch)
        for scheduler in (saved, restored):
            scheduler.step(feedback.metric, terms=feedback.terms)
    assert restored.state_dict() == saved.state_dict()


def test_a_saved_state_does_not_change_with_the_scheduler():
    scheduler = Scheduler(Plan({("a",): Exponential(1.0, 0.5)}), horizon=3)
    saved = scheduler.state_dict()
    scheduler.step(0.1)
    assert saved == {
        "epoch": 0,
        "schedules": {"a": {"epoch": 0}},
        "plan": scheduler.plan.digest,
        "direction": "minimize",
        "horizon": 3,
        "seed": 0,
        "tables": scheduler.plan.to_tables(),
    }


@pytest.mark.parametrize(
    "other",
    [
        {("b",): Constant(1.0)},
        {("a",): IncrementOnImprovement(0.0, 1.0)},
        {("a",): Constant(2.0)},
        {},
    ],
)
def test_a_state_of_another_plan_is_refused(other):
    scheduler = Scheduler(Plan({("a",): Constant(1.0)}), horizon=3)
    with pytest.raises(InputError, match="the state belongs to another plan"):
        scheduler.load_state_dict(Scheduler(Plan(other), horizon=3).state_dict())


def test_a_state_of_the_same_plan_at_another_horizon_is_refused():
    schedules = {("a",): Join((Linear(1.0, 0.0), ReduceOnPlateau(1.0)), ("50%",))}
    saved = Scheduler(Plan(schedules), horizon=8).state_dict()
    with pytest.raises(InputError, match="its horizon is 8 in the state, but 10 here"):
        Scheduler(Plan(schedules), horizon=10).load_state_dict(saved)
    del saved["horizon"], saved["tables"]  # of an earlier release
    with pytest.raises(InputError, match="or to the same plan at another horizon"):
        Scheduler(Plan(schedules), horizon=10).load_state_dict(saved)


RELOBRALO = {MEMBERS: Relobralo(MEMBERS)}
NOISE = {("a",): Offset(Product((Constant(1.0), Noise(Constant(1.0)))), 1.0)}


@pytest.mark.parametrize("schedules", [RELOBRALO, NOISE], ids=["relobralo", "noise"])
def test_a_state_belongs_to_a_seed_if_the_plan_draws_random_numbers(schedules):
    saved = Scheduler(Plan(schedules), horizon=8, seed=3).state_dict()
    Scheduler(Plan(schedules), horizon=8, seed=3).load_state_dict(saved)
    with pytest.raises(InputError, match="its seed is 3 in the state, but 4 here"):
        Scheduler(Plan(schedules), horizon=8, seed=4).load_state_dict(saved)
    del saved["seed"]  # of an earlier release
    with pytest.raises(InputError, match="or to the same plan at another horizon or seed"):
        Scheduler(Plan(schedules), horizon=8, seed=4).load_state_dict(saved)


def test_a_state_loads_at_any_seed_if_the_plan_draws_no_random_numbers():
    plan = Plan({("a",): Exponential(1.0, 0.5), MEMBERS: Dwa(MEMBERS)})
    saved = Scheduler(plan, horizon=8, seed=3).state_dict()
    Scheduler(plan, horizon=8, seed=4).load_state_dict(saved)


def test_a_state_that_was_saved_before_states_had_plans_still_loads():
    scheduler = Scheduler(Plan({("a",): Exponential(1.0, 0.5)}), horizon=3)
    scheduler.load_state_dict({"epoch": 2, "schedules": {"a": {"epoch": 2}}})
    assert scheduler.values == {"a": 0.25}


def without_plan(state):
    return {key: value for key, value in state.items() if key in ("epoch", "schedules")}


def test_an_older_state_needs_the_rules_of_its_time():
    schedules = {("a",): WarmupStableDecay(0.0, 1.0, 0.0)}
    older = Plan(schedules).at_version(1)
    saved = without_plan(Scheduler(older, horizon=15).state_dict())
    with pytest.raises(InputError, match=r"saved by version 1 .* give its schedules version=1"):
        Scheduler(Plan(schedules), horizon=15).load_state_dict(saved)
    Scheduler(older, horizon=15).load_state_dict(saved)
    # At this horizon both versions have the same phases.
    Scheduler(Plan(schedules), horizon=10).load_state_dict(saved)


@pytest.mark.parametrize(
    "schedule",
    [Linear(1, 0), Join((Linear(1, 0.5), ReduceOnPlateau(1)), ("50%",)), Cosine(0.3, 0.1)],
    ids=lambda s: s.family,
)
def test_a_state_with_the_digest_of_an_earlier_release_loads(schedule):
    plan = Plan({("a",): schedule}, {"a": (0, 1)})
    for version in (1, 2, 3):
        older = plan.at_version(version).resolve(8, 0)
        # Numbers were hashed as they were given.
        content = json.dumps([older.to_tables(), []], sort_keys=True)
        digest = hashlib.sha256(content.encode()).hexdigest()
        state = Scheduler(plan, horizon=8).state_dict() | {"plan": digest}
        Scheduler(plan, horizon=8).load_state_dict(state)
        del state["horizon"]
        with pytest.raises(InputError, match="the state belongs to another plan"):
            Scheduler(plan, horizon=9).load_state_dict(state)


def test_a_state_with_a_digest_of_arguments_as_floats_loads():
    plan = Plan({("a",): Linear(1, 0)}, arguments={"n": 64})
    floats = replace(plan, arguments={"n": 64.0})
    tables = json.loads(json.dumps(plan.resolve(8, 0).to_tables()), parse_int=float)
    content = json.dumps([tables, []], sort_keys=True)
    digest = hashlib.sha256(content.encode()).hexdigest()
    state = Scheduler(plan, horizon=8).state_dict()
    Scheduler(plan, horizon=8).load_state_dict(state | {"plan": digest})
    with pytest.raises(InputError, match="the state belongs to another plan"):
        Scheduler(floats, horizon=8).load_state_dict(state)


def test_a_state_of_a_plan_whose_values_an_older_version_changes_is_refused():
    plan = Plan({("a",): Noise(Constant(1.0))})
    state = Scheduler(plan.at_version(2), horizon=8).state_dict()
    with pytest.raises(InputError, match="saved by version 2 of the rules"):
        Scheduler(plan, horizon=8).load_state_dict(state)
    Scheduler(plan.at_version(2), horizon=8).load_state_dict(state)


@pytest.mark.parametrize(
    ("schedule", "version"),
    [
        (Noise(Coupled(Constant(1.0), "peer")), 2),
        (Noise(IncrementOnPlateau(0.0, 0.25, patience=0)), 2),
        (Product((IncrementOnPlateau(0.0, 0.25, patience=0), Cyclical(0.0, 1.0, cycles=8))), 1),
    ],
    ids=["noise of a peer", "noise", "cycles"],
)
def test_a_state_is_refused_if_only_the_values_after_a_plateau_differ(schedule, version):
    plan = Plan({("a",): schedule, ("peer",): IncrementOnPlateau(0.0, 0.25, patience=0)})
    older, newer = (Scheduler(p, horizon=8) for p in (plan.at_version(version), plan))
    state = older.state_dict()
    assert older.values == newer.values
    for _ in range(7):
        older.step(1.0)
        newer.step(1.0)
    assert older.values["a"] != pytest.approx(newer.values["a"])
    with pytest.raises(InputError, match=f"saved by version {version} of the rules"):
        Scheduler(plan, horizon=8).load_state_dict(state)


def test_a_state_loads_into_the_equal_plan_from_tables():
    plan = Plan({("a",): Linear(1, 0), ("b",): WarmRestarts(1, -0.0, 2, 2.0)})
    again = Plan.from_tables(plan.to_tables())
    assert again == plan
    assert again.digest == plan.digest
    Scheduler(again, horizon=8).load_state_dict(Scheduler(plan, horizon=8).state_dict())


def test_an_older_state_of_another_inner_schedule_is_refused():
    inner = [ReduceOnPlateau(1.0), IncrementOnImprovement(1.0, 0.1)]
    plans = [Plan({("a",): Join((each, Constant(1.0)), (5,))}) for each in inner]
    older = Scheduler(plans[0], horizon=8).state_dict()
    del older["plan"], older["direction"]
    scheduler = Scheduler(plans[1], horizon=8)
    with pytest.raises(InputError, match="cannot continue from it"):
        scheduler.load_state_dict(older)
    assert scheduler.state_dict() == Scheduler(plans[1], horizon=8).state_dict()


def test_the_error_about_another_plan_names_the_key_and_its_values():
    plan, other = (Plan({("a",): Cosine(0.1, 0.0), ("b",): Linear(b, 0)}) for b in (1, 2))
    with pytest.raises(InputError) as refused:
        Scheduler(other, horizon=3).load_state_dict(Scheduler(plan, horizon=3).state_dict())
    assert "hyperparameters.b.families.linear.initial is 1 in the state, but 2 here" in str(
        refused.value
    )
    assert "cosine" not in str(refused.value)


HOSTILE = [
    (None, "the state is None, but must be what `state_dict` of a scheduler"),
    ("x", "the state is 'x'"),
    ([1], "the state is [1]"),
    ({}, "the state has no `epoch`, `schedules`"),
    ({"epoch": 1}, "the state has no `schedules`"),
    ({"last_epoch": 1, "base_lrs": [0.1]}, "the state has no `epoch`"),
    ({"epoch": "3"}, "`epoch` of the state is '3', but must be a whole number"),
    ({"epoch": True}, "`epoch` of the state is True"),
    ({"epoch": 2.5}, "`epoch` of the state is 2.5"),
    ({"epoch": float("nan")}, "`epoch` of the state is nan"),
    ({"epoch": None}, "`epoch` of the state is None"),
    ({"epoch": 1}, "`schedules.a.epoch` of the state is 0, but must be 1"),
    ({"schedules": [1]}, "`schedules` of the state is [1], but must be a table"),
    ({"schedules": None}, "`schedules` of the state is None"),
    ({"schedules": {"a": 3}}, "`schedules` of the state is {'a': 3}"),
    ({"schedules": {"a": {"epoch": float("nan")}}}, "`schedules.a.epoch` of the state is nan"),
    ({"schedules": {"a": {"epoch": 10**400}}}, "`schedules.a.epoch` of the state is 1000"),
    ({"schedules": {"a": {"epoch": "0"}}}, "`schedules.a.epoch` of the state is '0'"),
    ({"schedules": {"a": {"epoch": -5}}}, "`schedules.a.epoch` of the state is -5"),
    ({"schedules": {"a": {"epoch": b"0"}}}, "`schedules.a.epoch` of the state is b'0'"),
    ({"schedules": {"a": {}}}, "the state belongs to another plan"),
    ({"schedules": {}}, "the state belongs to another plan"),
    ({"horizon": "x"}, "its horizon is 'x' in the state, but 3 here"),
    ({"direction": [1]}, "its direction is [1] in the state"),
    ({"plan": [1]}, "the state belongs to another plan"),
    ({"plan": {}, "tables": "x"}, "the state belongs to another plan: its tables is 'x' in the"),
    ({"plan": {}, "tables": torch.ones(1)}, "its tables is tensor([1.]) in the state, but {"),
    ({"plan": np.zeros(3)}, "the state belongs to another plan"),
    ({"schedules": {"a": {"epoch": 0, 1: 2}}}, "the state belongs to another plan"),
]


@pytest.mark.parametrize(("changes", "message"), HOSTILE, ids=[str(m) for _, m in HOSTILE])
def test_what_is_not_a_state_is_refused(changes, message):
    scheduler = Scheduler(Plan({("a",): Exponential(1.0, 0.5)}), horizon=3)
    check_refused(scheduler, changes, message)


def nested(depth):
    value = 1.0
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("entry", "value"),
    [
        ("best", "x"),
        ("best", float("inf")),
        ("best", {}),
        ("bad_epochs", None),
        ("bad_epochs", True),
        ("bad_epochs", [3]),
        ("best", nested(100_000)),
        ("cooldown", "0"),
        ("value", float("nan")),
        ("value", 10**400),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: Noise(s)], ids=["alone", "inner"])
def test_a_schedule_refuses_a_state_that_it_cannot_continue_from(entry, value, wrap):
    scheduler = Scheduler(Plan({("a",): wrap(ReduceOnPlateau(1.0))}), horizon=8)
    scheduler.step(1.0)
    own = scheduler.state_dict()
    known = own["schedules"]["a"]
    assert entry in known.get("inner", known)
    changed = {**known.get("inner", known), entry: value}
    changed = {**known, "inner": changed} if "inner" in known else changed
    with pytest.raises(InputError, match="of the state"):
        scheduler.load_state_dict({**own, "schedules": {"a": changed}})
    assert scheduler.state_dict() == own


PEAK = {"initial": 0.0, "peak": 1.0, "final": 0.0}


@pytest.mark.parametrize(
    "schedule",
    [
        WarmupStableDecay(**PEAK, warmup=10, stable="70%", decay="20%"),
        WarmupStableDecay(**PEAK, warmup="20%", stable="90%", decay="30%"),
        OneCycle(**PEAK, rise=12, fall=10),
        Scale(OneCycle(**PEAK, rise=12, fall=10), factor=2.0),
        Warmup(OneCycle(**PEAK, rise=12, fall=10), duration=5),
        Warmup(Constant(1.0), duration=30),
        Join((Constant(1.0), OneCycle(**PEAK, rise=12, fall=10)), boundaries=("50%",)),
        Join((Constant(1.0), Constant(2.0)), boundaries=(25,)),
        Warmup(OneCycle(**PEAK, rise="50%", fall="50%"), duration=5),
        OneCycle(**PEAK, rise=12, fall="rest"),
        Triangular(initial=0.0, peak=1.0, rise=15, fall=15),
    ],
    ids=repr,
)
@pytest.mark.parametrize("interval", ["epoch", "step"])
def test_it_warns_of_phases_that_are_cut_as_a_file_of_the_plan_does(schedule, interval):
    plan = Plan({("lr",): schedule}, intervals={"lr": interval})
    content = {"name": "small", "task": "module:Task", "objective": {"metric": "val_loss"}}
    config = Space.from_document({**content, "horizon": 20, **plan.to_tables()}, "small.toml")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        Scheduler(plan, horizon=20)
    assert [str(each.message) for each in caught] == list(cut_phase_warnings(config))
    assert all(each.filename == __file__ for each in caught)
    config.scheduler()  # reading the file has warned


def test_a_state_of_a_negative_epoch_is_refused():
    scheduler = Scheduler(Plan({("a",): Exponential(1.0, 0.5)}), horizon=3)
    with pytest.raises(InputError, match="`epoch` of the state is -1"):
        scheduler.load_state_dict(scheduler.state_dict() | {"epoch": -1})


def test_a_state_of_another_direction_is_refused():
    plan = Plan({("a",): ReduceOnPlateau(1.0)})
    saved = Scheduler(plan, horizon=8, direction="maximize").state_dict()
    with pytest.raises(InputError, match="its direction is 'maximize' in the state"):
        Scheduler(plan, horizon=8).load_state_dict(saved)


def test_the_direction_determines_what_an_improvement_is():
    plan = Plan({("a",): IncrementOnImprovement(initial=0.0, increment=1.0)})
    up, down = Scheduler(plan, horizon=9, direction="maximize"), Scheduler(plan, horizon=9)
    for metric in (1.0, 2.0, 3.0):
        up.step(metric)
        down.step(metric)
    assert (up.values["a"], down.values["a"]) == (3.0, 1.0)


def test_metrics_and_terms_may_be_tensors():
    plan = Plan({MEMBERS: Dwa(members=MEMBERS), ("a",): IncrementOnImprovement(0.0, 1.0)})
    scheduler = Scheduler(plan, horizon=5)
    for _ in range(3):
        terms = {term: torch.tensor(2.0, requires_grad=True) for term in TERMS}
        scheduler.step(torch.tensor(0.5, requires_grad=True), terms=terms)
    json.dumps(scheduler.state_dict())
    assert scheduler.values["a"] == 1.0


def test_shares_of_the_horizon_are_converted_to_epochs():
    scheduler = Scheduler(Plan({("a",): Linear(0.0, 1.0, duration="50%")}), horizon=8)
    values = []
    for _ in range(8):
        values.append(scheduler.values["a"])
        scheduler.step(0.0)
    assert values == [0.0, 0.25, 0.5, 0.75, 1.0, 1.0, 1.0, 1.0]


def test_clamped_names_the_hyperparameters_clamped_in_the_next_epoch():
    scheduler = Scheduler(Plan({("a",): Exponential(1.0, 0.5)}, {"a": (0.3, 1.0)}), horizon=9)
    seen = []
    for _ in range(4):
        seen.append(scheduler.clamped)
        scheduler.step(0.0)
    assert seen == [(), (), ("a",), ("a",)]


# --- apply ----------------------------------------------------------------------------------------


def optimizer_with_groups(cls, **options):
    encoder, head = torch.nn.Linear(2, 2), torch.nn.Linear(2, 1)
    groups = [
        {"params": encoder.parameters(), "name": "encoder"},
        {"params": head.parameters(), "name": "head"},
    ]
    return cls(groups, **options)


def applied(optimizer, **values):
    plan = Plan({(name.replace("__", "."),): Constant(value) for name, value in values.items()})
    Scheduler(plan, horizon=1).apply(optimizer)
    return optimizer.param_groups


def test_apply_sets_only_keys_that_the_groups_have():
    encoder, head = applied(
        optimizer_with_groups(torch.optim.SGD, lr=1.0, momentum=0.0),
        lr=0.1,
        momentum=0.9,
        weight_decay=0.01,
        weights__kl=5.0,
    )
    for group in (encoder, head):
        assert (group["lr"], group["momentum"], group["weight_decay"]) == (0.1, 0.9, 0.01)
        assert not {"weights.kl", "kl"} & set(group)


@pytest.mark.parametrize("cls", [torch.optim.Adam, torch.optim.AdamW])
def test_momentum_is_the_first_beta_of_adam(cls):
    for group in applied(optimizer_with_groups(cls, betas=(0.9, 0.95)), lr=0.1, momentum=0.8):
        assert (group["lr"], group["betas"]) == (0.1, (0.8, 0.95))
        assert "momentum" not in group


def test_a_value_for_one_group_overrides_the_value_for_all():
    encoder, head = applied(
        optimizer_with_groups(torch.optim.AdamW), encoder__lr=0.001, lr=0.1, head__weight_decay=0.5
    )
    assert (encoder["lr"], head["lr"]) == (0.001, 0.1)
    assert (encoder["weight_decay"], head["weight_decay"]) == (0.01, 0.5)


def test_a_learning_rate_that_is_a_tensor_is_changed_in_place():
    rate = torch.tensor(1.0)
    optimizer = torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))], lr=rate)
    applied(optimizer, lr=0.25)
    assert optimizer.param_groups[0]["lr"] is rate
    assert rate == 0.25


def test_training_with_apply_equals_training_with_a_torch_scheduler():
    def train(set_lr):
        parameter = torch.nn.Parameter(torch.tensor([1.0, -2.0]))
        optimizer = torch.optim.SGD([parameter], lr=0.1)
        step = set_lr(optimizer)
        for _ in range(5):
            step()
            optimizer.zero_grad()
            parameter.square().sum().backward()
            optimizer.step()
        return parameter.detach()

    def ours(optimizer):
        scheduler = Scheduler(Plan({("lr",): Exponential(0.1, 0.5)}), horizon=5)

        def step():
            scheduler.apply(optimizer)
            scheduler.step(0.0)

        return step

    def theirs(optimizer):
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: 0.5**epoch)
        first = iter([True])

        def step():
            if not next(first, False):
                scheduler.step()

        return step

    assert torch.equal(train(ours), train(theirs))


def test_a_loaded_config_has_a_scheduler_for_its_plan_and_direction(tmp_path):
    plan = Plan({("lr",): Clamp(ReduceOnPlateau(1.0, 0.5, patience=0), 0.3, 1.0)})
    write_document(
        tmp_path / "best.json",
        {
            "name": "plan",
            "task": "module:Task",
            "horizon": 10,
            "objective": {"metric": "val_accuracy", "direction": "maximize"},
            **plan.to_tables(),
        },
    )
    scheduler = Space.load(tmp_path / "best.json").scheduler()
    values = []
    for accuracy in (0.5, 0.6, 0.6, 0.6):
        scheduler.step(accuracy)
        values.append(scheduler.values["lr"])
    assert values == [1.0, 1.0, 0.5, 0.3]


@pytest.mark.parametrize(
    "value",
    ["0.5", b"1e-3", bytearray(b"7"), None, [0.5], {}, 1j, torch.ones(2), 10**400],
    ids=lambda value: type(value).__name__,
)
def test_a_metric_that_is_not_a_number_is_refused(value):
    scheduler = Scheduler(Plan({("lr",): Constant(0.1)}), horizon=3)
    for step, what in (
        (lambda: scheduler.step(value), "the metric"),
        (lambda: scheduler.step(0.5, terms={"fit": value}), r"terms\['fit'\]"),
        (lambda: scheduler.step(0.5, metrics={"val_error": value}), r"metrics\['val_error'\]"),
    ):
        with pytest.raises(InputError, match=f"^{what} is .*, but must be a number"):
            step()
    assert scheduler.epoch == 0


def test_terms_and_metrics_without_names_are_refused():
    scheduler = Scheduler(Plan({("lr",): Constant(0.1)}), horizon=3)
    for options in ({"terms": [0.5]}, {"metrics": 0.5}):
        with pytest.raises(InputError, match="but must be numbers by name"):
            scheduler.step(0.5, **options)


def test_a_loop_that_reads_values_by_the_step_only_once_per_epoch_is_warned_once():
    plan = Plan({("lr",): Linear(1.0, 0.0, duration=4)}, intervals={"lr": "step"})
    scheduler = Scheduler(plan, horizon=4)
    assert scheduler.values == {"lr": 1.0}
    with pytest.warns(UserWarning, match=r"^lr may change at each optimizer step, .* at\(step"):
        scheduler.step(1.0)
    assert scheduler.values == {"lr": 0.75}
    scheduler.step(1.0)


@pytest.mark.parametrize("interval", ["step", "epoch"])
def test_a_loop_that_reads_each_value_is_not_warned(interval):
    plan = Plan({("lr",): Linear(1.0, 0.0, duration=4)}, intervals={"lr": interval})
    scheduler = Scheduler(plan, horizon=4)
    assert scheduler.values == {"lr": 1.0}
    if interval == "step":
        scheduler.at(0)  # an epoch may have one step
    scheduler.step(1.0)
    scheduler.step(1.0)  # nothing was read
