"""Fingerprints: each change of what a task depends on is seen and named, and nothing else is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import nn

from schedsearch.errors import TaskError
from schedsearch.preparation import prepare_space
from schedsearch.space import Space
from schedsearch.task import Splits, describe_changes, fingerprint_task, load_task
from schedsearch.task.loading import loaded_modules, track_imports
from schedsearch.task.parsed_code import parse_code
from tests.engines.toys import Toy
from tests.searches import ROOT, document

SCRIPT = """
import json, sys
from schedsearch.task import fingerprint_task, load_task
reference, arguments = sys.argv[1], json.loads(sys.argv[2])
found = fingerprint_task(load_task(reference, arguments), reference, arguments)
print(json.dumps(dict(found.parts)))
"""
#: What `start` does before it computes the fingerprint.
CHECK = """
from schedsearch.task import check_task, track_imports
check_task(load_task(reference), lambda: track_imports(reference, {}))
"""
LOOP = "\ndef train(run): ...\ntrain.hyperparameters = {'lr': 0.1}\n"


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project folder; modules that tests load from it are forgotten at the end."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    before = set(sys.modules)
    yield Project(tmp_path)
    for name in sys.modules.keys() - before:
        if str(getattr(sys.modules[name], "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]


class Project:
    """Files in a folder, and the fingerprint that a new process computes there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, **files: str) -> None:
        """Write modules by their names, with __ for the dot; missing packages are made."""
        for name, source in files.items():
            path = self.folder.joinpath(*name.split("__")).with_suffix(".py")
            for parent in path.relative_to(self.folder).parents[:-1]:
                (self.folder / parent).mkdir(parents=True, exist_ok=True)
                (self.folder / parent / "__init__.py").touch()
            path.write_text(source)

    def parts(
        self, reference="proj.tasks.mine:train", arguments="{}", script=SCRIPT, **environment
    ):
        done = subprocess.run(
            [sys.executable, "-c", script, reference, arguments],
            cwd=self.folder,
            env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
            capture_output=True,
            text=True,
            check=True,
        )
        return json.loads(done.stdout)

    def changes(self, *, reference="proj.tasks.mine:train", arguments="{}", **files: str):
        """Return the phrases for a change of files."""
        before = self.parts(reference, arguments)
        self.write(**files)
        return describe_changes(before, self.parts(reference, arguments))


IMPORTS = {
    "import with alias": "import proj.models.net as network",
    "parent package": "from ..models.net import WIDTH",
    "sibling by dots": "from . import near",
    "star": "from proj.models.net import *",
    "in a function": "def build():\n    from proj.models import net",
    "in a try": "try:\n    import proj.models.net\nexcept ImportError:\n    pass",
    "two steps": "from proj.between import far",
    "import_module": "from importlib import import_module as load\nnet = load('proj.models.net')",
    "relative import_module": "import importlib as i\ni.import_module('..models.net', __package__)",
    "__import__": "net = __import__('proj.models.net', fromlist=['WIDTH'])",
    "a table of names": (
        "import importlib\nMODELS = {'net': 'proj.models.net'}\n"
        "def build(name):\n    return importlib.import_module(MODELS[name])"
    ),
    "a name that is made up": (
        "import importlib\nkind = ''.join(['n', 'et'])\n"
        "net = importlib.import_module(f'proj.models.{kind}')"
    ),
    "plugins": (
        "import importlib, pkgutil, proj.models\n"
        "for found in pkgutil.iter_modules(proj.models.__path__):\n"
        "    importlib.import_module('proj.models.' + found.name)"
    ),
    "a file by its path": ("import runpy\nvalues = runpy.run_path('proj/models/net.py')"),
}


@pytest.mark.parametrize("statement", IMPORTS.values(), ids=IMPORTS)
def test_a_changed_module_is_named_however_it_is_imported(project, statement):
    project.write(
        proj__tasks__mine=statement + LOOP,
        proj__tasks__near="import proj.models.net",
        proj__models__net="WIDTH = 8",
        proj__between="import proj.models.net as far",
        proj__unused="WIDTH = 8",
    )
    before = project.parts()
    project.write(proj__models__net="WIDTH = 9", proj__unused="WIDTH = 9")
    [change] = describe_changes(before, project.parts())
    assert change.endswith("net.py differs")


def test_a_package_counts_with_its_init_file_and_a_new_module_is_named(project):
    project.write(proj__tasks__mine="import proj.models.net" + LOOP, proj__models__net="")
    init = project.folder / "proj" / "models" / "__init__.py"
    before = project.parts()
    init.write_text("import proj.models.more")
    project.write(proj__models__more="x = 1")
    assert describe_changes(before, project.parts()) == [
        "proj/models/__init__.py differs",
        "proj/models/more.py was not imported before",
    ]


def test_a_module_beside_the_task_counts_in_a_folder_that_is_not_the_current_one(project, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "mine.py").write_text("import helpers" + LOOP)
    (elsewhere / "helpers.py").write_text("x = 1")
    path = f"{ROOT}:{elsewhere}"
    before = project.parts("mine:train", PYTHONPATH=path)
    (elsewhere / "helpers.py").write_text("x = 2")
    after = project.parts("mine:train", PYTHONPATH=path)
    assert describe_changes(before, after) == ["helpers.py differs"]


CODE = '''"""A task."""
from proj.models.net import WIDTH

class Net:
    """A network."""

    depth = 2

def train(run):
    """Train."""
    for epoch, hp in run:
        run.report(val_loss=(hp["lr"] + WIDTH) * 2, terms={"a": 1.0})

train.hyperparameters = {"lr": 0.1}
'''
SAME = '''# A new header.
from proj.models.net import (
    WIDTH,  # the width
)


class Net:
    depth = 2  # layers


def train(run):
    # No docstring any more.
    for epoch, hp in run:

        run.report(
            val_loss=(hp['lr'] + WIDTH) * 2,
            terms={"a": 1.0},
        )


train.hyperparameters = {
    "lr": 0.1,
}
"""The end."""
'''


def test_comments_docstrings_and_formatting_do_not_count_in_any_module(project):
    project.write(proj__tasks__mine=CODE, proj__models__net="WIDTH = 8\n")
    net = '"""Networks."""\n\n\nWIDTH   =   8  # units\n'
    assert project.changes(proj__tasks__mine=SAME, proj__models__net=net) == []
    assert project.changes(proj__tasks__mine=SAME.replace("depth = 2", "depth = 3")) == [
        "proj/tasks/mine.py differs"
    ]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("x = 1", "x = True"),
        ("x = 'a'", "x = b'a'"),
        ("x = a or b", "x = a and b"),
        ("def f(a, b=1): ...", "def f(a=1, b=1): ..."),
        ("if x:\n    y = 1\n    z = 2", "if x:\n    y = 1\nz = 2"),
        ("x = -1", "x = 1"),
        ("x = ['ab', 'c']", "x = ['a', 'bc']"),
        ("return_ = (a, b)", "return_ = [a, b]"),
    ],
)
def test_every_change_of_the_code_counts(before, after):
    digests = [parse_code(source.encode()).digest for source in (before, after)]
    assert digests[0] != digests[1]


def test_a_long_expression_does_not_exceed_the_recursion_limit():
    source = " + ".join(["x"] * 2_000)
    assert parse_code(source.encode()).imports == frozenset()
    assert parse_code(source.encode()) != parse_code(f"{source} + x".encode())


def test_what_only_a_type_checker_imports_does_not_count(project):
    source = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from proj import notes\n"
    project.write(proj__tasks__mine=source + LOOP, proj__notes="x = 1")
    assert project.changes(proj__notes="x = 2") == []


def test_a_version_of_an_imported_package_counts_and_is_shown(project, monkeypatch):
    project.write(usespackages="import pydantic, torch, json" + LOOP)
    task = load_task("usespackages:train")
    before = fingerprint_task(task, "usespackages:train", {})
    assert before.names("package") == ["pydantic"]
    real = metadata.version
    monkeypatch.setattr(
        "importlib.metadata.version", lambda name: "99" if name == "pydantic" else real(name)
    )
    after = fingerprint_task(task, "usespackages:train", {})
    shown = f"package pydantic {real('pydantic')} -> 99"
    assert describe_changes(before.parts, after.parts) == [shown]


def test_declared_files_folders_and_variables_count(project):
    declared = "train.data_files = ['rates.csv', 'images']\ntrain.environment = ['MODE']"
    project.write(own=LOOP + declared)
    rates, images = project.folder / "rates.csv", project.folder / "images"
    rates.write_text("0.1\n")
    images.mkdir()
    (images / "1.png").write_bytes(b"1")
    before = project.parts("own:train")
    assert project.parts("own:train") == before
    rates.write_text("0.2\n")
    (images / "2.png").write_bytes(b"2")
    assert describe_changes(before, project.parts("own:train", MODE="fast")) == [
        "images differs",
        "rates.csv differs",
        "environment variable MODE differs",
    ]


def test_a_declared_file_is_named_alike_on_all_machines(project):
    declared = "from pathlib import Path\ntrain.data_files = [Path(__file__).parent / 'a.csv']"
    project.write(proj__tasks__mine=LOOP + declared)
    (project.folder / "proj" / "tasks" / "a.csv").write_text("1")
    assert "file:proj/tasks/a.csv" in project.parts()


@pytest.mark.parametrize(
    ("declared", "said"),
    [
        ("train.data_files = 'a.csv'", "data_files is 'a.csv', but must be a list of names"),
        ("train.environment = [1]", r"environment is \[1\], but must be a list of names"),
    ],
)
def test_a_wrong_declaration_is_refused(project, declared, said):
    project.write(wrong=LOOP + declared)
    with pytest.raises(TaskError, match=said):
        load_task("wrong:train")


def test_a_declared_file_that_is_missing_is_named(project):
    project.write(lacks=LOOP + "train.data_files = ['missing.csv']")
    with pytest.raises(TaskError, match=r"the declared data file 'missing.csv' cannot be read"):
        fingerprint_task(load_task("lacks:train"), "lacks:train", {})


TASK = """
import importlib
from tests.engines.toys import Toy
class Mine(Toy):
    data_files = ["notes.txt"]
    def __init__(self, net="small"):
        super().__init__()
        self.net = net
    def model(self, seed):
        importlib.import_module(f"nets.{self.net}")
        return super().model(seed)
"""


def test_a_task_counts_the_module_of_its_model_and_its_declared_files(project):
    project.write(mine=TASK, nets__small="x = 1", nets__large="x = 1")
    notes = project.folder / "notes.txt"
    notes.write_text("1")
    reference = "mine:Mine"
    assert project.changes(reference=reference, nets__small="x = 2") == ["nets/small.py differs"]
    assert project.changes(reference=reference, nets__large="x = 2") == []
    before = project.parts(reference)
    notes.write_text("2")
    assert describe_changes(before, project.parts(reference)) == ["notes.txt differs"]
    other = project.parts(reference, '{"net": "large"}')
    assert "arguments.net is new" in describe_changes(before, other)


MODEL_BY_LOCATE = """
import pydoc
from tests.engines.toys import Toy
class Mine(Toy):
    def model(self, seed):
        return pydoc.locate("nets.chosen").make(super().model(seed))
"""


def test_a_module_that_only_the_model_imports_counts_in_each_process(project):
    project.write(mine=MODEL_BY_LOCATE, nets__chosen="def make(model):\n    return model")
    reference = "mine:Mine"
    tried = SCRIPT.replace("found =", CHECK + "found =")
    assert project.parts(reference, script=tried) == project.parts(reference)
    call = "reference, arguments)\nprint"
    checked = tried.replace(call, call.replace(")", ", is_checked=True)"))
    assert checked != tried
    assert project.parts(reference, script=checked) == project.parts(reference)
    changed = "def make(model):\n    return model.eval()"
    assert project.changes(reference=reference, nets__chosen=changed) == ["nets/chosen.py differs"]


class Counted(Toy):
    """A task that counts its models."""

    made = 0

    def model(self, seed):
        Counted.made += 1
        return super().model(seed)


def test_the_model_of_the_check_serves_the_fingerprint_too():
    content = document() | {"task": f"{__name__}:Counted"}
    prepare_space(Space.from_document(content, "small.toml"))
    assert Counted.made == 1


SAVED_MEANWHILE = """
from pathlib import Path
import helpers
from tests.engines.toys import Toy
class Mine(Toy):
    def data(self, seed):
        Path(helpers.__file__).write_text("x = 2")
        return super().data(seed)
"""


def test_a_file_that_is_saved_while_the_data_is_loaded_is_refused(project):
    reference = "mine:Mine"
    said = r"task 'mine:Mine': helpers.py changed while it was loaded: run the command again"
    project.write(mine=SAVED_MEANWHILE, helpers="x = 1")
    task = load_task(reference)
    with pytest.raises(TaskError, match=said):
        fingerprint_task(task, reference, {})
    fingerprint_task(task, reference, {})


class DrawsUnseeded(Toy):
    """A task that leaves the seeds of its data and of its model to the engine."""

    def data(self, seed):
        x = torch.randn(8, 3)
        return Splits(*[{"x": x, "y": x[:, :1]}] * 3)

    def model(self, seed):
        return nn.Linear(3, 1)


def test_data_drawn_from_the_global_generator_has_one_fingerprint():
    reference, task = f"{__name__}:DrawsUnseeded", DrawsUnseeded()
    before = torch.random.get_rng_state()
    first = fingerprint_task(task, reference, {})
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.randn(1)
    assert fingerprint_task(task, reference, {}) == first


def test_linked_subfolders_of_a_declared_folder_count_and_loops_end(project):
    project.write(linked=LOOP + "train.data_files = ['data']")
    data, elsewhere = project.folder / "data", project.folder / "elsewhere"
    data.mkdir()
    (elsewhere / "deep").mkdir(parents=True)
    (data / "train").symlink_to(elsewhere)
    (data / "loop").symlink_to(data)
    (elsewhere / "deep" / "up").symlink_to(elsewhere)
    image = elsewhere / "deep" / "1.png"
    image.write_bytes(b"1")
    task = load_task("linked:train")
    before = fingerprint_task(task, "linked:train", {}).parts
    assert fingerprint_task(task, "linked:train", {}).parts == before
    image.write_bytes(b"2")
    after = fingerprint_task(task, "linked:train", {}).parts
    assert describe_changes(before, after) == ["data differs"]


def test_names_and_values_that_are_not_utf_8_and_huge_integers_have_a_hash(project, monkeypatch):
    huge = "x = 0x1" + "0" * 4000
    project.write(odd=f"{huge}{LOOP}train.data_files = ['data']\ntrain.environment = ['MODE']")
    (project.folder / "data").mkdir()
    (project.folder / "data" / os.fsdecode(b"\xff.png")).touch()
    monkeypatch.setenv("MODE", os.fsdecode(b"\xff"))
    task = load_task("odd:train")
    before = fingerprint_task(task, "odd:train", {}).parts
    monkeypatch.setenv("MODE", os.fsdecode(b"\xfe"))
    after = fingerprint_task(task, "odd:train", {}).parts
    assert describe_changes(before, after) == ["environment variable MODE differs"]
    assert parse_code(huge.encode()).digest != parse_code(f"{huge}0".encode()).digest


def test_an_installed_part_of_a_namespace_package_counts_beside_a_local_one(project, monkeypatch):
    installed = project.folder / "site-packages"
    (installed / "shared_space").mkdir(parents=True)
    (installed / "shared_space" / "library.py").write_text("x = 1")
    info = installed / "shared_library-1.5.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: shared-library\nVersion: 1.5\n")
    (info / "RECORD").write_text("shared_space/library.py,,\n")
    (project.folder / "shared_space").mkdir()
    (project.folder / "shared_space" / "local.py").write_text("x = 1")
    project.write(both="from shared_space import library, local" + LOOP)
    project.write(one="from shared_space import local" + LOOP)
    path = f"{ROOT}:{installed}"
    found = project.parts("both:train", PYTHONPATH=path)
    assert found["package:shared-library"] == "1.5"
    assert {"code:both.py", "code:shared_space/local.py"} <= found.keys()
    assert "package:shared-library" not in project.parts("one:train", PYTHONPATH=path)


def test_files_that_are_run_by_path_have_the_name_of_their_caller(project):
    run = "import runpy\ndef later():\n    runpy.run_path('{}')\n"
    project.write(
        proj__tasks__mine="import proj.a.run, proj.b.run" + LOOP,
        proj__a__run=run.format("proj/a/net.py"),
        proj__b__run=run.format("proj/b/net.py"),
        proj__a__net=run.format("proj/last.py"),
        proj__b__net=run.format("proj/b/run.py"),
        proj__last="x = 1",
    )
    found = project.parts()
    assert [name for name in sorted(found) if " runs " in name] == [
        "code:proj/a/run.py runs proj/a/net.py",
        "code:proj/a/run.py runs proj/a/net.py runs proj/last.py",
        "code:proj/b/run.py runs proj/b/net.py",
    ]


def test_settings_are_shown_with_their_values():
    before = {"setting:batch_size": "16", "data:seed 0": "a" * 64}
    now = {"setting:batch_size": "32", "data:seed 0": "b" * 64}
    assert describe_changes(before, now) == ["the data of seed 0 differ", "batch_size 16 -> 32"]


def test_a_second_name_of_the_main_module_is_no_part_of_a_task(monkeypatch):
    # The import of multiprocessing, which torch needs, adds `__mp_main__`.
    reference = "tests.searches:train"
    with track_imports(reference, {}):
        monkeypatch.setitem(sys.modules, "tests_second_name", sys.modules[__name__])
        monkeypatch.setitem(sys.modules, "tests_own_name", ModuleType("tests_own_name"))
    found = loaded_modules(reference, {})
    assert "tests_own_name" in found
    assert "tests_second_name" not in found
