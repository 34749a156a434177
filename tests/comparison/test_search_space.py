from dataclasses import fields, replace
from math import log10

import optuna
import pytest
from scipy import stats

from nndl_suite.comparison.recipe import DEFAULT_RECIPE, Rates, Recipe
from nndl_suite.comparison.search_space import (
    Choice,
    SearchSpace,
    Span,
    check_space,
    parse_space,
    suggest,
    tunable,
    usual_space,
    with_settings,
)
from nndl_suite.errors import ConfigError


def test_every_number_of_the_recipe_may_be_tuned_and_nothing_else():
    known = tunable()
    assert list(known)[:2] == ["rate", "decay"]
    for field in fields(Recipe):
        value = getattr(DEFAULT_RECIPE, field.name)
        if value is not None:
            assert (field.name in known) == (type(value) in (int, float)), field.name
            assert known.get(field.name, type(value)) is type(value)


def test_words():
    space = parse_space(["label-smoothing=0..0.3", "batch-size=64,128", "decay=0,1e-4", "warmup=0.0..0.2"], Recipe())
    assert space.varied == (
        Span(name="rate", low=1e-4, high=1e-2, log=True),
        Choice(name="decay", values=(0, 1e-4)),
        Span(name="label_smoothing", low=0, high=0.3),
        Choice(name="batch_size", values=(64, 128)),
        Span(name="warmup", low=0, high=0.2),
    )
    assert parse_space(["learning-rate=1e-3..0.1"], Recipe()).varied[0] == Span(
        name="rate", low=1e-3, high=0.1, log=True
    )
    assert parse_space([], Recipe()) == usual_space(Recipe())
    assert usual_space(Recipe(rates=Rates(rate=0.1, decay=0))).varied == (
        Span(name="rate", low=0.01, high=1.0, log=True),
        Span(name="decay", low=1e-5, high=1e-2, log=True),
    )
    assert space.stated()["decay"] == {"values": [0, 1e-4]}
    assert space.stated()["rate"] == {"low": 1e-4, "high": 1e-2, "log": True}


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("batchsize=1..2", "did you mean 'batch_size'"),
        ("flip=0..1", "unknown setting 'flip'"),
        ("optimiser=0..1", "unknown setting 'optimiser'"),
        ("mean=0..1", "unknown setting 'mean'"),
        ("rate", "write rate=LOW..HIGH"),
        ("rate=fast..slow", "write rate=LOW..HIGH"),
        ("rate=1e-4..1e-3..1e-2", "write rate=LOW..HIGH"),
        ("rate=1e-2..1e-4", "from a number to a larger one"),
        ("rate=nan..1", "from a number to a larger one"),
        ("decay=0..0.1", "begins above 0, got 0; for 0 list the values"),
        ("decay=0.1", "two different values"),
        ("batch-size=10,10", "two different values"),
        ("batch-size=10.5,20", "whole number"),
        ("batch-size=0..20", "batch_size must be >= 1, got 0"),
        ("warmup=0..1", "warmup is a share"),
        ("label-smoothing=0.1,2", "label_smoothing must be in"),
    ],
)
def test_what_is_no_space_is_one_sentence(word, said):
    with pytest.raises(ConfigError, match=said):
        check_space(parse_space([word], Recipe()), Recipe())


def test_named_twice_or_not_at_all():
    with pytest.raises(ConfigError, match="rate is named twice"):
        parse_space(["rate=1e-3..1e-2", "learning-rate=1e-3..1e-2"], Recipe())
    with pytest.raises(ConfigError, match="rate is named twice"):
        SearchSpace(varied=(Span(name="rate", low=1e-3, high=1), Choice(name="rate", values=(1, 2))))
    with pytest.raises(ConfigError, match="one setting at least"):
        SearchSpace(varied=())


def test_settings_go_where_they_belong():
    recipe = Recipe(cnn=Rates(rate=5.0), transformer=Rates(rate=6.0), crop_padding=2)
    made = with_settings(recipe, {"rate": 1e-3, "decay": 0.2, "batch_size": 64.0, "label_smoothing": 0.25})
    rates = Rates(rate=1e-3, decay=0.2)
    assert made == replace(
        recipe, rates=rates, cnn=None, transformer=None, batch_size=64, label_smoothing=0.25, crop_padding=2
    )
    assert type(made.batch_size) is int


def test_draws_are_of_the_stated_kind_and_range():
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    space = parse_space(["batch-size=8..64", "crop-padding=0,2,4", "label-smoothing=0..0.3"], Recipe())
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    draws = [suggest(space, study.ask()) for _ in range(300)]
    assert {type(draw["batch_size"]) for draw in draws} == {type(draw["crop_padding"]) for draw in draws} == {int}
    assert {draw["crop_padding"] for draw in draws} == {0, 2, 4}
    assert stats.kstest([(log10(draw["rate"]) + 4) / 2 for draw in draws], "uniform").pvalue > 0.01
    assert stats.kstest([draw["label_smoothing"] / 0.3 for draw in draws], "uniform").pvalue > 0.01


def test_edges():
    space = parse_space(["label-smoothing=0..0.3", "batch-size=8,16"], Recipe())
    inside = {"rate": 1e-3, "decay": 0.02, "label_smoothing": 0.02, "batch_size": 8}
    assert space.at_edge(inside) == ()
    assert space.at_edge(inside | {"rate": 0.00985, "label_smoothing": 0.01}) == ("rate", "label_smoothing")
