"""Turns of nature around other rules: what was asked for, what came, the way back, and every broken law with what it says."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tests.reference.doubles import Coin, Double
from tests.slowly import slowly

from narrows.envs import CHANCE, AbstractReversibleEnvironment, Sequence, perturbed
from narrows.envs.base import NO_ACTION
from narrows.envs.check import ContractError, check_chance, check_environment
from narrows.envs.perturbation import AbstractKernel, Perturbed
from narrows.noise import Substitution

RULES = Sequence("AC", 1, 3)
NOISY = perturbed(RULES, Substitution(RULES, 0.4))


def integer(number):
    return jnp.asarray(number, jnp.int32)


class Broken(AbstractKernel):
    """Everything comes as asked, but where a fault replaces the law: a function of state, asked and that law."""

    fault: object

    def log_probs(self, state, action):
        return self.fault(state, action, jnp.log(jnp.arange(3) == action))  # pyright: ignore[reportCallIssue]


def test_a_player_asks_and_nature_answers():
    state = NOISY.reset()
    assert (int(state.asked), int(NOISY.turn(state))) == (NO_ACTION, 0)
    assert NOISY.action_mask(state).tolist() == [True, True, False]
    asked = NOISY.step(state, integer(0))
    assert (int(asked.asked), int(NOISY.turn(asked)), int(asked.inner.length)) == (0, CHANCE, 0)
    np.testing.assert_allclose(np.exp(NOISY.chance_log_probs(asked)), [0.8, 0.2, 0.0], atol=1e-6)
    assert NOISY.action_mask(asked).tolist() == [True, True, False]
    came = NOISY.step(asked, integer(1))
    assert (int(came.asked), int(NOISY.turn(came)), came.inner.tokens.tolist()) == (NO_ACTION, 0, [1, 2, 2])
    ended = NOISY.step(NOISY.step(came, integer(2)), integer(2))
    assert bool(NOISY.is_terminal(ended)) and not NOISY.action_mask(ended).any()
    assert NOISY.to_text(jax.tree.map(lambda leaf: leaf[None], ended)) == ["C"]
    jax.tree.map(np.testing.assert_array_equal, NOISY.from_text(["C"]), jax.tree.map(lambda leaf: leaf[None], ended))
    assert (NOISY.max_steps, NOISY.num_actions) == (2 * RULES.max_steps, RULES.num_actions)


def test_impossible_outcomes_are_no_moves():
    quiet = perturbed(RULES, Substitution(RULES, 0.0))
    assert quiet.action_mask(quiet.step(quiet.reset(), integer(1))).tolist() == [False, True, False]


def test_the_way_back_remembers_what_was_asked_for():
    assert isinstance(NOISY, AbstractReversibleEnvironment)
    came = NOISY.step(NOISY.step(NOISY.reset(), integer(0)), integer(1))
    # One letter could have been asked for in two ways; the end not at all.
    assert NOISY.backward_mask(came).tolist() == [True, True, False]
    for asked in (0, 1):
        back = NOISY.backward_step(came, integer(asked))
        assert (int(back.asked), int(back.inner.length)) == (asked, 0)
        assert int(NOISY.forward_action(came, integer(asked))) == 1
        assert NOISY.backward_mask(back).tolist() == [True, False, False]
        assert int(NOISY.backward_step(back, integer(0)).asked) == NO_ACTION


def test_rules_that_cannot_step_back_stay_so():
    assert not isinstance(Perturbed(RULES, Substitution(RULES)), AbstractReversibleEnvironment)
    with pytest.raises(ValueError, match="Coin has chance turns of its own. Build the noise into its kernel"):
        perturbed(Coin((0.5, 0.5, 0.0)), Substitution(RULES))
    wrapped = Double(RULES, {})  # defines the law of chance, and has no chance turn
    assert perturbed(wrapped, Substitution(RULES)).inner is wrapped


def test_a_kernel_without_all_laws_of_its_own_gets_them_row_by_row():
    kernel = Broken(lambda state, asked, law: jnp.log(jnp.array([0.1, 0.2, 0.7])) + asked)
    expected = np.log([0.1, 0.2, 0.7]) + np.arange(3)[:, None]
    np.testing.assert_allclose(kernel.all_log_probs(RULES.reset()), expected, rtol=1e-5)


# Laws that are broken, each with what the error says of it.


def at(text, state):
    tokens = ["AC".index(letter) for letter in text] + [2] * (3 - len(text))
    return (state.length == len(text)) & jnp.all(state.tokens == jnp.array(tokens))


FAULTS = {
    "short after one action": (
        lambda state, asked, law: jnp.where(asked == 1, jnp.log(jnp.array([0.03, 0.9, 0.0])), law),
        r"after asking for action 1, probabilities \[0.03, 0.9, 0\] sum to 0.93\. State: PerturbedState",
    ),
    "long": (
        lambda state, asked, law: law + 0.1,
        r"after asking for action 0, probabilities \[1.105, 0, 0\] sum to 1.10517",
    ),
    "not a number": (
        lambda state, asked, law: jnp.where(asked == 2, jnp.nan, law),
        "after asking for action 2, the probability of outcome 0 is nan",
    ),
    "nothing but not a number": (lambda state, asked, law: law * jnp.nan, "the probability of outcome 0 is nan"),
    "infinite": (lambda state, asked, law: -law, "after asking for action 0, the probability of outcome 1 is inf"),
    "an end that is too early": (
        lambda state, asked, law: jnp.where(asked == 0, jnp.log(jnp.array([0.9, 0.0, 0.1])), law),
        r"after asking for action 0, outcome 2 is not legal and has probability 0.1\. .*length=0",
    ),
    "nothing can come": (
        lambda state, asked, law: jnp.where(asked == 0, -jnp.inf, law),
        r"after asking for action 0, probabilities \[0, 0, 0\] sum to 0",
    ),
    "nothing can ever come": (
        lambda state, asked, law: jnp.full(3, -jnp.inf),
        r"after asking for action [01], probabilities \[0, 0, 0\] sum to 0",
    ),
    "one action in one state in eight": (
        lambda state, asked, law: jnp.where(at("CA", state) & (asked == 2), jnp.log(jnp.array([0.0, 0.0, 0.5])), law),
        r"after asking for action 2, probabilities \[0, 0, 0.5\] sum to 0.5\. .*tokens=\[1, 0, 2\]",
    ),
}


NAMED = ("long", "not a number", "an end that is too early", "one action in one state in eight")
"""The faults that are found in different ways."""


@pytest.mark.parametrize(
    "name", [*NAMED, *slowly("found as others are, which guard it", *(name for name in FAULTS if name not in NAMED))]
)
def test_broken_laws_of_chance_are_named_with_state_action_and_sum(name):
    fault, expected = FAULTS[name]
    with pytest.raises(ContractError, match=expected) as error:
        check_chance(perturbed(RULES, Broken(fault)))
    assert error.value.law == "chance"
    assert error.value.state.asked >= 0
    assert "breaks the law 'chance'" in str(error.value)


def test_the_whole_contract_finds_them_too():
    fault, expected = FAULTS["nothing can come"]
    with pytest.raises(ContractError, match=expected) as error:
        check_environment(perturbed(RULES, Broken(fault)), num_trajectories=4)
    assert error.value.law == "chance"


def test_a_kernel_of_other_rules_is_refused():
    with pytest.raises(ValueError, match=r"Substitution gives float32 of shape \(5,\), expected a real number for each"):
        perturbed(RULES, Substitution(Sequence("ACGT", 1, 3)))
    with pytest.raises(ValueError, match=r"Broken gives int32 of shape \(3,\)"):
        perturbed(RULES, Broken(lambda state, asked, law: jnp.arange(3)))


def test_an_outcome_that_leads_nowhere_is_found():
    class Stuck(Sequence):
        def action_mask(self, state):
            return super().action_mask(state) & ~at("CA", state)

    rules = Stuck("AC", 1, 3)
    with pytest.raises(ContractError, match=r"tokens=\[1, 0, 2\]") as error:
        check_chance(perturbed(rules, Substitution(rules, 0.5)))
    assert error.value.law == "legal moves"


def test_rules_without_chance_pass():
    check_chance(RULES, num_trajectories=2)
