"""The laws that an environment keeps, and the error that names the one it breaks."""

from typing import Any

import jax
import numpy as np

from narrows.envs.base import AbstractEnvironment

LAWS = {
    "sizes": "num_actions, max_steps, num_features, num_values and num_backward_actions are integers >= 1",
    "traceable": "rules are JAX functions: no Python `if`, `int()` or NumPy on a value of the state",
    "structure": "reset, step and backward_step give one structure, with the same shapes and dtypes, none weakly typed",
    "shapes": "masks are bool[actions], is_terminal bool[], turn and action maps int[], chance_log_probs float[actions], "
    "observe int[num_features] or a Prefix of it",
    "legal moves": "a state has a legal action exactly when it is not terminal",
    "termination": "legal play ends within max_steps",
    "turn": "turn is 0, 1 or CHANCE",
    "chance": "at a chance turn the probabilities of the legal outcomes sum to 1 and illegal outcomes have -inf",
    "observation": "observed integers lie in [0, num_values)",
    "path": "states_along gives the states that stepping through the actions gives",
    "prefix": "a Prefix has its newest token in `last` (num_values - 1 before the first) and their number in `position`",
    "prefix growth": "a move appends at most one token to a Prefix and leaves the earlier ones alone",
    "root": "a state has a backward action exactly when it is not the initial one",
    "backward termination": "legal backward play reaches the initial state within max_steps",
    "undo is legal": "backward_action(s, a) is legal in step(s, a)",
    "undo": "backward_step(step(s, a), backward_action(s, a)) is s",
    "redo": "forward_action(step(s, a), backward_action(s, a)) is a",
    "parent is legal": "forward_action(s, b) is legal in backward_step(s, b)",
    "parent": "step(backward_step(s, b), forward_action(s, b)) is s",
    "parent undo": "backward_action(backward_step(s, b), forward_action(s, b)) is b",
    "jit": "a compiled function returns what it returns without compilation",
    "vmap": "a function on a batch returns what it returns on each state",
    "text": "to_text gives one line of text an object, from_text the very same state back",
    "distinct texts": "distinct objects have distinct texts",
    "distance": "distance gives a whole number >= 0 for each two objects, by nearest the least of them, and the unit in words",
    "distance zero": "the distance of two objects is 0 exactly when they are the same",
    "distance symmetry": "the distance of two objects is the same from either",
    "distance triangle": "the distance of two objects is at most that by way of a third",
    "refusal": "from_text answers a text that names no object with ValueError",
}
"""Each law that `check_environment` checks: its name and what it says. `check_chance` checks those of moves and of chance."""


class ContractError(ValueError):
    """The law that an environment breaks (`law`, a key of `LAWS`) and where, as far as one state and action show it."""

    def __init__(
        self, env: AbstractEnvironment, law: str, *, found: str = "", state: Any = None, action: int | None = None
    ) -> None:
        self.law, self.state, self.action = law, state, action
        where = "" if state is None else f" State: {as_lists(state)}."
        what = "" if action is None else f" Action: {action}."
        super().__init__(
            f"{type(env).__name__} breaks the law {law!r}: {LAWS[law]}.{found and f' Found: {found}.'}{where}{what}"
        )


def raise_first(env: AbstractEnvironment, laws: dict[str, np.ndarray], states: Any, actions: Any = None) -> None:
    """Raise ContractError for the first law, in the order of `LAWS`, that does not hold everywhere."""
    for law in LAWS:
        if law in laws and not np.all(laws[law]):
            row = int(np.argmin(laws[law]))
            action = None if actions is None else int(actions[row])
            raise ContractError(env, law, state=rows_of(states, row), action=action)


def as_lists(state: Any) -> Any:
    """Return a state with plain lists and numbers for its arrays, as people read it."""
    return jax.tree.map(lambda leaf: np.asarray(leaf).tolist(), state)


def rows_of(states: Any, index: Any) -> Any:
    """Return one state (an integer) or a batch of them (an array of integers) out of a batch, on the host."""
    return jax.tree.map(lambda leaf: np.asarray(leaf)[index], states)
