"""Groups of options that travel together: a command takes each group as one frozen dataclass."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any, cast, get_type_hints

_Parameter = inspect.Parameter


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """Turn each parameter of a command that is a dataclass into an option for each of its fields.

    Typer reads a command's options from its signature. This gives it a signature with all fields,
    and calls the command with the groups.
    """
    signature = inspect.signature(command, eval_str=True)
    groups = {
        name: cast("Any", parameter.annotation)
        for name, parameter in signature.parameters.items()
        if is_dataclass(parameter.annotation)
    }

    @functools.wraps(command)
    def call_with_groups(**options: Any) -> None:
        given = {
            name: group(**{field.name: options.pop(field.name) for field in fields(group)})
            for name, group in groups.items()
        }
        command(**options, **given)

    # All by keyword, as Typer calls a command; then their order is free.
    expanded = [
        option.replace(kind=_Parameter.KEYWORD_ONLY)
        for parameter in signature.parameters.values()
        for option in (_options(parameter.annotation) if parameter.name in groups else [parameter])
    ]
    # Any: function types do not list `__signature__`, which `inspect.signature` reads (PEP 362).
    call: Any = call_with_groups
    call.__signature__ = inspect.Signature(expanded)
    call.__annotations__ = {option.name: option.annotation for option in expanded}
    return call_with_groups


def _options(group: Any) -> list[_Parameter]:
    types = get_type_hints(group, include_extras=True)
    return [
        _Parameter(
            field.name,
            _Parameter.KEYWORD_ONLY,
            default=_default(field),
            annotation=types[field.name],
        )
        for field in fields(group)
    ]


def _default(field: Field[Any]) -> Any:
    return _Parameter.empty if field.default is MISSING else field.default
