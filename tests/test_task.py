"""Tasks: loading, validation, error messages and fingerprints."""

import subprocess
import sys
import textwrap

import pytest
import torch
from torch import nn

from schedsearch.errors import TaskError
from schedsearch.task import (
    Splits,
    Task,
    check_task,
    fingerprint_task,
    is_train_function,
    load_task,
)
from tests.engines.toys import Toy, train_toy

REFERENCE = "tests.engines.toys:Toy"


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write modules into a temporary current folder, and unload them afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    loaded = set(sys.modules)

    def write(**sources):
        for name, source in sources.items():
            (tmp_path / f"{name}.py").write_text(textwrap.dedent(source))

    yield write
    for name in set(sys.modules) - loaded:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


def test_a_class_is_called_with_its_arguments():
    task = load_task(REFERENCE, {"layers": "dropout"})
    assert isinstance(task, Toy)
    assert task.layers == "dropout"
    assert not is_train_function(task)


def test_a_train_function_is_returned_unchanged():
    task = load_task("tests.engines.toys:train_toy")
    assert task is train_toy
    assert is_train_function(task)


def test_the_current_folder_is_importable(write):
    write(
        my_loop="""
        def train(run): ...
        train.hyperparameters = {"lr": 0.1}
        """
    )
    assert load_task("my_loop:train").hyperparameters == {"lr": 0.1}


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("noisy_digits", "task 'noisy_digits' must be written MODULE:ATTRIBUTE"),
        (":Toy", "must be written MODULE:ATTRIBUTE"),
        ("my_loops:train", "there is no module `my_loops`: did you mean `my_loop`?"),
        ("my_loop.inner:train", "there is no module `my_loop.inner`"),
        ("schedsearch.tasks.noisy_digit:X", "`schedsearch.tasks.noisy_digit`: did you mean"),
        ("my_loop:trian", "my_loop has no `trian`: did you mean `train`?"),
        ("my_loop:train", "the function has no hyperparameters: set train.hyperparameters ="),
        ("needs:Toy", "needs needs the module `absent_package`"),
        ("raises:Toy", "importing raises raises ZeroDivisionError: division by zero (raises.py:"),
        ("garbled:Toy", "importing garbled raises SyntaxError"),
        ("my_loop:Picky", "Picky(…) raises TypeError"),
        ("my_loop:Empty", "Empty is not a task: it has no data, model, terms, metrics"),
        ("my_loop:Half", "Half is not a task: it has no data, model, terms, metrics"),
    ],
)
def test_an_invalid_reference_is_refused_in_one_line(write, reference, message):
    write(
        my_loop="""
        from schedsearch.task import Task
        def train(run): ...
        class Empty: ...
        class Picky:
            def __init__(self, size): ...
            data = model = terms = metrics = print
        class Half(Task):
            hyperparameters, optimizer, batch_size = {"lr": 0.1}, "adam", 4
        """,
        needs="import absent_package",
        raises="1 / 0",
        garbled="def",
    )
    with pytest.raises(TaskError) as caught:
        load_task(reference)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


LOOP = """
    def train(run): ...
    train.hyperparameters = {"lr": 0.1}
    """


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("queue", "Python's module `queue`"),  # imported
        ("turtle", "Python's module `turtle`"),  # not imported
        ("sqlalchemy", "the module `sqlalchemy`"),
        ("mpmath", "the module `mpmath`"),  # torch needs it, by way of sympy
        ("schedsearch", "the module `schedsearch`"),
    ],
)
def test_a_file_with_the_name_of_another_module_is_named_as_a_clash(write, name, other):
    write(**{name: LOOP})
    with pytest.raises(TaskError) as caught:
        load_task(f"{name}:train")
    found = str(caught.value)
    assert f"{name}.py has the name of {other}" in found
    assert f"rename it, for instance to my_{name}" in found


def test_a_package_with_the_name_of_another_module_is_named_as_a_clash(write, tmp_path):
    (tmp_path / "calendar").mkdir()
    (tmp_path / "calendar" / "__init__.py").write_text("")
    with pytest.raises(TaskError, match=r"calendar/__init__.py has the name of Python's module"):
        load_task("calendar.loops:train")


def test_a_file_with_the_name_of_an_installed_module_that_is_never_imported_is_the_task(write):
    write(imagesize=LOOP)
    assert load_task("imagesize:train").hyperparameters == {"lr": 0.1}


def test_the_running_program_is_no_task_and_the_message_says_what_to_write():
    with pytest.raises(TaskError, match="write the name of the task's file, such as `my_task:tr"):
        load_task("__main__:not_there")


def test_a_module_beside_the_file_that_names_it_is_found_by_the_message(write, tmp_path):
    folder = tmp_path / "experiments"
    folder.mkdir()
    for name in ("loops", "package/loops"):
        (folder / f"{name}.py").parent.mkdir(exist_ok=True)
        (folder / f"{name}.py").write_text("")
    for reference, there in (("loops:t", "loops.py"), ("package.loops:t", "package")):
        with pytest.raises(TaskError) as caught:
            load_task(reference, file="experiments/space.toml")
        assert f"{folder / there} exists: run the command in {folder}" in str(caught.value)
    with pytest.raises(TaskError, match=r"there is no module `elsewhere`$"):
        load_task("elsewhere:t", file="experiments/space.toml")


def test_only_a_class_takes_arguments():
    with pytest.raises(TaskError, match="only a class takes arguments"):
        load_task("tests.engines.toys:train_toy", {"width": 3})


@pytest.mark.parametrize(
    ("member", "value", "message"),
    [
        ("optimizer", "adamax", "the optimizer is 'adamax', but must be one of sgd, adam, adamw"),
        ("batch_size", 0, "the batch_size is 0, but must be a whole number of at least 1"),
        ("batch_size", 2.5, "the batch_size is 2.5, but must be a whole number"),
        ("steps_per_epoch", 0, "the steps_per_epoch is 0, but must be a whole number"),
        ("hyperparameters", ["lr"], "hyperparameters is ['lr'], but must map names"),
        ("hyperparameters", {"lr": "0.1"}, "the default of `lr` is '0.1', but must be a finite"),
        ("hyperparameters", {"lr": float("nan")}, "the default of `lr` is nan, but must be"),
        ("hyperparameters", {"lr": 0.1, 3: 0.1}, "a hyperparameter has the name 3"),
        ("hyperparameters", {"u": 0.1}, "the hyperparameters have no `lr`"),
    ],
)
def test_an_invalid_member_is_refused_with_its_value_and_rule(
    write, monkeypatch, member, value, message
):
    broken = type("Broken", (Toy,), {member: value})
    broken.__init__ = lambda self: setattr(self, "optimizer", getattr(broken, "optimizer", "adam"))
    monkeypatch.setattr(sys.modules[Toy.__module__], "Broken", broken, raising=False)
    with pytest.raises(TaskError) as caught:
        load_task("tests.engines.toys:Broken")
    assert message in str(caught.value)


def test_steps_per_epoch_and_noise_are_optional_in_a_subclass_of_task():
    class Minimal(Task):
        hyperparameters, optimizer, batch_size = {"lr": 0.1}, "adam", 4
        data, model, terms, metrics = Toy.data, Toy.model, Toy.terms, Toy.metrics

    task = Minimal()
    assert task.steps_per_epoch is None
    assert task.noise == {}


@pytest.mark.parametrize(
    ("method", "result", "message"),
    [
        ("data", ({}, {}, {}), "Broken.data must return Splits, not tuple"),
        ("data", Splits({}, {}, {}), "the batch_size is 8, but must be at most the number"),
        (
            "data",
            Splits({"x": torch.zeros(9), "y": torch.zeros(8)}, {}, {}),
            "must have the same length, not {'x': 9, 'y': 8}",
        ),
        ("model", None, "Broken.model must return a Module, not NoneType"),
        ("terms", {}, "Broken.terms must return a dict of 0-d tensors by name, not {}"),
        ("terms", torch.zeros(()), "Broken.terms must return a dict"),
        ("terms", {"fit": torch.zeros(3)}, "Broken.terms: `fit` has the shape (3,)"),
        (
            "terms",
            {"fit": torch.zeros(())},
            "`weights.penalty` is the weight of an unknown loss term",
        ),
        (
            "terms",
            {"fit": torch.zeros(()), "penalty": torch.zeros(())},
            "no term depends on the model's parameters",
        ),
        ("metrics", {"loss": torch.zeros(2)}, "Broken.metrics: `loss` has the shape (2,)"),
        ("metrics", {"loss": "low"}, "Broken.metrics: `loss` is 'low', but must be a 0-d tensor"),
    ],
)
def test_check_task_refuses_an_invalid_part(method, result, message):
    broken = type("Broken", (Toy,), {method: lambda self, *arguments: result})
    with pytest.raises(TaskError) as caught:
        check_task(broken())
    assert message in str(caught.value)


@pytest.mark.parametrize("method", ["data", "model", "terms", "metrics"])
def test_an_exception_in_a_part_is_reported_in_one_line(method):
    def fail(self, *arguments):
        raise ZeroDivisionError("on\ntwo lines")

    with pytest.raises(TaskError, match=rf"Broken.{method}.* ZeroDivisionError: on two lines"):
        check_task(type("Broken", (Toy,), {method: fail})())


def test_a_valid_task_passes_and_the_random_state_is_unchanged():
    state = torch.get_rng_state()
    check_task(Toy("batch_norm"))
    check_task(train_toy)
    assert torch.equal(torch.get_rng_state(), state)


def test_loading_a_task_does_not_import_torch(write):
    write(light="def train(run): ...\ntrain.hyperparameters = {'lr': 0.1}")
    code = (
        "import sys; from schedsearch.task import load_task; load_task('light:train');"
        "import schedsearch.engines; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


TASK = """
from helper import scale
from tests.engines.toys import Toy
class Mine(Toy):
    def data(self, seed):
        splits = super().data(seed)
        splits.train["x"].mul_(scale)
        return splits
"""
SOURCES = {"mine": TASK, "helper": "from deeper import scale", "deeper": "scale = 1.0"}


def fingerprint_of(write, arguments=None, **sources):
    """Return the fingerprint that a new process would compute for these sources."""
    for name in (*SOURCES, "other"):
        sys.modules.pop(name, None)
    write(**{**SOURCES, **sources})
    task = load_task("mine:Mine", arguments or {})
    return fingerprint_task(task, "mine:Mine", arguments or {}).digest


def test_the_fingerprint_does_not_depend_on_unrelated_files(write):
    first = fingerprint_of(write)
    assert fingerprint_of(write) == first
    assert fingerprint_of(write, other="not_imported = 1") == first
    assert len(first) == 64


@pytest.mark.parametrize(
    "change",
    [
        {"mine": TASK + "\n    more = 1"},
        {"helper": "from deeper import scale\nmore = 1"},
        {"deeper": "scale = 2.0"},
        {"mine": TASK.replace("Mine(Toy):", "Mine(Toy):\n    import other"), "other": "x = 1"},
        {"arguments": {"layers": "dropout"}},
    ],
)
def test_the_fingerprint_depends_on_sources_and_arguments(write, change):
    assert fingerprint_of(write, **change) != fingerprint_of(write)


@pytest.mark.parametrize(
    "change",
    [
        {"batch_size": 4},
        {"steps_per_epoch": 3},
        {"noise": {"blur": (8, 1)}},
        {"hyperparameters": {**Toy.hyperparameters, "lr": 0.06}},
        {"data": lambda self, seed: Toy().data(seed + 1)},
    ],
)
def test_the_fingerprint_depends_on_settings_and_data(change):
    changed = type("Toy", (Toy,), {**change, "__module__": Toy.__module__})
    assert (
        fingerprint_task(changed(), REFERENCE, {}).digest
        != fingerprint_task(Toy(), REFERENCE, {}).digest
    )


def test_the_fingerprint_depends_on_the_optimizer_and_the_dtype():
    class Double(Toy):
        def data(self, seed):
            splits = super().data(seed)
            return Splits(
                {name: tensor.double() for name, tensor in splits.train.items()},
                splits.validation,
                splits.test,
            )

    Double.__module__ = Toy.__module__
    tasks = [Toy(), Toy(optimizer="sgd"), Double()]
    assert len({fingerprint_task(task, REFERENCE, {}).digest for task in tasks}) == 3


def test_the_fingerprint_of_a_train_function_depends_on_its_source(write):
    fingerprints = []
    source = "def train(run): ...\ntrain.hyperparameters = {'lr': 0.1}\n"
    for changed in (source, f"{source}changed = 1"):
        sys.modules.pop("own", None)
        write(own=changed)
        fingerprints.append(fingerprint_task(load_task("own:train"), "own:train", {}).digest)
    assert fingerprints[0] != fingerprints[1]


def test_a_model_may_be_a_single_layer():
    class Bare(Toy):
        def model(self, seed):
            return nn.Linear(3, 1)

    check_task(Bare())


def test_a_class_that_is_not_a_task_is_never_called(tmp_path):
    trace = tmp_path / "called"
    with pytest.raises(TaskError, match="Popen is not a task: it has no data, model"):
        load_task("subprocess:Popen", {"args": f"touch {trace}", "shell": True})
    assert not trace.exists()
