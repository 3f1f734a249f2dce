"""Wrong values of options in one line, as for the keys of a file: option, value, rule."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Any

from schedsearch.errors import InputError, Problem, did_you_mean
from schedsearch.printable import printable_line


def option_problem(flag: str, value: object, rule: str, hint: str | None = None) -> str:
    """Return the line for a wrong value of an option.

    >>> option_problem("--trials", -5, "must be at least 1")
    '--trials is -5, but must be at least 1'
    >>> option_problem("--sampler", "grid", "needs a finite space")
    '--sampler grid: needs a finite space'
    """
    shown = f" (hint: {hint})" if hint else ""
    if rule.startswith("must "):
        return f"{flag} is {_quoted(value)}, but {rule}{shown}"
    return f"{flag} {value}: {rule}{shown}"


def problem_of_option(flag: str, problem: Problem) -> str:
    """Return the line for a mistake of a file whose value an option gave."""
    return option_problem(flag, problem.value, problem.rule, problem.hint)


def as_input_error(error: Any, value: object) -> InputError | None:
    """Return what Typer says about the value of an option as our error; None if it is no option.

    Args:
        error: `BadParameter` of Click, or of Typer, which has a copy of Click in later versions.
        value: what the user wrote.
    """
    parameter = getattr(error, "param", None)
    flags = [flag for flag in getattr(parameter, "opts", ()) if flag.startswith("--")]
    if not flags or value is None:
        return None
    rule = _rule(parameter)
    if rule is None:
        return InputError(f"{flags[0]} is {_quoted(value)}: {error.message}")
    return InputError(option_problem(flags[0], value, f"must be {rule}"))


def as_usage_error(error: Any, context: Any, args: Sequence[str]) -> InputError | None:
    """Return what Typer says about a command line as our error; None if it says something else.

    Args:
        error: of Click, or of Typer, which has a copy of Click in later versions.
        context: the context of the command.
        args: the arguments of the command.
    """
    kind = type(error).__name__
    if not hasattr(error, "format_message") or kind == "NoArgsIsHelpError":
        return None
    command, message = context.command_path, str(error.format_message())
    hint = f"`{command} -h` shows its arguments and options"
    match kind:
        case "NoSuchOption":
            option = error.option_name
            message = f"no option {option}"
            hint = _hint_for_option(option, args, error.possibilities or ()) or hint
        case "MissingParameter":
            message = f"`{command}` needs the argument {{{error.param.name}}}"
        case "BadOptionUsage" if message.endswith("requires an argument."):
            message = f"{error.option_name} needs a value"
        case "UsageError" if message.startswith("No such command"):
            known = context.command.list_commands(context)
            message = f"no command {args[0]}"
            hint = did_you_mean(args[0], known) or f"`{command} -h` lists the commands"
        case "UsageError" if message.startswith("Got unexpected extra"):
            message = f"too many arguments: {message.partition('(')[2].partition('(')[2][:-1]}"
        case _:
            message = message[:1].lower() + message[1:].rstrip(".")
    return InputError(printable_line(f"{message} (hint: {hint})"))


def _hint_for_option(option: str, args: Sequence[str], similar: Sequence[str]) -> str | None:
    """Return how to write a file whose name begins with a dash, or the most similar option."""
    for word in args:
        if word.startswith(option) and "." in word:
            return f"for a file of this name write ./{word}"
    return f"did you mean {' or '.join(sorted(similar))}?" if similar else None


def _rule(parameter: Any) -> str | None:
    """Return the rule for an option's value, to follow "must be"; None if it has none.

    Typer had the type and the range in an object `type` before it had them in the option.
    """
    described = getattr(parameter, "type", None)
    annotation = getattr(getattr(parameter, "type_descriptor", None), "annotation", None)
    name = getattr(described, "name", "")
    choices = getattr(described, "choices", None)
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        choices = [member.value for member in annotation]
    if choices:
        return f"one of {', '.join(map(str, choices))}"
    holder = parameter if described is None else described
    if annotation is int or name.startswith("integer"):
        return f"a whole number{_range(holder)}"
    if annotation is float or name.startswith("float"):
        return f"a number{_range(holder)}"
    return None


def _range(holder: Any) -> str:
    low, high = getattr(holder, "min", None), getattr(holder, "max", None)
    if low is not None and high is not None:
        return f" from {low} to {high}"
    if low is not None:
        return f" of at least {low}"
    return "" if high is None else f" of at most {high}"


def _quoted(value: object) -> str:
    """Return a value for a message: text that is no number is quoted."""
    if not isinstance(value, str):
        return repr(value)
    try:
        float(value)
    except ValueError:
        return repr(value)
    return value
