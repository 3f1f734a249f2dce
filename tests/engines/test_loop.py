"""Training loops of users, run one epoch at a time."""

import math
import random
import sys
import threading

import numpy as np
import pytest
import torch

from schedsearch.engines import EpochResult, make_engine
from schedsearch.engines.loop import LoopEngine
from schedsearch.epoch_values import EpochValues
from schedsearch.errors import SchedSearchError
from schedsearch.plan import Plan
from schedsearch.scheduler import Scheduler
from schedsearch.schedules import Constant, Cosine, Exponential, Linear, Multistep
from schedsearch.trajectories.snapshots import decode, encode


def loop_engine(train, threads=1):
    train.hyperparameters = {"lr": 0.1, "weights.kl": 1.0}
    engine = make_engine(train, horizon=3, numerics={"threads": threads})
    assert isinstance(engine, LoopEngine)
    return engine


EARLIER: set[threading.Thread] = set()
"""Threads of engines that tests before this one have left to the garbage collector."""


def train_threads():
    return [t for t in threading.enumerate() if t.name == "train" and t not in EARLIER]


@pytest.fixture(autouse=True)
def no_thread_is_left():
    EARLIER.clear()
    EARLIER.update(train_threads())
    yield
    assert not train_threads()


def test_the_loop_gets_its_run_and_all_values_including_defaults():
    seen = []

    def train(run):
        seen.append((run.seed, run.horizon, run.restored))
        for epoch, hp in run:
            seen.append((epoch, hp))
            run.report(val_loss=torch.tensor(0.5), terms={"kl": 2})

    engine = loop_engine(train)
    engine.fill(0, seed=7)
    assert engine.train_epoch([{"lr": 0.2}]) == [EpochResult({"val_loss": 0.5}, {"kl": 2.0})]
    engine.train_epoch([{}])
    engine.release(0)
    assert seen == [
        (7, 3, None),
        (0, {"lr": 0.2, "weights.kl": 1.0}),
        (1, {"lr": 0.1, "weights.kl": 1.0}),
    ]


def test_the_loop_waits_between_epochs():
    running = []

    def train(run):
        running.append("setup")
        for epoch, _ in run:
            running.append(epoch)
            run.report(val_loss=0.0)
        running.append("end")

    engine = loop_engine(train)
    engine.fill(0, seed=0)
    assert running == []
    for epochs in range(1, 4):
        engine.train_epoch([{}])
        assert running == ["setup", *range(epochs)]
    engine.test(0)
    assert running == ["setup", 0, 1, 2, "end"]


@pytest.mark.parametrize("epochs", [0, 1, 3])
def test_a_released_run_ends_with_its_thread_and_its_function(epochs):
    ended = []

    def train(run):
        for _ in run:
            run.report(val_loss=0.0)
        ended.append(list(run))

    engine = loop_engine(train)
    engine.fill(0, seed=0)
    for _ in range(epochs):
        engine.train_epoch([{}])
    engine.release(0)
    assert not train_threads()
    assert ended == ([[]] if epochs else [])


def test_filling_a_lane_ends_the_run_before():
    def train(run):
        for _ in run:
            run.report(val_loss=float(run.seed))

    engine = loop_engine(train)
    for seed in (1, 2):
        engine.fill(0, seed)
        assert engine.train_epoch([{}])[0].metrics == {"val_loss": seed}
        assert len(train_threads()) == 1
    engine.release(0)


def test_the_test_metrics_are_returned_after_the_loop():
    def train(run):
        for _ in run:
            run.report(val_loss=0.0)
        run.test(error=0.25, test_loss=1)

    engine = loop_engine(train)
    engine.fill(0, seed=0)
    engine.train_epoch([{}])
    assert engine.test(0) == {"test_error": 0.25, "test_loss": 1.0} == engine.test(0)


def test_a_loop_may_have_no_test_and_no_checkpoint():
    def train(run):
        for _ in run:
            run.report(val_loss=0.0)

    engine = loop_engine(train)
    engine.fill(0, seed=0)
    engine.train_epoch([{}])
    assert engine.snapshot(0) is None
    assert engine.test(0) == {}


def test_a_checkpoint_is_a_copy_and_belongs_to_its_epoch():
    weights = torch.zeros(2)

    def train(run):
        for epoch, _ in run:
            weights.add_(1)
            run.report(val_loss=0.0)
            if epoch != 1:
                run.checkpoint({"weights": weights})

    engine = loop_engine(train)
    engine.fill(0, seed=0)
    engine.train_epoch([{}])
    snapshot = engine.snapshot(0)
    engine.train_epoch([{}])
    assert engine.snapshot(0) is None
    assert snapshot.epoch == 1
    assert snapshot.extra["state"]["weights"].tolist() == [1, 1]
    engine.release(0)


def test_a_resumed_run_continues_at_its_epoch():
    def train(run):
        total = run.restored or 0
        for epoch, _ in run:
            total += 10**epoch
            run.report(total=total)
            run.checkpoint(total)

    engine = loop_engine(train)
    engine.fill(0, seed=0)
    engine.train_epoch([{}])
    engine.train_epoch([{}])
    snapshot = engine.snapshot(0)
    engine.fill(0, seed=0, snapshot=snapshot)
    assert engine.train_epoch([{}])[0].metrics == {"total": 111.0}
    engine.release(0)


def test_a_loop_that_never_reads_restored_is_not_resumed():
    def train(run):
        total = 0
        for epoch, _ in run:
            total += 10**epoch
            run.report(total=total)
            run.checkpoint(total)
        run.test(total=total)

    engine = loop_engine(train)
    engine.fill(0, seed=0)
    engine.train_epoch([{}])
    snapshot = engine.snapshot(0)
    assert snapshot.extra["state"] == 1  # it is the trained model all the same
    assert not snapshot.resumable
    engine.fill(0, seed=0, snapshot=snapshot)
    assert "has not read run.restored" in str(engine.train_epoch([{}])[0])
    engine.fill(0, seed=0, snapshot=snapshot)
    with pytest.raises(SchedSearchError, match=r"has not read run\.restored"):
        engine.test(0)


def silent(run):
    for _ in run:
        pass


def twice(run):
    for _ in run:
        run.report(val_loss=0.0)
        run.report(val_loss=0.0)


def early(run):
    run.report(val_loss=0.0)


def empty(run):
    for _ in run:
        run.report(terms={"kl": 1.0})


def wordy(run):
    for _ in run:
        run.report(val_loss="low")


def quoted(run):
    for _ in run:
        run.report(val_loss="0.25")


def quoted_term(run):
    for _ in run:
        run.report(val_loss=0.25, terms={"fit": b"1e-3"})


def text_array(run):
    for _ in run:
        run.report(val_loss=np.array("0.5"))


def vector(run):
    for _ in run:
        run.report(val_loss=torch.zeros(2))


def too_large(run):
    for _ in run:
        run.report(val_loss=0.25, terms={"fit": 10**400})


def idle(run):
    pass


def impatient(run):
    for _ in run:
        break


def leaver(run):
    for _ in run:
        sys.exit(3)


@pytest.mark.parametrize(
    ("train", "message"),
    [
        (silent, "epoch = 0 ended without a call of run.report()"),
        (twice, "run.report() was called twice at epoch = 0"),
        (early, "run.report() was called outside"),
        (empty, "run.report() needs a validation metric"),
        (wordy, "the value of `val_loss` is 'low', but must be a number"),
        (quoted, "the value of `val_loss` is '0.25', but must be a number"),
        (quoted_term, "the value of `fit` is b'1e-3', but must be a number"),
        (text_array, "the value of `val_loss` is array('0.5', dtype='<U3'), but must be a number"),
        (vector, "the value of `val_loss` is tensor([0., 0.]), but must be a number"),
        (too_large, "the value of `fit` is 1000"),
        (idle, "ended before its first call of run.report()"),
        (impatient, "ended before its first call of run.report()"),
        (leaver, "the task called sys.exit(3)"),
    ],
)
def test_a_loop_that_breaks_a_rule_fails_with_a_message(train, message):
    engine = loop_engine(train)
    engine.fill(0, seed=0)
    for _ in range(2):
        results = engine.train_epoch([{}])
        if not isinstance(results[0], Exception):
            results = engine.train_epoch([{}])
        assert isinstance(results[0], SchedSearchError)
        assert message in str(results[0])
    engine.release(0)


def breaks(run):
    for epoch, _ in run:
        run.report(val_loss=float(epoch))
        if epoch == 1:
            break
    run.test(loss=7.0)


def returns(run):
    for epoch, _ in run:
        run.report(val_loss=float(epoch))
        if epoch == 1:
            run.test(loss=7.0)
            return


def keeps_the_iterator(run):
    epochs = iter(run)
    run.kept = epochs  # as a callback of a framework does
    for _ in range(2):
        epoch, _ = next(epochs)
        run.report(val_loss=float(epoch))
    run.test(loss=7.0)


@pytest.mark.parametrize("train", [breaks, returns, keeps_the_iterator])
def test_a_loop_that_ends_before_the_horizon_stops_with_the_report_of_its_last_epoch(train):
    engine = loop_engine(train)
    engine.fill(0, seed=0)
    results = [engine.train_epoch([{}])[0] for _ in range(2)]
    assert results == [
        EpochResult({"val_loss": 0.0}, {}),
        EpochResult({"val_loss": 1.0}, {}, stopped=True),
    ]
    assert engine.test(0) == {"test_loss": 7.0}
    engine.release(0)


def test_a_loop_that_ends_in_an_epoch_before_its_report_stops_without_a_result_of_it():
    def train(run):
        for epoch, _ in run:
            if epoch == 1:
                break
            run.report(val_loss=0.5)

    engine = loop_engine(train)
    engine.fill(0, seed=0)
    results = [engine.train_epoch([{}])[0] for _ in range(2)]
    assert results == [EpochResult({"val_loss": 0.5}, {}), EpochResult({}, {}, stopped=True)]
    engine.release(0)


def test_an_exception_after_the_break_is_the_result_of_the_epoch():
    def train(run):
        for _ in run:
            run.report(val_loss=0.5)
            break
        raise ZeroDivisionError("mine")

    engine = loop_engine(train)
    engine.fill(0, seed=0)
    [result] = engine.train_epoch([{}])
    assert isinstance(result, ZeroDivisionError)
    engine.release(0)


@pytest.mark.parametrize("reports", [True, False])
def test_a_second_loop_over_the_run_continues_where_the_first_was_left(reports):
    seen = []

    def train(run):
        for epoch, _ in run:
            seen.append(epoch)
            if epoch == 1 and not reports:
                break
            run.report(val_loss=float(epoch))
            if epoch == 1:
                break
        for epoch, _ in run:
            seen.append(epoch)
            run.report(val_loss=10.0 * epoch)

    engine = loop_engine(train)
    engine.fill(0, seed=0)
    values = [engine.train_epoch([{}])[0].metrics["val_loss"] for _ in range(3)]
    engine.release(0)
    assert values == ([0, 1, 20] if reports else [0, 10, 20])
    assert seen == ([0, 1, 2] if reports else [0, 1, 1, 2])


def test_a_report_after_the_break_is_refused():
    def train(run):
        for _ in run:
            break
        run.report(val_loss=0.5)

    engine = loop_engine(train)
    engine.fill(0, seed=0)
    [error] = engine.train_epoch([{}])
    assert "called outside" in str(error)
    engine.release(0)


def test_an_exception_in_the_loop_is_its_result_and_the_next_run_trains():
    def train(run):
        for epoch, _ in run:
            if run.seed == 1 and epoch == 1:
                raise ZeroDivisionError("mine")
            run.report(val_loss=0.0)

    engine = loop_engine(train)
    engine.fill(0, seed=1)
    engine.train_epoch([{}])
    [error] = engine.train_epoch([{}])
    assert isinstance(error, ZeroDivisionError)
    assert error.__traceback__ is not None
    engine.fill(0, seed=2)
    assert engine.train_epoch([{}])[0].metrics == {"val_loss": 0.0}
    engine.release(0)


def test_an_exception_after_the_loop_is_raised_by_the_test():
    def train(run):
        for _ in run:
            run.report(val_loss=0.0)
        raise ZeroDivisionError("mine")

    engine = loop_engine(train)
    engine.fill(0, seed=0)
    engine.train_epoch([{}])
    with pytest.raises(ZeroDivisionError, match="mine"):
        engine.test(0)
    engine.fill(0, seed=0)
    engine.train_epoch([{}])
    engine.release(0)


def test_a_loss_that_requires_grad_is_reported_without_a_warning():
    def train(run):
        for _ in run:
            loss = 2 * torch.tensor(1.5, requires_grad=True)
            run.report(low=loss, terms={"recon": loss})

    engine = loop_engine(train)
    engine.fill(0, seed=0)
    [result] = engine.train_epoch([{}])
    assert (result.metrics, result.terms) == ({"low": 3.0}, {"recon": 3.0})
    engine.release(0)


def test_a_metric_that_is_not_finite_is_nan():
    def train(run):
        for _ in run:
            run.report(low=-math.inf, high=math.inf, off=math.nan)

    engine = loop_engine(train)
    engine.fill(0, seed=0)
    assert all(map(math.isnan, engine.train_epoch([{}])[0].metrics.values()))
    engine.release(0)


def test_the_loop_has_the_given_number_of_threads_and_flushes_denormals():
    seen = []

    def train(run):
        for _ in run:
            seen.append((torch.get_num_threads(), sys.float_info.min / 2))
            run.report(val_loss=0.0)

    engine = loop_engine(train, threads=3)
    engine.fill(0, seed=0)
    engine.train_epoch([{}])
    engine.release(0)
    assert seen == [(3, 0.0)]


def draw_from_the_global_generators(run):
    torch.manual_seed(run.seed)
    for _ in run:
        drawn = torch.rand(()).item() + np.random.rand() + random.random()
        run.report(val_loss=drawn)


def test_a_loop_gets_the_random_numbers_that_it_would_get_alone():
    def epochs(*seeds):
        engines = [loop_engine(draw_from_the_global_generators) for _ in seeds]
        for engine, seed in zip(engines, seeds, strict=True):
            engine.fill(0, seed)
        found = [[engine.train_epoch([{}])[0] for engine in engines] for _ in range(3)]
        for engine in engines:
            engine.release(0)
        return list(zip(*found, strict=True))

    before = (torch.get_rng_state(), np.random.get_state(), random.getstate())
    [alone] = epochs(1)
    assert epochs(0, 1, 2)[1] == alone
    assert len({result.metrics["val_loss"] for result in alone}) == 3
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1][1])
    assert random.getstate() == before[2]


def draw_and_offer_checkpoints(run):
    torch.manual_seed(run.seed)
    torch.rand(
        3 + 4 * bool(run.restored)
    )  # the setup draws numbers too, and more of them when resumed
    for epoch, _ in run:
        drawn = torch.rand(()).item() + np.random.rand() + random.random() + random.gauss(0, 1)
        run.report(val_loss=drawn)
        run.checkpoint({"epoch": epoch})


def test_a_resumed_loop_gets_the_random_numbers_of_an_uninterrupted_one():
    engine = loop_engine(draw_and_offer_checkpoints)
    engine.fill(0, 5)
    engine.train_epoch([{}])
    stored = encode(engine.snapshot(0))
    assert stored is not None
    whole = [engine.train_epoch([{}]) for _ in range(2)]
    engine.fill(0, 5, decode(stored))
    assert [engine.train_epoch([{}]) for _ in range(2)] == whole
    engine.release(0)


# --- by the step ----------------------------------------------------------------------------------


def epochs_of(schedule, interval="step", **others):
    """Return the values of each epoch of a plan, as an engine gets them."""
    schedules = {("lr",): schedule, **{(name,): other for name, other in others.items()}}
    scheduler = Scheduler(Plan(schedules, intervals={"lr": interval}), horizon=3)
    epochs = []
    for _ in range(3):
        epochs.append(scheduler.epoch_values)
        scheduler.step(0.0)
    return epochs


def test_the_loop_reads_the_values_at_each_of_its_steps():
    seen = []

    def train(run):
        for epoch, hp in run:
            assert run.values == hp
            steps = 4 - epoch  # epochs may differ in their number of steps
            seen.append([run.at(step, of=steps)["lr"] for step in range(steps)])
            assert run.at(0, of=steps)["weights.kl"] == 1.0  # the default
            assert run.moving == ("lr",)
            run.report(val_loss=0.0)

    engine = loop_engine(train)
    engine.fill(0, seed=0)
    for values in epochs_of(Linear(3.0, 0.0)):
        assert isinstance(engine.train_epoch([values])[0], EpochResult)
    engine.release(0)
    assert seen == [[3.0, 2.75, 2.5, 2.25], [2.0, 2 - 1 / 3, 2 - 2 / 3], [1.0, 0.5]]


def test_values_at_the_interval_epoch_are_the_same_at_each_step():
    def train(run):
        for _, hp in run:
            assert [run.at(step, of=3) for step in range(3)] == [hp] * 3
            assert run.moving == ()
            run.report(val_loss=hp["lr"])

    engine = loop_engine(train)
    engine.fill(0, seed=0)
    for values in (*epochs_of(Linear(3.0, 0.0), "epoch")[:2], {"lr": 9.0}):
        [result] = engine.train_epoch([values])
        assert result.metrics == {"val_loss": values["lr"]}
    engine.release(0)


def outside(run):
    run.at(0, of=1)


def after(run):
    for _ in run:
        run.report(val_loss=0.0)
    run.at(0, of=1)


@pytest.mark.parametrize("step", [-1, 4, 5])
def test_a_step_that_the_epoch_does_not_have_is_refused(step):
    def train(run):
        for _ in run:
            run.at(step, of=4)

    engine = loop_engine(train)
    engine.fill(0, seed=0)
    [error] = engine.train_epoch([{}])
    assert f"run.at({step}, of=4): the step must be from 0 to 3" in str(error)
    engine.release(0)


def test_values_outside_an_epoch_are_refused():
    engine = loop_engine(outside)
    engine.fill(0, seed=0)
    assert "run.at() was called outside" in str(engine.train_epoch([{}])[0])
    engine = loop_engine(after)
    engine.fill(0, seed=0)
    engine.train_epoch([{}])
    with pytest.raises(SchedSearchError, match=r"run\.at\(\) was called outside"):
        engine.test(0)


def train_by_step(run):
    torch.manual_seed(run.seed)
    model = torch.nn.Linear(2, 1)
    optimizer = torch.optim.AdamW(model.parameters())
    if run.restored:
        model.load_state_dict(run.restored["model"])
        optimizer.load_state_dict(run.restored["optimizer"])
    for _ in run:
        for step in range(5):
            optimizer.param_groups[0]["lr"] = run.at(step, of=5)["lr"]
            loss = (model(torch.rand(4, 2)) - 1).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        run.report(val_loss=loss)
        run.checkpoint({"model": model.state_dict(), "optimizer": optimizer.state_dict()})


def test_a_resumed_loop_trains_with_the_same_bits():
    engine, values = loop_engine(train_by_step), epochs_of(Cosine(0.1, 0.0))
    engine.fill(0, seed=3)
    engine.train_epoch([values[0]])
    stored = encode(engine.snapshot(0))
    assert stored is not None
    whole = [engine.train_epoch([each]) for each in values[1:]]
    engine.fill(0, 3, decode(stored))
    assert [engine.train_epoch([each]) for each in values[1:]] == whole
    engine.fill(0, seed=3)
    constant = [engine.train_epoch([dict(each)]) for each in values]
    assert constant[1:] != whole  # the values within the epoch matter
    engine.release(0)


def keys(epochs: list[EpochValues]) -> list[bytes]:
    return [loop_engine(train_by_step).key(values, seed=0) for values in epochs]


def test_plans_that_differ_only_within_epochs_do_not_share_them():
    # All have the value 1 at the beginning of the first epoch.
    first = [
        keys(epochs_of(schedule, interval))[0]
        for schedule, interval in [
            (Constant(1.0), "epoch"),
            (Linear(1.0, 0.0), "step"),
            (Exponential(1.0, 0.5), "step"),
            (Multistep(1.0, 0.5, milestones=(0.5,)), "step"),
        ]
    ]
    assert len(set(first)) == 4


def test_plans_with_the_same_values_within_epochs_share_them():
    moving = Linear(1.0, 0.0)
    ours = keys(epochs_of(moving, momentum=Multistep(0.9, 0.5, milestones=(2,))))
    theirs = keys(epochs_of(moving, momentum=Constant(0.9)))
    assert ours[:2] == theirs[:2]
    assert ours[2] != theirs[2]


def test_at_without_the_number_of_steps_says_what_to_pass():
    def train(run):
        for _, _hp in run:
            run.at(3)

    engine = loop_engine(train)
    engine.fill(0, seed=0)
    [error] = engine.train_epoch([{}])
    assert str(error) == (
        "run.at(3) lacks the number of optimizer steps of the epoch: pass it as "
        "run.at(3, of=steps), for example of=len(loader)"
    )


@pytest.mark.parametrize("read", ["hp", "values", "at"])
def test_an_unknown_hyperparameter_is_a_key_error_with_the_known_names(read):
    def train(run):
        for _, hp in run:
            values = {"hp": hp, "values": run.values, "at": run.at(0, of=1)}[read]
            assert values.get("learning_rate") is None
            values["learning_rate"]

    engine = loop_engine(train)
    engine.fill(0, seed=0)
    [error] = engine.train_epoch([{}])
    assert isinstance(error, KeyError)
    assert str(error) == (
        "there is no hyperparameter `learning_rate`: the names are lr, weights.kl"
    )


@pytest.mark.parametrize(
    ("epochs", "stop", "early"), [(1, False, True), (3, False, False), (2, True, False)]
)
def test_a_run_ended_early_if_it_was_pruned_but_not_if_the_loop_stopped(epochs, stop, early):
    seen = []

    def train(run):
        for epoch, _ in run:
            run.report(val_loss=0.0)
            if stop and epoch == 1:
                break
        seen.append(run.ended_early)

    engine = loop_engine(train)
    engine.fill(0, seed=0)
    for _ in range(epochs):
        engine.train_epoch([{}])
    engine.release(0)
    assert seen == [early]
