"""Write the generated parts of the documentation.

A part is between `<!-- generated: NAME -->` and `<!-- end -->`; NAME selects the function below
that writes it. `--check` writes nothing, and fails if a page is out of date.
"""

from __future__ import annotations

import functools
import inspect
import re
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import typer
from equivalents import rows
from family_examples import COMBINATORS_IN_TOML, EXAMPLES, IMAGES, picture
from pydantic import BaseModel

import schedsearch
from schedsearch import errors
from schedsearch.cli import app
from schedsearch.schedules import Schedule
from schedsearch.schedules.families import (
    COMBINATORS,
    LOSS_TERM_FAMILIES,
    METRIC_FAMILIES,
    OPEN_LOOP_FAMILIES,
)
from schedsearch.schedules.parameters import Parameter, ParameterType, parameters_of
from schedsearch.space import document

DOCS = Path(__file__).parent
_PART = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


class UndocumentedError(Exception):
    """An object that the pages describe has no description in the code."""


# --- commands ------------------------------------------------------------------------------------


def commands() -> str:
    """Return the help of every command as the terminal shows it."""
    root = typer.main.get_command(app)
    parent = root.make_context("schedsearch", [], resilient_parsing=True, terminal_width=80)
    sections = [_block(root.get_help(parent))]
    # The type that Typer returns does not declare the `commands` of a Click group.
    named: Mapping[str, Any] = vars(root)["commands"]
    for name, command in named.items():
        if not (command.help or "").strip():
            raise UndocumentedError(f"the command `{name}` has no docstring")
        context = command.context_class(command, info_name=name, parent=parent, terminal_width=80)
        sections.append(f"## {name}\n\n{_block(command.get_help(context))}")
    return "\n".join(sections)


def _block(text: str, language: str = "") -> str:
    lines = "\n".join(line.rstrip() for line in text.strip("\n").splitlines())
    return f"```{language}\n{lines}\n```\n"


# --- families ------------------------------------------------------------------------------------


def _families(classes: Sequence[type[Schedule]]) -> str:
    return "\n".join(map(_family, classes))


def _family(cls: type[Schedule]) -> str:
    """Return the section of one family: its docstring, parameters, examples and plot."""
    paragraphs = inspect.cleandoc(cls.__doc__ or "").split("\n\n")
    explained: dict[str, str] = {}
    lines = [f"### {cls.family}", ""]
    has_formula = has_example = False
    for paragraph in paragraphs:
        if paragraph.startswith("Args:"):
            explained = _arguments(paragraph)
            lines += [_parameter_table(cls, explained), ""]
        elif paragraph.startswith(">>>"):
            has_example = True
            lines += [_block(paragraph, "python")]
        elif not has_formula and _is_formula(paragraph):
            has_formula = True
            lines += [_block(paragraph)]
        else:
            lines += [_with_stars(paragraph), ""]
    if not (has_formula and has_example and explained):
        raise UndocumentedError(
            f"the docstring of `{cls.family}` lacks a formula, Args or an example"
        )
    if cls in COMBINATORS:
        if cls.family not in COMBINATORS_IN_TOML:
            raise UndocumentedError(f"the combinator `{cls.family}` has no TOML example")
        lines += ["In a space file:", "", _block(COMBINATORS_IN_TOML[cls.family], "toml")]
    shown = f"![an example of {cls.family}](images/families/{cls.family}.svg)"
    lines += [f"Use it when {EXAMPLES[cls.family].when}", "", shown]
    return "\n".join(lines).rstrip("\n") + "\n"


def _is_formula(paragraph: str) -> bool:
    first = paragraph.splitlines()[0]
    return re.match(r"\w+(\(.*?\))?\s+(=|<-)\s", first) is not None


def _arguments(paragraph: str) -> dict[str, str]:
    """Return the descriptions of an Args section, by name."""
    found: dict[str, str] = {}
    name = ""
    for line in textwrap.dedent(paragraph.partition("\n")[2]).splitlines():
        if line.startswith(" "):
            found[name] += " " + line.strip()
        else:
            name, _, found[name] = (part.strip() for part in line.partition(":"))
    return found


def _parameter_table(cls: type[Schedule], explained: Mapping[str, str]) -> str:
    rows = [("parameter", "type", "default", "meaning")]
    for parameter in parameters_of(cls):
        if parameter.name not in explained:
            raise UndocumentedError(
                f"`{cls.family}` does not explain `{parameter.name}` in its Args"
            )
        default = "" if parameter.required else f"`{_toml(parameter.default)}`"
        meaning = explained[parameter.name]
        rows.append((f"`{parameter.name}`", _type_and_constraints(parameter), default, meaning))
    return _table(rows)


def _table(rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table whose first row is the head."""
    head, *body = (f"| {' | '.join(map(_escaped, row))} |" for row in rows)
    return "\n".join([head, "|" + " --- |" * len(rows[0]), *body])


def _escaped(cell: str) -> str:
    # A table takes a bar for the end of a cell within code too.
    return _with_stars(cell).replace("|", r"\|")


def _with_stars(text: str) -> str:
    """Return Markdown that shows each star; within code it does so by itself."""
    return re.sub(r"(`[^`]*`)|\*", lambda found: found[1] or r"\*", text)


def _type_and_constraints(parameter: Parameter) -> str:
    kinds = {
        ParameterType.DURATION: "epochs or a share",
        ParameterType.EPOCH_COUNT: "whole epochs or a share",
        ParameterType.SCHEDULE: "a schedule",
        ParameterType.CHOICE: " or ".join(f"`{_toml(choice)}`" for choice in parameter.choices),
    }
    kind = kinds.get(parameter.type, parameter.type.value)
    if parameter.may_be_rest:
        kind = 'epochs, a share or `"rest"`'
    constraints = [each.text for each in parameter.constraints if each.text != "a finite number"]
    text = ", ".join([kind, *constraints])
    return f"a list, each {text}" if parameter.is_list else text


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else repr(value)


# --- the space file ------------------------------------------------------------------------------


def _model_table(model: type[BaseModel]) -> str:
    schema = model.model_json_schema()
    comments = _field_comments(model)
    rows = [("key", "type", "default", "meaning")]
    for name, described in schema["properties"].items():
        if not comments.get(name):
            raise UndocumentedError(f"{model.__name__}.{name} has no `#:` comment")
        is_required = name in schema.get("required", ()) and "if left out" not in comments[name]
        default = "required" if is_required else _default(described)
        rows.append((f"`{name}`", _json_kind(described), default, comments[name]))
    return f"{inspect.getdoc(model)}\n\n{_table(rows)}\n"


def _field_comments(model: type) -> dict[str, str]:
    """Return the `#:` comments above the fields of a class, by field."""
    found: dict[str, str] = {}
    comment: list[str] = []
    for line in inspect.getsource(model).splitlines():
        if line.strip().startswith("#:"):
            comment.append(line.strip().removeprefix("#:").strip())
        elif field := re.match(r"    (\w+):", line):
            found[field[1]] = " ".join(comment)
            comment = []
    return found


def _default(described: Mapping[str, Any]) -> str:
    value = described.get("default")
    return "" if value is None or isinstance(value, dict) else f"`{_toml(value)}`"


def _json_kind(described: Mapping[str, Any]) -> str:
    if "anyOf" in described:
        options = [option for option in described["anyOf"] if option.get("type") != "null"]
        return " or ".join(map(_json_kind, options))
    if "enum" in described:
        return " or ".join(f"`{_toml(value)}`" for value in described["enum"])
    kinds = {
        "string": "text",
        "integer": "a whole number",
        "number": "a number",
        "array": "a list",
        "boolean": "true or false",
    }
    limits = {
        "minimum": "at least {}",
        "maximum": "at most {}",
        "exclusiveMaximum": "less than {}",
        "minItems": "at least {} items",
    }
    said = [text.format(described[key]) for key, text in limits.items() if key in described]
    if "prefixItems" in described:
        said = [f"of {len(described['prefixItems'])}"]
    return ", ".join([kinds.get(described.get("type", ""), "a table"), *said])


# --- Python --------------------------------------------------------------------------------------

#: The members that the page shows of each public class; the others are internal.
MEMBERS: Mapping[str, Sequence[str]] = {
    "Feedback": (),
    "FileError": (),
    "InputError": (),
    "LoopRun": (
        "__iter__",
        "values",
        "at",
        "moving",
        "report",
        "checkpoint",
        "restored",
        "directory",
        "state_dict",
        "load_state_dict",
        "test",
        "ended_early",
        "processes",
    ),
    "ParameterError": (),
    "Plan": ("names", "start", "evaluate", "update", "resolve", "to_tables", "from_tables"),
    "Result": (),
    "SchedSearchError": (),
    "Schedule": ("resolve", "start", "evaluate", "update"),
    "Scheduler": ("values", "at", "step", "apply", "clamped", "state_dict", "load_state_dict"),
    "Space": ("is_config", "plan", "scheduler", "lr_scheduler", "suggest", "save"),
    "Splits": (),
    "StudyView": (
        "name",
        "space",
        "best",
        "best_schedule",
        "best_constant",
        "trials",
        "frame",
        "curves",
        "plot",
        "confirm",
        "explain",
        "export",
    ),
    "Task": ("data", "model", "terms", "metrics"),
    "TrialRecord": (),
    "WeightedLoss": ("set", "forward"),
}
#: Public classes that users read, implement or catch, but do not construct.
NOT_CONSTRUCTED = (
    "Result",
    "StudyView",
    "TrialRecord",
    *("FileError", "InputError", "LoopRun", "ParameterError", "SchedSearchError"),
    *("Schedule", "Space", "Task"),
)


_SECTIONS = {"Args:": "Arguments", "Attributes:": "Attributes", "Raises:": "Raises"}


def _public(name: str) -> str:
    """Return the reference of one public name: its signature, docstring and members."""
    found = getattr(schedsearch, name)
    lines = []
    if name not in NOT_CONSTRUCTED:
        lines.append(_block(f"schedsearch.{name}{_typed_signature(found)}", "python"))
    lines.append(_markdown(inspect.getdoc(found) or ""))
    if not inspect.isclass(found):
        return "\n".join(lines)
    rows = [(f"`{field}`", comment) for field, comment in _field_comments(found).items() if comment]
    if rows:
        lines.append(_table([("attribute", "meaning"), *rows]) + "\n")
    if MEMBERS[name]:
        lines.append("Members:\n")
    lines.extend(_member(name, member) for member in MEMBERS[name])
    return "\n".join(lines)


def _member(owner: str, name: str) -> str:
    """Return a list item for a method or a property."""
    found = inspect.getattr_static(getattr(schedsearch, owner), name)
    documented = inspect.getdoc(found)
    if not documented:
        raise UndocumentedError(f"`{owner}.{name}` has no docstring")
    if name == "__iter__":
        shown = "for epoch, values in run"
    elif isinstance(found, property | functools.cached_property):
        shown = name
    else:
        function = getattr(found, "__func__", found)
        parameters = [*inspect.signature(function).parameters.values()][1:]
        shown = f"{name}({_parameters(parameters, typed=False)})"
    text = textwrap.indent(_markdown(documented), "  ").strip()
    return f"- `{shown}`: {text}\n"


def _typed_signature(function: Callable[..., object]) -> str:
    signature = inspect.signature(function)
    end = "" if inspect.isclass(function) else f" -> {signature.return_annotation}"
    return f"({_parameters([*signature.parameters.values()], typed=True)}){end}"


def _parameters(parameters: Sequence[inspect.Parameter], *, typed: bool) -> str:
    """Return parameters as they are written in a `def`."""
    shown = []
    for position, parameter in enumerate(parameters):
        keyword_only = parameter.kind is parameter.KEYWORD_ONLY
        if keyword_only and not any(p.kind is p.KEYWORD_ONLY for p in parameters[:position]):
            shown.append("*")
        text = f"**{parameter.name}" if parameter.kind is parameter.VAR_KEYWORD else parameter.name
        if typed:
            text += f": {parameter.annotation}"
        if parameter.default is not parameter.empty:
            # A default_factory has no value to show.
            plain = isinstance(parameter.default, int | float | str | None)
            text += f" = {parameter.default!r}" if plain else " = ..."
        shown.append(text if typed else text.replace(" = ", "="))
    return ", ".join(shown)


def _markdown(docstring: str) -> str:
    """Return a docstring as Markdown: sections as lists, examples as blocks of code."""
    shown = []
    for paragraph in docstring.split("\n\n"):
        title, _, _ = paragraph.partition("\n")
        if title in _SECTIONS:
            items = [f"- `{name}`: {text}" for name, text in _arguments(paragraph).items()]
            shown.append("\n".join([f"{_SECTIONS[title]}:\n", *items]))
        elif paragraph.startswith(">>>"):
            shown.append(_block(paragraph, "python").strip())
        elif paragraph.startswith(" ") or _is_formula(paragraph):
            shown.append(_block(textwrap.dedent(paragraph)).strip())
        else:
            shown.append(paragraph)
    return "\n\n".join(shown) + "\n"


def _errors() -> str:
    """Return the tree of errors, as the module's docstring draws it."""
    _, _, tree = (errors.__doc__ or "").partition("\n\n")
    return _block(tree)


# --- pages ---------------------------------------------------------------------------------------

PARTS: Mapping[str, Callable[[], str]] = {
    **{f"python_{name}": functools.partial(_public, name) for name in schedsearch.__all__},
    "python_errors": _errors,
    "commands": commands,
    "equivalents": lambda: _table(rows()) + "\n",
    "open_loop_families": functools.partial(_families, OPEN_LOOP_FAMILIES),
    "metric_families": functools.partial(_families, METRIC_FAMILIES),
    "loss_term_families": functools.partial(_families, LOSS_TERM_FAMILIES),
    "combinators": functools.partial(_families, COMBINATORS),
    "document": functools.partial(_model_table, document.Document),
    "objective": functools.partial(_model_table, document.Objective),
    "search": functools.partial(_model_table, document.Search),
    "sampler": functools.partial(_model_table, document.SamplerOptions),
    "pruner": functools.partial(_model_table, document.PrunerOptions),
    "race": functools.partial(_model_table, document.RaceOptions),
    "hyperparameter": functools.partial(_model_table, document.HyperparameterTable),
    "group": functools.partial(_model_table, document.GroupTable),
}


def generated(page: str) -> str:
    """Return a page with its generated parts up to date."""
    return _PART.sub(lambda part: f"{part[1]}\n{PARTS[part[2]]()}\n{part[3]}", page)


def main(arguments: Sequence[str]) -> int:
    """Write or compare (`--check`) the pages, and return the exit status."""
    pages = {path: path.read_text(encoding="utf-8") for path in sorted(DOCS.glob("*.md"))}
    placed = {part[2] for page in pages.values() for part in _PART.finditer(page)}
    if placed != set(PARTS):
        print(f"parts on no page, or unknown: {sorted(placed ^ set(PARTS))}", file=sys.stderr)
        return 1
    wanted = {path: generated(page).encode() for path, page in pages.items()}
    wanted |= {
        IMAGES / f"{name}.svg": picture(example.schedule) for name, example in EXAMPLES.items()
    }
    stale = [path for path, content in wanted.items() if _content(path) != content]
    for path in stale:
        name = path.relative_to(DOCS)
        if "--check" in arguments:
            print(f"docs/{name} is out of date: run `make docs`", file=sys.stderr)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(wanted[path])
            print(f"wrote docs/{name}")
    return 1 if stale and "--check" in arguments else 0


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except UndocumentedError as error:
        sys.exit(f"undocumented: {error}")
