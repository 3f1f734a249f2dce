"""The timetable of a trainer agrees with a count, batch by batch."""

from __future__ import annotations

import math
from itertools import pairwise

from hypothesis import assume, given
from hypothesis import strategies as st

from schedsearch.integrations.timetable import Timetable

EPOCHS = 7


@st.composite
def timetables(draw):
    batches = draw(st.integers(1, 8))
    every = draw(st.sampled_from([None, 1, 2, 3]))
    check = draw(st.integers(1, 12 if every is None else batches))
    sizes = draw(st.lists(st.integers(1, 5), min_size=1, max_size=3))
    firsts = draw(st.lists(st.integers(1, EPOCHS), min_size=len(sizes) - 1, unique=True))
    accumulation = list(zip([0, *sorted(firsts)], sizes, strict=False))
    return Timetable(batches, check, every, tuple(accumulation))


def count(timetable):
    """Return (position, steps, validations, whether a validation is due) after each batch."""
    steps = validations = batches_done = 0
    rows = []
    for epoch in range(EPOCHS):
        size = [s for first, s in timetable.accumulation if first <= epoch][-1]
        for batch in range(1, int(timetable.batches) + 1):
            batches_done += 1
            steps += batch % size == 0 or batch == timetable.batches
            if timetable.every_n_epochs is None:
                due = batches_done % timetable.check_every == 0
            else:
                is_due_epoch = (epoch + 1) % timetable.every_n_epochs == 0
                due = is_due_epoch and batch % timetable.check_every == 0
            validations += due
            rows.append(((epoch, batch), steps, validations, due))
    return rows


@given(timetables())
def test_steps_and_validations_are_those_of_a_count(timetable):
    for position, steps, validations, due in count(timetable):
        assert timetable.steps_before(position) == steps
        assert timetable.validations_before(position) == validations
        assert timetable.is_validation(position) == due
        if due:
            assert timetable.position(validations) == position


@given(timetables())
def test_the_steps_of_an_epoch_of_the_plan_are_numbered_up_to_their_number(timetable):
    rows = [((0, 0), 0, 0, True), *count(timetable)]
    for (position, done, validations, _), (_, after, *_) in pairwise(rows):
        inside = [steps for _, steps, v, _ in rows if v == validations]
        ends = [steps for _, steps, v, due in rows if v == validations + 1 and due]
        if ends and after > done:
            expected = (done - inside[0], ends[0] - inside[0])
            assert timetable.step_of(position) == expected


@given(timetables(), st.integers(0, EPOCHS), st.integers(1, 40))
def test_a_training_reaches_the_validations_before_its_limits(timetable, epochs, max_steps):
    reached = 0
    for (epoch, batch), _, validation, due in count(timetable):
        if due:
            before = timetable.steps_before((epoch, batch - 1))
            expected = epoch < epochs and before < max_steps
            assert timetable.reaches(validation, epochs, max_steps) == expected
            reached += expected
    if epochs < EPOCHS:
        assert timetable.validations(epochs, max_steps) == reached


@given(st.integers(1, 9), st.integers(1, 5))
def test_batches_from_one_validation_to_the_next_need_no_length_of_the_data(check, validation):
    endless = Timetable(math.inf, check, None)
    assert endless.knows_steps
    assert endless.knows_validations
    assert endless.position(validation) == (0, check * validation)
    assert endless.step_of((0, check * validation + check - 1)) == (check - 1, check)


@given(st.sampled_from([1, 2]), st.integers(1, 5))
def test_validations_at_the_end_of_a_training_epoch_of_unknown_length_are_counted(every, epoch):
    assume(epoch % every == 0)
    endless = Timetable(math.inf, math.inf, every)
    assert endless.knows_validations
    assert not endless.knows_steps
    assert endless.is_validation((every - 1, 5)) is None
    assert endless.validations_before((epoch, 3)) == epoch // every
