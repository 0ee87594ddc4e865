"""How a fitted proxy enters the reward: its mean, a lower bound, its most sceptical member."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tests.rewards.proxies import make_quality

from narrows.data import Space
from narrows.envs import Sequence
from narrows.proxies import Proxy
from narrows.proxies.ensemble import Ensemble, make_members, save


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trust") / "proxy"
    space = Space("rna", "ACGU", 2, 4)
    offset, scale, std_scale = (jnp.asarray(number, jnp.float32) for number in (0.3, 2.0, 1.7))
    ensemble = Ensemble(make_members(space, 3, jax.random.key(0)), offset, scale, std_scale, space)
    save(ensemble, make_quality(), folder)
    return ensemble, Sequence(ensemble.alphabet, ensemble.space.min_length, ensemble.space.max_length), str(folder)


def test_each_way_by_hand(place):
    ensemble, env, path = place
    states = env.from_text(["ACG", "AA", "CCGA"])
    members = [jax.tree.map(lambda leaf, k=k: leaf[k], ensemble.members) for k in range(ensemble.num_members)]
    single = [jax.vmap(member)(states.tokens) for member in members]
    guesses = float(ensemble.offset) + float(ensemble.scale) * np.asarray(single, np.float64)
    mean, spread = guesses.mean(axis=0), float(ensemble.std_scale)
    expected = {
        (0.0, None): mean,
        (0.0, "mean"): mean,
        (1.5, None): mean - 1.5 * spread * guesses.std(axis=0),
        (1.5, "lower_bound"): mean - 1.5 * spread * guesses.std(axis=0),
        (0.0, "ensemble_min"): mean - spread * (mean - guesses.min(axis=0)),
    }
    for (kappa, trust), wanted in expected.items():
        found = jnp.asarray(Proxy(env, path, kappa, trust)(states))
        assert np.allclose(found, wanted, rtol=1e-5, atol=1e-5), (kappa, trust)


@pytest.mark.parametrize(
    ("kappa", "trust", "message"),
    [
        (0.0, "lower_bound", "Set kappa, 1 is usual"),
        (1.0, "mean", "trust is mean, which has no kappa"),
        (1.0, "ensemble_min", "trust is ensemble_min, which has no kappa"),
        (0.0, "median", "trust must be one of mean, lower_bound, ensemble_min, got 'median'"),
        (-1.0, None, "kappa must be at least 0"),
    ],
)
def test_what_makes_no_sense_is_refused(place, kappa, trust, message):
    _, env, path = place
    with pytest.raises(ValueError, match=message):
        Proxy(env, path, kappa, trust)
