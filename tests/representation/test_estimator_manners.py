import inspect

import numpy as np
import pytest

from nndl_suite import LinearProbe
from nndl_suite.errors import ConfigError


def test_a_clone_made_as_scikit_learn_makes_it_has_the_same_settings():
    probe = LinearProbe(protocol="knn", seed=3, device="cpu")
    given = probe.get_params(deep=False)
    assert set(given) == set(inspect.signature(LinearProbe).parameters)
    clone = type(probe)(**given)
    assert all(clone.get_params(deep=False)[name] is value for name, value in given.items())
    assert clone.fitted_ is None


def test_settings_are_changed_by_name():
    probe = LinearProbe(device="cpu")
    assert probe.set_params(protocol="knn", seed=5) is probe
    assert (probe.protocol, probe.seed) == ("knn", 5)


@pytest.mark.parametrize(
    ("settings", "said"),
    [({"sede": 1}, "did you mean 'seed'"), ({"seed": 1, "protocol": "lin"}, "protocol"), ({"seed": -1}, "seed")],
)
def test_a_wrong_setting_is_refused_and_changes_nothing(settings, said):
    probe = LinearProbe(device="cpu")
    before = probe.get_params()
    with pytest.raises(ConfigError, match=said):
        probe.set_params(**settings)
    assert probe.get_params() == before


def test_scikit_learn_itself_clones_searches_and_cuts_folds_by_class():
    model_selection = pytest.importorskip("sklearn.model_selection")

    rng = np.random.default_rng(0)
    y = np.repeat([0, 1, 2], 30)
    x = rng.normal(size=(90, 4)).astype(np.float32) + 4 * np.eye(4, dtype=np.float32)[y]
    scores = model_selection.cross_val_score(LinearProbe(device="cpu"), x, y, cv=3)
    assert scores.mean() > 0.9
    search = model_selection.GridSearchCV(LinearProbe(device="cpu"), {"protocol": ["linear", "knn"]}, cv=3).fit(x, y)
    assert search.best_score_ > 0.9
