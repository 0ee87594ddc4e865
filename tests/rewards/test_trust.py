"""How a fitted proxy enters the reward: its mean, a lower bound, its most sceptical member."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tests.rewards.proxies import make_quality

from narrows.data import Space
from narrows.envs import Sequence
from narrows.proxies import Proxy
from narrows.proxies.fitted import FittedProxy, save
from narrows.proxies.models.constant import Constant
from narrows.proxies.models.networks import Networks, make_networks


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trust") / "proxy"
    space = Space("rna", "ACGU", 2, 4)
    offset, scale, std_scale = (jnp.asarray(number, jnp.float32) for number in (0.3, 2.0, 1.7))
    networks = Networks(make_networks(space, 3, jax.random.key(0)))
    fitted = FittedProxy((networks,), jnp.ones(1), offset, scale, std_scale, space)
    save(fitted, make_quality(), folder)
    return fitted, Sequence(space.alphabet, space.min_length, space.max_length), str(folder)


def test_each_way_by_hand(place):
    fitted, env, path = place
    states = env.from_text(["ACG", "AA", "CCGA"])
    members = [jax.tree.map(lambda leaf, k=k: leaf[k], fitted.models[0].networks) for k in range(fitted.num_members)]
    single = [jax.vmap(member)(states.tokens) for member in members]
    guesses = float(fitted.offset) + float(fitted.scale) * np.asarray(single, np.float64)
    mean, spread = guesses.mean(axis=0), float(fitted.std_scale)
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


def test_one_opinion_alone_has_no_most_sceptical_member(tmp_path):
    space, one = Space("rna", "ACGU", 2, 4), jnp.ones(())
    save(FittedProxy((Constant(one, one),), jnp.ones(1), 0.0, one, one, space), make_quality(), tmp_path)
    with pytest.raises(ValueError, match="has one member alone. Use lower_bound"):
        Proxy(Sequence("ACGU", 2, 4), str(tmp_path), trust="ensemble_min")
