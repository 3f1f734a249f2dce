"""The rule by which a value of a plan is set in the parameter groups of an optimizer.

The parameter group with the largest initial value of a key has the value of the plan; each other
group has its share of it:

    value(group) = value * initial(group) / largest initial

If all initial values are 0, each group has the value. A group with the "name" GROUP has the value
of `GROUP.KEY` if the plan sets that, and does not count for the largest. A group that is added
later keeps the ratio that it has then to the group with the largest initial value; if it has the
default of the optimizer, that counts as its initial value. It does not count for the largest.

A group with the entry `lr_scale`, as timm makes for layer-wise decay, has its `lr` multiplied by
it, unless the initial values have these ratios already.

As torch keeps `initial_lr`, the initial values are entries `initial_KEY` of the groups. Copies and
checkpoints of the optimizer contain them, so its shares do not depend on the present values.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Protocol, TypeAlias

from schedsearch.errors import TrainingRefusedError

Group: TypeAlias = dict[str, Any]
#: A parameter group, one of its keys, and the value that is set there.
Setting: TypeAlias = tuple[Group, str, float]
#: The entry that marks a group that was added after the first values were set.
_ADDED = "schedsearch_added"


class Optimizer(Protocol):
    """The part of a torch optimizer that has its parameter groups.

    `defaults`, if there are any, are the values of a group that is added without values.
    """

    param_groups: list[Group]


def apply_values(values: Mapping[str, float], optimizer: Optimizer) -> list[Setting]:
    """Set values in the parameter groups of an optimizer, and return them; see `Scheduler.apply`.

    Raises:
        InputError: an initial value that the shares depend on is negative or not a number; then
            nothing is set.
    """
    groups, defaults = optimizer.param_groups, getattr(optimizer, "defaults", {})
    by_key = {
        key: group_values(key, values, groups, defaults) for key in moved_keys(values, groups)
    }
    settings = [
        (group, key, value)
        for key, of_groups in by_key.items()
        for group, value in zip(groups, of_groups, strict=True)
        if value is not None
    ]
    for group, key, value in settings:
        set_value(group, key, value)
    return settings


def check_optimizers(names: Collection[str], optimizers: Sequence[Optimizer]) -> None:
    """Check that several optimizers begin with equal values of each key that one name sets.

    Args:
        names: the hyperparameters that the plan sets.
        optimizers: those of one training.

    Raises:
        InputError: the largest initial values of a key differ, or one is not valid.
    """
    if len(optimizers) < 2:
        return
    for key in dict.fromkeys(k for o in optimizers for k in moved_keys(names, o.param_groups)):
        found = [(o, _reference(key, names, o.param_groups)) for o in optimizers]
        begins = [(type(o).__name__, value) for o, value in found if value is not None]
        if len({value for _, value in begins}) > 1:
            raise TrainingRefusedError(
                f"the plan sets one value of `{key}` in several optimizers, but they begin with "
                f"different ones: {', '.join(f'{value} ({cls})' for cls, value in begins)}; give "
                'the parameter groups names, as in {"params": ..., "name": "generator"}, and '
                f"schedule `generator.{key}` and so on, or begin with one value in all optimizers"
            )


def group_values(
    key: str, values: Mapping[str, float], groups: Sequence[Group], defaults: Mapping[str, Any]
) -> list[float | None]:
    """Return the value of a key in each parameter group; None where no hyperparameter sets it.

    Args:
        key: of the groups.
        values: those of the plan.
        groups: all of an optimizer.
        defaults: of the optimizer, for groups that are added without values.

    Raises:
        InputError: an initial value that the shares depend on is negative or not a number.
    """
    record_initial(key, groups, values, defaults)
    reference = _reference(key, values, groups)
    row: list[float | None] = []
    for group, scale in zip(groups, _scales(key, values, groups), strict=True):
        name = setting_name(key, values, group)
        initial = initial_value(key, group) if name == key else None
        if name is None:
            row.append(None)
        elif initial is None or not reference:
            row.append(values[name] * scale)
        else:
            row.append(values[name] * (initial / reference * scale))
    return row


def setting_name(key: str, names: Collection[str], group: Group) -> str | None:
    """Return the hyperparameter that sets a key of a group: `GROUP.KEY`, `KEY` or none."""
    if _has(group, key):
        for name in (f"{group['name']}.{key}" if "name" in group else key, key):
            if name in names:
                return name
    return None


def moved_keys(names: Iterable[str], groups: Sequence[Group]) -> list[str]:
    """Return the keys of the groups that hyperparameters set."""
    keys: dict[str, None] = {}
    for name in names:
        for group in groups:
            prefix = f"{group['name']}." if "name" in group else ""
            for key in {name, name.removeprefix(prefix)}:
                if _has(group, key):
                    keys[key] = None
    return list(keys)


def get_value(group: Mapping[str, Any], key: str) -> Any:
    """Return the present value of a key; `momentum` of Adam is its first beta."""
    return group["betas"][0] if key == "momentum" and "betas" in group else group[key]


def record_initial(
    key: str,
    groups: Sequence[Group],
    names: Collection[str] = (),
    defaults: Mapping[str, Any] = MappingProxyType({}),
) -> None:
    """Record the initial values of a key in the groups that have none.

    Each group then has its value for itself.

    Args:
        key: of the groups.
        groups: all of an optimizer.
        names: the hyperparameters of the plan, and
        defaults: of the optimizer, both for groups that were added later.
    """
    present = [group for group in groups if _has(group, key)]
    _separate_tensors(key, present)
    unknown = [group for group in present if f"initial_{key}" not in group]
    known = [group for group in present if f"initial_{key}" in group]
    decay = _decay_until_now(key, names, known)
    default = _number(key, get_value(defaults, key)) if _has(defaults, key) else None
    for group in unknown:
        # Not a tensor: reading one on a GPU in each step would wait for the GPU.
        value = _number(key, get_value(group, key))
        if known:
            group[_ADDED] = True
            if value is not None and value != default:
                value /= decay
        group[f"initial_{key}"] = value


def _decay_until_now(key: str, names: Collection[str], groups: Sequence[Group]) -> float:
    """Return present / initial value of the group with the largest initial value; 1 if it is 0."""
    largest = _largest(key, names, groups)
    if largest is None:
        return 1.0
    initial, present = initial_value(key, largest), _number(key, get_value(largest, key))
    scales = zip(groups, _scales(key, names, groups), strict=True)
    [scale] = [scale for group, scale in scales if group is largest]
    return present / (initial * scale) if initial and present and scale else 1.0


def _scales(key: str, names: Collection[str], groups: Sequence[Group]) -> list[float]:
    """Return by what the share of each group is multiplied: its `lr_scale`, if it has one.

    Some constructors of groups set both `lr_scale` and the `lr` that results from it.
    """
    scales = [1.0] * len(groups)
    if key != "lr" or not any("lr_scale" in group for group in groups):
        return scales
    counted = []
    for index, group in enumerate(groups):
        if setting_name(key, names, group) == key:
            if "lr_scale" in group:
                scales[index] = _number("lr_scale", group["lr_scale"]) or 0.0
            counted.append((initial_value(key, group) or 0.0, scales[index]))
    initial, scale = max(counted, default=(0.0, 1.0))
    is_in_ratio = all(math.isclose(i * scale, initial * s, rel_tol=1e-6) for i, s in counted)
    if is_in_ratio and len({i for i, _ in counted}) > 1:
        return [1.0] * len(groups)
    return scales


def set_initial(key: str, group: Group, value: float) -> None:
    """Record another initial value of a key than the present one."""
    group[f"initial_{key}"] = value


def initial_value(key: str, group: Group) -> float | None:
    """Return the initial value of a key, its present value if none is recorded; None for None."""
    return _number(key, group.get(f"initial_{key}", get_value(group, key)))


def _reference(key: str, names: Collection[str], groups: Iterable[Group]) -> float | None:
    """Return the largest initial value of a key; None if no group counts for it."""
    largest = _largest(key, names, groups)
    return None if largest is None else initial_value(key, largest)


def _largest(key: str, names: Collection[str], groups: Iterable[Group]) -> Group | None:
    """Return the group with the largest initial value of a key; None if no group counts for it."""
    counted = []
    for group in groups:
        if setting_name(key, names, group) != key:
            continue
        initial = initial_value(key, group)
        if initial is None:
            continue
        if not 0 <= initial < math.inf:
            raise TrainingRefusedError(
                f"`{key}` of a parameter group begins with {initial}, but must be a finite number "
                "of at least 0, since the groups keep the ratios of their initial values; set it "
                f"in the optimizer, or give the group a name and schedule `NAME.{key}`"
            )
        counted.append(group)
    from_start = [group for group in counted if not group.get(_ADDED)]
    return max(
        from_start or counted, key=lambda group: initial_value(key, group) or 0.0, default=None
    )


def _number(key: str, value: Any) -> float | None:
    if value is None:  # the optimizer chooses a value
        return None
    try:
        return float(value)
    except (TypeError, ValueError, RuntimeError):
        raise TrainingRefusedError(
            f"`{key}` of a parameter group is a {type(value).__name__}, but a plan sets only "
            f"numbers; rename the hyperparameter `{key}` if it is not one of the optimizer"
        ) from None


def _has(group: Mapping[str, Any], key: str) -> bool:
    return key in group or (key == "momentum" and "betas" in group)


def _separate_tensors(key: str, groups: Iterable[Group]) -> None:
    """Copy a tensor that several groups share, as torch gives them that of `lr=torch.tensor(...)`.

    Otherwise all of them would have the value that is set last.
    """
    seen: set[int] = set()
    for group in groups:
        value = get_value(group, key)
        if hasattr(value, "fill_"):
            if id(value) in seen:
                _replace(group, key, value.clone())
            seen.add(id(value))


def set_value(group: Group, key: str, value: Any) -> None:
    """Set a key of a group; a tensor keeps its identity, for compiled optimizers."""
    present = get_value(group, key)
    if hasattr(present, "fill_"):
        present.fill_(value)
    else:
        _replace(group, key, value)


def _replace(group: Group, key: str, value: Any) -> None:
    if key == "momentum" and "betas" in group:
        group["betas"] = (value, group["betas"][1])
    else:
        group[key] = value
