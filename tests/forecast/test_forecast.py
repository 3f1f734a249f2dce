"""Forecasts of plans and runs on made-up trainings whose results are known."""

from __future__ import annotations

import numpy as np
import pytest

from schedsearch.forecast import PlanForecast, RunForecast, part
from schedsearch.forecast.objective_scale import ObjectiveScale

EPOCHS = 40


def trainings(number: int, seed: int, noise: float = 0.02) -> tuple[np.ndarray, ...]:
    """Return paths, curves and final values of trainings whose curves cross.

    The rate falls at a random time. A rate that has fallen looks better at once, but one that falls
    later ends better: log final = 0.5 - time, log curve = final + 1 while the rate is high.
    """
    rng = np.random.default_rng(seed)
    falls = rng.uniform(0.1, 0.9, number)
    times = (np.arange(30) + 0.5) / 30
    paths = np.where(times < falls[:, None], 0.1, 0.001)[..., None]
    finals = np.exp(0.5 - falls + noise * rng.normal(size=number))
    epochs = (np.arange(EPOCHS) + 0.5) / EPOCHS
    curves = finals[:, None] * np.where(epochs < falls[:, None], np.e, 1.0)
    return paths, curves, finals


def test_a_plan_is_forecast_by_its_values_over_the_run():
    paths, _, finals = trainings(40, seed=0)
    unseen, _, expected = trainings(40, seed=1)
    forecast = PlanForecast.fit(paths[:, 1::3], finals)
    ranks = np.argsort(np.argsort(forecast.optimistic(unseen[:, 1::3], deviations=0)))
    assert np.corrcoef(ranks, np.argsort(np.argsort(expected)))[0, 1] > 0.9


def test_a_plan_that_is_assumed_to_be_trained_is_less_attractive():
    paths, _, finals = trainings(6, seed=0)
    forecast = PlanForecast.fit(paths[:, 1::3], finals)
    candidate = trainings(1, seed=5)[0][:, 1::3]
    assert forecast.assuming(candidate).optimistic(candidate) > forecast.optimistic(candidate)


def test_a_kernel_is_kept_only_for_values_on_its_scale():
    paths, _curves, finals = trainings(40, seed=0)
    paths = paths[:, 1::3]
    before = PlanForecast.fit(paths[:30], finals[:30])
    assert PlanForecast.fit(paths, finals, before=before).process.kernel == before.process.kernel
    # A value without a logarithm: the kernel, the mean and the spread would be those of logarithms.
    reaching_zero = finals - finals.min()
    found = PlanForecast.fit(paths, reaching_zero, before=before)
    assert np.array_equal(
        found.optimistic(paths), PlanForecast.fit(paths, reaching_zero).optimistic(paths)
    )


def run_forecast(epochs: int, number: int = 60) -> RunForecast:
    paths, curves, finals = trainings(number, seed=0)
    return RunForecast.fit(*parts(paths, epochs), curves[:, :epochs], finals)


def parts(paths: np.ndarray, epochs: int) -> tuple[np.ndarray, np.ndarray]:
    return part(paths, 0, epochs / EPOCHS, 6), part(paths, epochs / EPOCHS, 1, 8)


def test_a_run_that_looks_worse_now_but_will_end_better_has_the_better_chance():
    paths, curves, finals = trainings(40, seed=1)
    half = EPOCHS // 2
    chances = run_forecast(half).chance(
        *parts(paths, half), curves[:, :half], float(np.quantile(finals, 0.3))
    )
    late = finals < np.quantile(finals, 0.15)
    early = finals > np.quantile(finals, 0.6)
    # At half-way, the good ones still have the worse values.
    assert curves[late, half - 1].min() > curves[early, half - 1].max()
    assert chances[late].min() > 0.5 > 0.1 > chances[early].max()


def test_nine_of_ten_final_values_are_within_the_90_percent_interval():
    paths, curves, finals = trainings(400, seed=2)
    half = EPOCHS // 2
    found = run_forecast(half).quantiles(*parts(paths, half), curves[:, :half], (0.05, 0.5, 0.95))
    within = (found[:, 0] <= finals) & (finals <= found[:, 2])
    assert 0.85 <= within.mean() <= 1.0
    assert np.median(found[:, 1] / finals) == pytest.approx(1, abs=0.02)


def test_a_plan_unlike_all_others_is_uncertain():
    paths, curves, _finals = trainings(60, seed=0)
    half = EPOCHS // 2
    strange = np.full((1, 30, 1), 5.0)
    model = run_forecast(half)
    curve = curves[:1, :half]
    deviation = model.predict(*parts(strange, half), curve)[1]
    usual = model.predict(*parts(paths[:1], half), curve)[1]
    assert deviation[0] > 2 * usual[0]


def test_metrics_that_may_be_negative_are_not_seen_in_their_logarithm():
    scale = ObjectiveScale.of(np.array([1.0, -2.0]))
    assert not scale.logarithmic
    assert scale.invert(scale.apply(np.array([-2.0, 3.0]))).tolist() == [-2.0, 3.0]
    positive = ObjectiveScale.of(np.array([1.0, 2.0]))
    assert positive.invert(positive.apply(np.array([0.5]))) == pytest.approx([0.5])
