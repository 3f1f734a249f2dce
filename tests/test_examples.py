"""The examples run, and their schedules move."""

import re
import subprocess
import sys
import tomllib
from math import isfinite
from pathlib import Path

import pytest
import torch

import schedsearch
from examples import by_step, gan, learned_weights
from schedsearch.confirmation.confirm import prepare_confirmation
from schedsearch.engines import make_engine
from schedsearch.scheduler import Scheduler
from schedsearch.space import Space
from schedsearch.space.suggesters import FixedSuggester
from tests.searches import make_study, work

EXAMPLES = Path(__file__).parent.parent / "examples"


def run(*arguments):
    command = [sys.executable, "-W", "error", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def values_in(line):
    return {name: float(value) for name, value in re.findall(r"([\w.]+) ([-\d.e]+)(?:  |$)", line)}


@pytest.fixture(scope="module")
def printed():
    done = run(EXAMPLES / "plain_loop.py")
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_the_plain_loop_trains_with_a_config(printed):
    lines = list(map(values_in, printed.splitlines()))
    assert len(lines) == 60
    errors = [line["error"] for line in lines]
    assert max(errors) < 0.7, "predicting the mean gives 0.86"
    # Each new best error adds 0.01 in the next epoch.
    bests = [
        sum(e < min(errors[:i], default=9.0) for i, e in enumerate(errors[:k])) for k in range(60)
    ]
    assert [line["weights.l1"] for line in lines] == [round(0.2 + 0.01 * n, 4) for n in bests]
    assert {line["weights.l2"] for line in lines} == {0.8}
    assert lines[0]["lr"] == 0.01 > lines[-1]["lr"]


def test_the_plain_loop_reads_a_config_in_another_format(tmp_path, printed):
    config = schedsearch.load(EXAMPLES / "best.toml")
    config.save(tmp_path / "best.yaml")
    assert schedsearch.load(tmp_path / "best.yaml") == config
    assert run(EXAMPLES / "plain_loop.py", tmp_path / "best.yaml").stdout == printed


@pytest.mark.long
@pytest.mark.parametrize("framework", ["lightning", "transformers"])
def test_a_framework_is_searched_and_then_trains_with_the_exported_config(tmp_path, framework):
    name = f"with_{framework}"
    (tmp_path / "examples").symlink_to(EXAMPLES)
    schedsearch = [sys.executable, "-m", "schedsearch"]
    search = ["start", f"examples/{name}.toml", "--trials", "4"]
    for command in (search, ["export", name, "-o", "best.toml"]):
        subprocess.run([*schedsearch, *command], cwd=tmp_path, check=True)
    train = [sys.executable, f"examples/{name}.py", "best.toml"]
    done = subprocess.run(train, cwd=tmp_path, check=True, capture_output=True, text=True)
    assert re.search(r"^test \w+ \d\.\d+", done.stdout, re.MULTILINE)


def test_gradnorm_gives_the_slower_term_the_larger_weight():
    torch.manual_seed(0)
    model = learned_weights.Wines()
    rule = learned_weights.GradNorm(model, rate=0.025)
    inputs, labels = torch.randn(20, 13), torch.arange(20) % 3
    first = model(inputs, labels)
    rule(first)
    # The second term has fallen to a tenth and the first has not, so the first needs more weight.
    rule(torch.stack([first[0], 0.1 * first[1]]))
    rule.step()
    assert rule.weights[0] > 1 > rule.weights[1]
    assert rule.weights.sum().item() == pytest.approx(2.0)


@pytest.mark.parametrize("rule", [learned_weights.train_variances, learned_weights.train_gradnorm])
def test_rules_that_learn_their_weights_train_as_loops(rule):
    engine = make_engine(rule, horizon=20)
    engine.fill(0, seed=0)
    losses = [engine.train_epoch([{}])[0].metrics["val_loss"] for _ in range(20)]
    assert losses[-1] < 0.5 * losses[0]
    assert engine.test(0)["test_loss"] < 0.5


def test_the_loop_by_step_learns_at_the_rates_of_its_steps_and_resumes():
    space = Space.load(EXAMPLES / "by_step.toml")
    chosen = {
        "lr.family": "warmup",
        "lr.warmup.duration": 10,
        "lr.warmup.inner.cosine.initial": 2e-3,
        "max_norm.constant.value": 1.0,
    }
    scheduler = Scheduler(space.suggest(FixedSuggester(chosen)), horizon=space.horizon)
    engine = make_engine(by_step.train, horizon=space.horizon)
    engine.fill(0, seed=0)
    snapshots, losses = [], []
    for _ in range(space.horizon):
        values = scheduler.epoch_values
        [result] = engine.train_epoch([values])
        snapshots.append(engine.snapshot(0))
        losses.append(result.metrics["val_loss"])
        [group] = snapshots[-1].extra["state"]["optimizer"]["param_groups"]
        assert group["lr"] == values.at(24 / 25)["lr"], "the rate of the last step"
        assert group["lr"] != values["lr"], "the rate at the beginning of the epoch"
        scheduler.step(losses[-1])
    assert losses[-1] < 0.2, "ten classes: a guess has 2.3"
    assert engine.test(0)["test_loss"] < 0.3

    engine.fill(0, seed=0, snapshot=snapshots[-2])
    [again] = engine.train_epoch([values])
    assert again.metrics["val_loss"] == losses[-1]


@pytest.mark.long
@pytest.mark.filterwarnings("ignore:.*treespec, LeafSpec.*:FutureWarning")
@pytest.mark.parametrize(
    "name", ["own_loop", "by_step", "learned_weights", "with_lightning", "with_transformers"]
)
def test_an_example_is_confirmed_by_its_metric_on_the_test_split(tmp_path, name):
    content = tomllib.loads((EXAMPLES / f"{name}.toml").read_text())
    content |= {"horizon": 2, "search": {"trials": 8, "pruner": {"name": "none"}}}
    study = make_study(tmp_path, content)
    assert not work(study).wrong
    with prepare_confirmation(study, top=1, seeds=6) as confirmation:
        assert confirmation.without_test is None
        complete = confirmation.study.complete_trials
        ears = work(confirmation.study, "confirms", should_stop=lambda: bool(complete()))
        assert not ears.wrong
    for trial in complete():
        assert trial.value == trial.user_attrs["test"] != trial.user_attrs["validation"]
    assert complete()


@pytest.mark.filterwarnings("ignore:.*treespec, LeafSpec.*:FutureWarning")
@pytest.mark.parametrize("train", [gan.train, gan.train_with_lightning])
def test_each_network_of_a_gan_has_its_own_learning_rate(monkeypatch, train):
    made = []
    make = gan.Networks.optimizers
    monkeypatch.setattr(gan.Networks, "optimizers", lambda nets: made.append(make(nets)) or made[0])
    engine = make_engine(train, horizon=3)
    engine.fill(0, seed=0)
    before = None
    for rates in ([3e-3, 7e-4], [0.0, 7e-4], [3e-3, 0.0]):
        engine.train_epoch([dict(zip(("generator.lr", "discriminator.lr"), rates, strict=True))])
        [optimizers] = made
        groups = [each.param_groups[0] for each in optimizers]
        assert [group["lr"] for group in groups] == rates
        weights = [torch.cat([p.detach().flatten() for p in group["params"]]) for group in groups]
        if before is not None:
            moved = [not torch.equal(*pair) for pair in zip(before, weights, strict=True)]
            assert moved == [rate > 0 for rate in rates]
        before = weights
    assert isfinite(engine.test(0)["test_distance"])


def test_a_gan_has_the_same_search_as_a_loop_and_with_lightning():
    loop, module = (
        tomllib.loads((EXAMPLES / f"{name}.toml").read_text()) for name in ("gan", "gan_lightning")
    )
    assert module == loop | {"name": module["name"], "task": module["task"]}


@pytest.mark.long
@pytest.mark.filterwarnings("ignore:.*treespec, LeafSpec.*:FutureWarning")
@pytest.mark.parametrize("name", ["gan", "gan_lightning"])
def test_a_gan_is_searched_as_a_loop_and_with_lightning(tmp_path, name):
    content = tomllib.loads((EXAMPLES / f"{name}.toml").read_text())
    content["search"]["trials"] = 3
    study = make_study(tmp_path, content)
    assert work(study).wrong == []
    assert study.queue.counts().complete == 3
    first, *_ = study.trials()
    torch.manual_seed(0)
    untrained = gan.Networks().distance(gan.flowers(0)[1]).item()
    assert first.value < 0.9 * untrained, "trial 0 has the default rates"
