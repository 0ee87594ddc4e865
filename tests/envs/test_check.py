"""The contract holds for every public environment, and each broken one is caught with the law that it breaks."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array, Int
from tests.reference.doubles import Coin, Double
from tests.slowly import slowly

from narrows.distance import EDITS, STEPS, AbstractDistance
from narrows.envs import BitSequence, Hypergrid, Perturbed, Sequence, Subsets, perturbed
from narrows.envs.base import AbstractEnvironment, AbstractReversibleEnvironment, Prefix
from narrows.envs.check import LAWS, ContractError, check_environment
from narrows.noise import Substitution

GRID, LETTERS, SETS = Hypergrid(2, 3), Sequence("AB", 1, 3), Subsets(3, 1, 2)


@pytest.mark.parametrize(
    "env",
    [
        Sequence("ACGU", 1, 3),
        BitSequence(),
        Hypergrid(3, 6),
        Subsets(4, 2, 2),
        *slowly(
            "other sizes of the same rules; one size of each guards them quickly",
            Sequence("A", 0, 1),
            Sequence("AB", 2, 2),
            Sequence("ACDEFGHIKLMNPQRSTVWY", 14, 60),
            Hypergrid(1, 2),
            Subsets(5),
        ),
    ],
    ids=str,
)
def test_public_environments_keep_the_contract(env):
    check_environment(env, num_trajectories=16)


@pytest.mark.parametrize(
    "rules", [GRID, *slowly("other rules; a grid guards noise quickly", LETTERS, BitSequence(3, 1), SETS)], ids=str
)
def test_public_environments_keep_the_contract_under_noise(rules):
    check_environment(perturbed(rules, Substitution(rules, 0.2)), num_trajectories=16)


def test_noise_keeps_the_contract_where_nothing_can_be_undone_and_where_all_is_certain():
    check_environment(Perturbed(LETTERS, Substitution(LETTERS, 0.0)), num_trajectories=16)


def caught(env: AbstractEnvironment) -> ContractError:
    with pytest.raises(ContractError) as error:
        check_environment(env, num_trajectories=16)
    return error.value


def one_a_law(cases: dict[str, tuple[str, AbstractReversibleEnvironment, dict[str, Any]]]) -> list[Any]:
    """Return the names of cases; all but the first that breaks a law are slow."""
    laws = [law for law, *_ in cases.values()]
    is_first = [law not in laws[:place] for place, law in enumerate(laws)]
    others = [name for name, first in zip(cases, is_first, strict=True) if not first]
    first = [name for name, first in zip(cases, is_first, strict=True) if first]
    return [*first, *slowly("breaks a law in another way; the first way guards that it is named", *others)]


def test_a_double_that_replaces_nothing_keeps_the_contract():
    check_environment(Double(GRID, {}), num_trajectories=16)


# What is wrong without a single move.

DECLARATIONS: dict[str, tuple[str, AbstractReversibleEnvironment, dict[str, Any]]] = {
    "no step": ("sizes", GRID, {"max_steps": 0}),
    "half a value": ("sizes", GRID, {"num_values": 2.5}),
    "no parent": ("sizes", GRID, {"num_backward_actions": 0}),
    "Python truth": ("traceable", GRID, {"is_terminal": lambda env, s: jnp.asarray(bool(s.is_done))}),
    "NumPy inside": (
        "traceable",
        GRID,
        {"observe": lambda env, s: jnp.asarray(np.asarray(s.coordinates))},
    ),
    "step changes a dtype": (
        "structure",
        GRID,
        {"step": lambda env, s, a: env.step(s, a)._replace(is_done=(a == 2).astype(jnp.int32))},
    ),
    "step changes a shape": (
        "structure",
        GRID,
        {"step": lambda env, s, a: s._replace(coordinates=jnp.zeros(3, jnp.int32))},
    ),
    "step forgets the class": ("structure", GRID, {"step": lambda env, s, a: tuple(env.step(s, a))}),
    "weak reset": ("structure", LETTERS, {"reset": lambda env: env.reset()._replace(length=jnp.asarray(0))}),
    "weak step": ("structure", LETTERS, {"step": lambda env, s, a: env.step(s, a)._replace(length=jnp.asarray(1))}),
    "backward step changes a dtype": (
        "structure",
        GRID,
        {"backward_step": lambda env, s, b: s._replace(coordinates=s.coordinates * 1.0)},
    ),
    "integer mask": ("shapes", GRID, {"action_mask": lambda env, s: env.action_mask(s).astype(jnp.int32)}),
    "short mask": ("shapes", GRID, {"action_mask": lambda env, s: env.action_mask(s)[:2]}),
    "long backward mask": ("shapes", GRID, {"num_backward_actions": 2}),
    "vector end": ("shapes", GRID, {"is_terminal": lambda env, s: s.coordinates == 2}),
    "float observation": ("shapes", GRID, {"observe": lambda env, s: s.coordinates / 2}),
    "long observation": ("shapes", LETTERS, {"num_features": 2}),
    "pair observation": ("shapes", GRID, {"observe": lambda env, s: (s.coordinates, s.is_done)}),
    "vector position": (
        "shapes",
        LETTERS,
        {"observe": lambda env, s: Prefix(s.tokens, s.length, jnp.expand_dims(s.length, 0))},
    ),
    "float turn": ("shapes", GRID, {"turn": lambda env, s: jnp.zeros(())}),
    "integer chance": ("shapes", GRID, {"chance_log_probs": lambda env, s: jnp.zeros(3, jnp.int32)}),
    "float backward action": ("shapes", GRID, {"backward_action": lambda env, s, a: a * 1.0}),
    "vector forward action": ("shapes", GRID, {"forward_action": lambda env, s, b: s.coordinates}),
}


@pytest.mark.parametrize("name", DECLARATIONS)
def test_wrong_declarations_are_caught(name):
    law, env, replaced = DECLARATIONS[name]
    assert caught(Double(env, replaced)).law == law


# What only play shows.


def newest_first(env, state):
    order = jnp.arange(env.max_length)
    turned = state.tokens[jnp.maximum(state.length - 1 - order, 0)]
    tokens = jnp.where(order < state.length, turned, env.num_tokens)
    return env.observe(state)._replace(
        tokens=tokens, last=jnp.where(state.length == 0, env.num_tokens, tokens[state.length - 1])
    )


def also_undoes_a_step(env, state, backward_action):
    parent = env.backward_step(state, backward_action)
    return parent._replace(coordinates=parent.coordinates - (state.is_done & (parent.coordinates > 0)))


def first_axis_stands_still(env, state, backward_action):
    back = env.backward_step(state, backward_action)
    return jax.tree.map(lambda old, new: jnp.where(backward_action == 0, old, new), state, back)


def with_extra_parent(step_axis: int, redo: int) -> dict[str, Any]:
    """Give each point off the first axis' origin one more backward action, which undoes `step_axis` and claims `redo`."""
    return {
        "num_backward_actions": 4,
        "backward_mask": lambda env, s: jnp.append(env.backward_mask(s), env.backward_mask(s)[step_axis]),
        "backward_step": lambda env, s, b: env.backward_step(s, jnp.where(b == 3, step_axis, b)),
        "forward_action": lambda env, s, b: env.forward_action(s, jnp.where(b == 3, redo, b)),
    }


PLAY: dict[str, tuple[str, AbstractReversibleEnvironment, dict[str, Any]]] = {
    "moves after the end": (
        "legal moves",
        GRID,
        {"action_mask": lambda env, s: jnp.append(s.coordinates < env.side - 1, True)},
    ),
    "stuck when full": (
        "legal moves",
        LETTERS,
        {"action_mask": lambda env, s: env.action_mask(s) & (s.length < env.max_length)},
    ),
    "longer than declared": ("termination", GRID, {"max_steps": GRID.max_steps - 1}),
    "third player": ("turn", GRID, {"turn": lambda env, s: 2 * s.is_done.astype(jnp.int32)}),
    "value out of range": ("observation", GRID, {"num_values": 2}),
    "negative value": ("observation", GRID, {"observe": lambda env, s: s.coordinates - 1}),
    "last is next": (
        "prefix",
        LETTERS,
        {"observe": lambda env, s: env.observe(s)._replace(last=s.tokens[jnp.minimum(s.length, 2)])},
    ),
    "position counts the end": (
        "prefix",
        LETTERS,
        {"observe": lambda env, s: env.observe(s)._replace(position=s.length + s.is_done)},
    ),
    "newest first": ("prefix growth", LETTERS, {"observe": newest_first}),
    "root has a parent": ("root", GRID, {"backward_mask": lambda env, s: env.backward_mask(s).at[0].set(True)}),
    "end has no parent": ("root", GRID, {"backward_mask": lambda env, s: env.backward_mask(s) & ~s.is_done}),
    "stale tokens": (
        "root",
        LETTERS,
        {"backward_step": lambda env, s, b: env.backward_step(s, b)._replace(tokens=s.tokens)},
    ),
    "standing still": ("backward termination", GRID, {"backward_step": first_axis_stands_still}),
    "undo of another axis": ("undo is legal", SETS, {"backward_action": lambda env, s, a: (a + 1) % 4}),
    "undo out of range": ("undo is legal", LETTERS, {"backward_action": lambda env, s, a: a + 5}),
    "undo goes too far": ("undo", GRID, {"backward_step": also_undoes_a_step}),
    "redo of another axis": ("redo", GRID, {"forward_action": lambda env, s, b: jnp.zeros((), jnp.int32)}),
    "parent cannot redo": (
        "parent is legal",
        GRID,
        with_extra_parent(0, 9)
        | {
            "forward_action": lambda env, s, b: jnp.where(b == 3, 9, b),
        },
    ),
    "redo leads elsewhere": (
        "parent",
        GRID,
        with_extra_parent(0, 1)
        | {
            "forward_action": lambda env, s, b: jnp.where(b == 3, 2, b),
        },
    ),
    "one parent twice": ("parent undo", GRID, with_extra_parent(0, 0)),
}


@pytest.mark.parametrize("name", one_a_law(PLAY))
def test_wrong_rules_are_caught_with_the_state_that_shows_it(name):
    law, env, replaced = PLAY[name]
    error = caught(Double(env, replaced))
    assert error.law == law
    assert jax.tree.structure(error.state) == jax.tree.structure(env.reset())
    assert f"Double breaks the law {law!r}: {LAWS[law]}." in str(error)
    assert "State: " in str(error)


def test_the_move_that_shows_the_fault_is_named():
    error = caught(Double(GRID, {"forward_action": lambda env, s, b: jnp.where(b == 1, 0, b)}))
    assert (error.law, error.action) == ("redo", 1)
    assert str(error).endswith("Action: 1.")


def test_both_ends_of_the_rules_are_seen():
    # 20 letters and an end: uniform play alone ends a hundred times too early to see the longest objects.
    env = Sequence("ACDEFGHIKLMNPQRSTVWY", 1, 100)
    stuck = {"action_mask": lambda env, s: env.action_mask(s) & (s.length < env.max_length)}
    assert caught(Double(env, stuck)).law == "legal moves"


# Compilation, batches and texts.


def counting_observation() -> Callable[..., Any]:
    calls = []

    def observe(env, state):
        calls.append(None)
        return (state.coordinates + len(calls)) % 3

    return observe


@jax.custom_batching.custom_vmap
def turned_in_a_batch(numbers: Int[Array, " feature"]) -> Int[Array, " feature"]:
    return numbers


@turned_in_a_batch.def_vmap
def _(axis_size, in_batched, numbers):
    return numbers[:, ::-1], True


def by_accident(env, texts):
    if "\0" in texts:
        raise KeyError("\0")
    return env.from_text(texts)


def from_anything(env, texts):
    return env.from_text([text if text.isprintable() else "AA" for text in texts])


@dataclass(frozen=True)
class Mutant(AbstractDistance):
    """Edits or steps, changed."""

    change: Callable[[np.ndarray], np.ndarray]
    unit: str = "edits"
    of_nearest: int = 0

    def between(self, items, others, at_most=None):
        return self.change((STEPS if " " in items[0] else EDITS).between(items, others).astype(np.int64))

    def nearest(self, items, references):
        found = super().nearest(items, references)
        return found._replace(distance=found.distance + self.of_nearest)


TEXTS: dict[str, tuple[str, AbstractReversibleEnvironment, dict[str, Any]]] = {
    "memory": ("jit", GRID, {"observe": counting_observation()}),
    "batches differ": ("vmap", GRID, {"observe": lambda env, s: turned_in_a_batch(s.coordinates)}),
    "one text too few": ("text", LETTERS, {"to_text": lambda env, s: env.to_text(s)[1:]}),
    "two lines": ("text", LETTERS, {"to_text": lambda env, s: [f"{text}\n" for text in env.to_text(s)]}),
    "bytes": ("text", LETTERS, {"to_text": lambda env, s: [text.encode() for text in env.to_text(s)]}),
    "another alphabet": ("text", LETTERS, {"to_text": lambda env, s: [text.lower() for text in env.to_text(s)]}),
    "reads backwards": ("text", LETTERS, {"from_text": lambda env, texts: env.from_text([t[::-1] for t in texts])}),
    "unfinished objects": (
        "text",
        GRID,
        {"from_text": lambda env, texts: env.from_text(texts)._replace(is_done=jnp.zeros(len(texts), bool))},
    ),
    "another dtype": (
        "structure",
        GRID,
        {"from_text": lambda env, texts: env.from_text(texts)._replace(is_done=jnp.ones(len(texts), jnp.int32))},
    ),
    "sorted letters": (
        "distinct texts",
        LETTERS,
        {"to_text": lambda env, s: ["".join(sorted(text)) for text in env.to_text(s)]},
    ),
    "half an edit": ("distance", LETTERS, {"distance": Mutant(lambda apart: apart / 2)}),
    "less than nothing": ("distance", LETTERS, {"distance": Mutant(lambda apart: -apart)}),
    "no unit": ("distance", LETTERS, {"distance": Mutant(lambda apart: apart, unit="")}),
    "not the nearest": ("distance", LETTERS, {"distance": Mutant(lambda apart: apart, of_nearest=1)}),
    "far from itself": ("distance zero", LETTERS, {"distance": Mutant(lambda apart: apart + 1)}),
    "others are the same": ("distance zero", LETTERS, {"distance": Mutant(lambda apart: apart // 2)}),
    "uphill": ("distance symmetry", LETTERS, {"distance": Mutant(lambda apart: np.triu(2 * apart) + np.tril(apart))}),
    "squared": ("distance triangle", GRID, {"distance": Mutant(lambda apart: apart**2)}),
    "anything is an object": ("refusal", LETTERS, {"from_text": from_anything}),
    "refuses by accident": (
        "refusal",
        LETTERS,
        {"from_text": by_accident},
    ),
}


@pytest.mark.parametrize("name", one_a_law(TEXTS))
def test_wrong_transformations_and_texts_are_caught(name):
    law, env, replaced = TEXTS[name]
    assert caught(Double(env, replaced)).law == law


# Chance turns.


def test_a_chance_turn_keeps_the_contract_also_in_an_environment_that_cannot_be_reversed():
    check_environment(Coin((0.9, 0.1, 0.0)), num_trajectories=16)


@pytest.mark.parametrize(
    "probabilities", [(0.9, 0.09, 0.0), (0.6, 0.2, 0.2), (0.6, 0.4, 1e-9), (0.5, 0.6, 0.0), (float("nan"), 0.5, 0.0)]
)
def test_wrong_chances_are_caught(probabilities):
    error = caught(Coin(probabilities))
    assert error.law == "chance"
    assert error.state.num_laid == 1


def test_the_check_is_reproducible_and_refuses_to_play_nothing():
    broken = Double(Hypergrid(3, 4), {"observe": lambda env, s: s.coordinates - 1})
    first, second = caught(broken), caught(broken)
    assert str(first) == str(second)
    assert isinstance(first, ValueError)
    with pytest.raises(ValueError, match="num_trajectories must be at least 2, got 1"):
        check_environment(GRID, num_trajectories=1)


def test_states_along_must_agree_with_stepping():
    class Late(Sequence):
        """Forgets the last letter of each state that is not the first."""

        def states_along(self, actions):
            states = super().states_along(actions)
            return states._replace(length=jnp.maximum(states.length - 1, 0))

    error = caught(Late("AB", 0, 3))
    assert error.law == "path"
    assert "another state after the actions [" in str(error)
