"""Checks of an environment before a single move: sizes, shapes and dtypes."""

from typing import Any

import jax
import jax.numpy as jnp

from narrows.envs.base import AbstractEnvironment, AbstractReversibleEnvironment, Prefix, features
from narrows.envs.contract import ContractError


def check_declarations(env: AbstractEnvironment) -> None:
    sizes = {"num_actions": env.num_actions, "max_steps": env.max_steps}
    sizes |= {"num_features": env.num_features, "num_values": env.num_values}
    if isinstance(env, AbstractReversibleEnvironment):
        sizes["num_backward_actions"] = env.num_backward_actions
    for name, size in sizes.items():
        if not isinstance(size, int) or size < 1:
            raise ContractError(env, "sizes", found=f"{name} = {size!r}")
    try:
        _check_forward_types(env)
        if isinstance(env, AbstractReversibleEnvironment):
            _check_backward_types(env)
    except jax.errors.JAXTypeError as error:
        raise ContractError(env, "traceable", found=str(error).splitlines()[0]) from error


def _check_forward_types(env: AbstractEnvironment) -> None:
    state, action = jax.eval_shape(env.reset), jax.ShapeDtypeStruct((), jnp.int32)
    require_state(env, "reset", state, state)
    require_state(env, "step", jax.eval_shape(env.step, state, action), state)
    _require(env, "action_mask", jax.eval_shape(env.action_mask, state), jnp.bool_, (env.num_actions,))
    _require(env, "is_terminal", jax.eval_shape(env.is_terminal, state), jnp.bool_, ())
    _require(env, "turn", jax.eval_shape(env.turn, state), jnp.integer, ())
    _require(env, "chance_log_probs", jax.eval_shape(env.chance_log_probs, state), jnp.floating, (env.num_actions,))
    observation = jax.eval_shape(env.observe, state)
    _require(env, "observe", features(observation), jnp.integer, (env.num_features,))
    if isinstance(observation, Prefix):
        _require(env, "observe's last", observation.last, jnp.integer, ())
        _require(env, "observe's position", observation.position, jnp.integer, ())


def _check_backward_types(env: AbstractReversibleEnvironment) -> None:
    state, action = jax.eval_shape(env.reset), jax.ShapeDtypeStruct((), jnp.int32)
    require_state(env, "backward_step", jax.eval_shape(env.backward_step, state, action), state)
    _require(env, "backward_mask", jax.eval_shape(env.backward_mask, state), jnp.bool_, (env.num_backward_actions,))
    _require(env, "backward_action", jax.eval_shape(env.backward_action, state, action), jnp.integer, ())
    _require(env, "forward_action", jax.eval_shape(env.forward_action, state, action), jnp.integer, ())


def _require(env: AbstractEnvironment, name: str, spec: Any, kind: Any, shape: tuple[int, ...]) -> None:
    if not isinstance(spec, jax.ShapeDtypeStruct):
        raise ContractError(env, "shapes", found=f"{name} gives {type(spec).__name__}, expected one array")
    if spec.shape != shape or not jnp.issubdtype(spec.dtype, kind):
        wanted = f"{kind.__name__.strip('_')} of shape {shape}"
        raise ContractError(env, "shapes", found=f"{name} gives {spec.dtype} of shape {spec.shape}, expected {wanted}")


def require_state(env: AbstractEnvironment, name: str, spec: Any, like: Any) -> None:
    if jax.tree.structure(spec) != jax.tree.structure(like):
        found = f"{name} gives {jax.tree.structure(spec)}, reset {jax.tree.structure(like)}"
        raise ContractError(env, "structure", found=found)
    for (path, leaf), wanted in zip(jax.tree_util.tree_leaves_with_path(spec), jax.tree.leaves(like), strict=True):
        place = f"{name} gives {jax.tree_util.keystr(path) or 'its array'}"
        if (leaf.shape, leaf.dtype) != (wanted.shape, wanted.dtype):
            found = f"{place} as {leaf.dtype} of shape {leaf.shape}, reset as {wanted.dtype} of shape {wanted.shape}"
            raise ContractError(env, "structure", found=found)
        if leaf.weak_type:
            raise ContractError(
                env, "structure", found=f"{place} weakly typed, which recompiles; write jnp.asarray(x, jnp.int32)"
            )
