"""The contract of environments, as a function that anyone calls on their own rules."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from narrows.envs.base import CHANCE, NO_ACTION, AbstractEnvironment, AbstractReversibleEnvironment, Prefix, features
from narrows.envs.chance import check_chance as check_chance
from narrows.envs.chance import check_chance_around, is_chance_kept, play_with_chance
from narrows.envs.contract import LAWS as LAWS
from narrows.envs.contract import ContractError as ContractError
from narrows.envs.contract import as_lists, raise_first, rows_of
from narrows.envs.declarations import check_declarations, require_state
from narrows.envs.play import concatenate, distinct, is_same, play_backwards

MAX_MOVES = 16_384
"""Moves checked at most; more than that in the sample are thinned at random."""
MAX_APART = 64
"""Objects whose distances are compared."""


def check_environment(env: AbstractEnvironment, *, num_trajectories: int = 64, seed: int = 0) -> None:
    """Check that `env` keeps every law in `LAWS`, on the states that random legal play visits.

    Half of the trajectories end as soon as chance has it, half go on as long as they can, so that both ends of the rules are
    seen. A reversible environment is also played backwards from the ends. Chance turns are looked at as in `check_chance`,
    after every legal action of every visited state.

    Args:
        env: the rules.
        num_trajectories: how many are played.
        seed: of the play; the same seed finds the same fault.

    Raises ContractError (a ValueError) that names the first broken law and the state and action that break it.

    >>> from narrows.envs import Hypergrid
    >>> check_environment(Hypergrid(ndim=2, side=4), num_trajectories=8)
    """
    if num_trajectories < 2:
        raise ValueError(f"num_trajectories must be at least 2, got {num_trajectories}.")
    generator = np.random.default_rng(seed)
    check_declarations(env)
    states, ends = play_with_chance(env, num_trajectories, generator)
    check_chance_around(env, states)
    _check_texts(env, distinct(ends))
    if isinstance(env, AbstractReversibleEnvironment):
        states = distinct(concatenate([states, play_backwards(env, ends, generator)]))
    laws, masks, backward_masks = _evaluate(lambda state: _state_laws(env, state), states)
    raise_first(env, laws, states)
    moves = _sample_pairs(masks, generator)
    _check_pairs(env, lambda state, action: _move_laws(env, state, action), states, moves)
    if isinstance(env, AbstractReversibleEnvironment):
        backward_moves = _sample_pairs(backward_masks, generator)
        _check_pairs(env, lambda state, action: _backward_laws(env, state, action), states, backward_moves)
    _check_transformations(env, states, moves, generator)
    _check_paths(env, num_trajectories, generator)


# The laws of a state, of a move and of a backward move. A dictionary names each law and says whether it holds.


def _state_laws(env: AbstractEnvironment, state: Any) -> tuple[dict[str, Bool[Array, ""]], Any, Any]:
    """Return the laws and, in passing, the masks of the moves that lead on and back (none: None)."""
    observation, turn, mask = env.observe(state), env.turn(state), env.action_mask(state)
    tokens = features(observation)
    laws = {
        "turn": (turn == 0) | (turn == 1) | (turn == CHANCE),
        "chance": is_chance_kept(env, state),
        "observation": jnp.all((tokens >= 0) & (tokens < env.num_values)),
    }
    if isinstance(observation, Prefix):
        position, newest = observation.position, tokens[jnp.clip(observation.position - 1, 0, env.num_features - 1)]
        expected = jnp.where(position == 0, env.num_values - 1, newest)
        laws["prefix"] = (position >= 0) & (position <= env.num_features) & (observation.last == expected)
    if not isinstance(env, AbstractReversibleEnvironment):
        return laws, mask, None
    backward_mask = env.backward_mask(state)
    laws["root"] = jnp.any(backward_mask) != is_same(state, env.reset())
    return laws, mask, backward_mask


def _move_laws(env: AbstractEnvironment, state: Any, action: Int[Array, ""]) -> dict[str, Bool[Array, ""]]:
    child, laws = env.step(state, action), {}
    before, after = env.observe(state), env.observe(child)
    if isinstance(before, Prefix):
        is_kept = jnp.all((before.tokens == after.tokens) | (jnp.arange(env.num_features) >= before.position))
        grown = after.position - before.position
        laws["prefix growth"] = is_kept & ((grown == 0) | (grown == 1))
    if isinstance(env, AbstractReversibleEnvironment):
        undo = env.backward_action(state, action)
        laws["undo is legal"] = _is_legal(env.backward_mask(child), undo)
        laws["undo"] = is_same(env.backward_step(child, undo), state)
        laws["redo"] = env.forward_action(child, undo) == action
    return laws


def _backward_laws(
    env: AbstractReversibleEnvironment, state: Any, backward_action: Int[Array, ""]
) -> dict[str, Bool[Array, ""]]:
    parent, action = env.backward_step(state, backward_action), env.forward_action(state, backward_action)
    return {
        "parent is legal": _is_legal(env.action_mask(parent), action),
        "parent": is_same(env.step(parent, action), state),
        "parent undo": env.backward_action(parent, action) == backward_action,
    }


def _is_legal(mask: Bool[Array, " action"], action: Int[Array, ""]) -> Bool[Array, ""]:
    # An index out of range would be clamped to one in range, which may be legal.
    return (action >= 0) & (action < mask.shape[0]) & mask[action]


def _check_pairs(
    env: AbstractEnvironment, laws: Callable[[Any, Any], dict[str, Bool[Array, ""]]], states: Any, pairs: np.ndarray
) -> None:
    if pairs.size:
        rows, actions = rows_of(states, pairs[:, 0]), pairs[:, 1].astype(np.int32)
        raise_first(env, _evaluate(laws, rows, actions), rows, actions)


# Compilation, batches and texts.


def _check_transformations(env: AbstractEnvironment, states: Any, moves: np.ndarray, generator: np.random.Generator) -> None:
    """Compare some moves without compilation, one by one, with what a compiled batch of them gives."""
    moves = moves[generator.permutation(len(moves))[:8]]
    rows, actions = rows_of(states, moves[:, 0]), moves[:, 1].astype(np.int32)
    batch = _evaluate(lambda state, action: _everything(env, state, action), rows, actions)
    for index in range(len(moves)):
        state, action = jax.tree.map(jnp.asarray, rows_of(rows, index)), jnp.asarray(actions[index])
        plain, expected = _everything(env, state, action), rows_of(batch, index)
        differing = [name for name, value in plain.items() if not _is_close(value, expected[name])]
        if differing:
            compiled = jax.jit(lambda state, action: _everything(env, state, action))(state, action)
            law = "vmap" if all(_is_close(plain[name], compiled[name]) for name in differing) else "jit"
            found = f"{', '.join(differing)} differ"
            raise ContractError(env, law, found=found, state=rows_of(rows, index), action=int(actions[index]))


def _check_paths(env: AbstractEnvironment, num: int, generator: np.random.Generator) -> None:
    """Compare `states_along` with stepping, where the rules have their own, on random trajectories."""
    if type(env).states_along is AbstractEnvironment.states_along:
        return

    def move(state: Any, uniform: Array) -> tuple[Any, Array]:
        mask = env.action_mask(state)
        ranks = jnp.cumsum(mask)
        action = jnp.argmax(ranks > jnp.minimum(jnp.floor(uniform * ranks[-1]), ranks[-1] - 1)).astype(jnp.int32)
        child = jax.tree.map(lambda old, new: jnp.where(jnp.any(mask), new, old), state, env.step(state, action))
        return child, jnp.where(jnp.any(mask), action, NO_ACTION)

    def path(uniforms: Array) -> tuple[Any, Any, Array]:
        actions = jax.lax.scan(move, env.reset(), uniforms)[1]
        return env.states_along(actions), AbstractEnvironment.states_along(env, actions), actions

    found, expected, actions = _evaluate(path, generator.random((num, env.max_steps), np.float32))
    for row in range(num):
        for time in range(env.max_steps + 1):
            state = rows_of(rows_of(expected, row), time)
            if not _is_close(rows_of(rows_of(found, row), time), state):
                played = [int(action) for action in actions[row][:time]]
                raise ContractError(env, "path", found=f"another state after the actions {played}", state=state)


def _everything(env: AbstractEnvironment, state: Any, action: Int[Array, ""]) -> dict[str, Any]:
    """Return what every rule says of a move."""
    child = env.step(state, action)
    results: dict[str, Any] = {"step": child}
    for name, place in (("", state), (" of the next state", child)):
        results["action_mask" + name] = env.action_mask(place)
        results["is_terminal" + name] = env.is_terminal(place)
        results["observe" + name] = env.observe(place)
        results["turn" + name] = env.turn(place)
        results["chance_log_probs" + name] = env.chance_log_probs(place)
    if isinstance(env, AbstractReversibleEnvironment):
        undo = env.backward_action(state, action)
        results["backward_action"] = undo
        results["backward_mask of the next state"] = env.backward_mask(child)
        results["backward_step of the next state"] = env.backward_step(child, undo)
        results["forward_action of the next state"] = env.forward_action(child, undo)
    return results


def _is_close(first: Any, second: Any) -> bool:
    """Return whether two trees agree: integers exactly, reals but for what compilation may reorder."""
    pairs = zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True)
    return all(np.allclose(a, b, 1e-5, 1e-6, equal_nan=True) if _is_real(a) else np.array_equal(a, b) for a, b in pairs)


def _is_real(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jnp.floating)


def _check_texts(env: AbstractEnvironment, ends: Any) -> None:
    num = jax.tree.leaves(ends)[0].shape[0]
    texts = env.to_text(jax.tree.map(jnp.asarray, ends))
    if len(texts) != num:
        raise ContractError(env, "text", found=f"{len(texts)} texts of {num} objects")
    owners: dict[str, int] = {}
    for row, text in enumerate(texts):
        if not isinstance(text, str) or len(text.splitlines()) > 1 or text.endswith(("\n", "\r")):
            raise ContractError(env, "text", found=f"the text {text!r}", state=rows_of(ends, row))
        if owners.setdefault(text, row) != row:
            found = f"{text!r} also names {as_lists(rows_of(ends, owners[text]))}"
            raise ContractError(env, "distinct texts", found=found, state=rows_of(ends, row))
    try:
        states = env.from_text(texts)
    except ValueError as error:
        raise ContractError(env, "text", found=f"from_text refuses what to_text wrote: {error}") from error
    require_state(env, "from_text", jax.eval_shape(lambda: states), jax.eval_shape(lambda: jax.tree.map(jnp.asarray, ends)))
    for row, text in enumerate(texts):
        if not _is_close(rows_of(states, row), rows_of(ends, row)):
            raise ContractError(env, "text", found=f"from_text({text!r}) is another state", state=rows_of(ends, row))
    _check_distance(env, texts[:MAX_APART])
    _check_refusal(env)


def _check_distance(env: AbstractEnvironment, texts: list[str]) -> None:
    """Check that the distance is a metric on the texts of some distinct objects."""
    distance = env.distance
    apart, (position, least) = np.asarray(distance.between(texts, texts)), distance.nearest(texts, texts[::-1])
    is_given = apart.shape == (len(texts),) * 2 and np.issubdtype(apart.dtype, np.integer) and bool(np.all(apart >= 0))
    if not (is_given and isinstance(distance.unit, str) and distance.unit.strip()):
        found = f"numbers {apart.dtype} of shape {apart.shape} for {len(texts)} objects, unit {distance.unit!r}"
        raise ContractError(env, "distance", found=found)
    if not np.array_equal(least, apart[:, ::-1].min(axis=1)) or not np.array_equal(position, apart[:, ::-1].argmin(axis=1)):
        raise ContractError(env, "distance", found="nearest is not the first of the least distances")
    apart = apart.astype(np.int64)
    by_way_of_third = np.min(apart[:, :, None] + apart[None, :, :], axis=1)
    laws = {
        "distance zero": (apart == 0) == np.eye(len(texts), dtype=bool),
        "distance symmetry": apart == apart.T,
        "distance triangle": apart <= by_way_of_third,
    }
    for law, is_kept in laws.items():
        if not is_kept.all():
            row, column = np.argwhere(~is_kept)[0]
            found = f"{apart[row, column]} {distance.unit} from {texts[row]!r} to {texts[column]!r}, "
            found += f"{apart[column, row]} back and {by_way_of_third[row, column]} by way of a third"
            raise ContractError(env, law, found=found)


def _check_refusal(env: AbstractEnvironment) -> None:
    nonsense = "\0"
    try:
        env.from_text([nonsense])
    except ValueError:
        return
    except Exception as error:
        raise ContractError(env, "refusal", found=f"from_text([{nonsense!r}]) raises {type(error).__name__}") from error
    raise ContractError(env, "refusal", found=f"from_text([{nonsense!r}]) returns a state")


def _evaluate(function: Callable[..., Any], *batches: Any) -> Any:
    return jax.tree.map(np.asarray, jax.jit(jax.vmap(function))(*batches))


def _sample_pairs(masks: Bool[np.ndarray, "state action"], generator: np.random.Generator) -> Int[np.ndarray, "pair 2"]:
    """Return the legal (state, action) pairs, a random `MAX_MOVES` of them where there are more."""
    pairs = np.argwhere(masks)
    if len(pairs) > MAX_MOVES:
        pairs = pairs[np.sort(generator.choice(len(pairs), MAX_MOVES, replace=False))]
    return pairs
