"""The optimiser that fits these models: AdamW for the policy, a faster rate for the log-partition function."""

import equinox as eqx
import jax
import optax

from narrows.policies.base import Model
from narrows.sizes import Count


def adam(
    learning_rate: float = 1e-3,
    log_z_learning_rate: float = 1e-1,
    weight_decay: float = 0.0,
    clip: float = 10.0,
    decay_steps: Count | None = None,
) -> optax.GradientTransformation:
    """Return AdamW for the policy and a faster Adam for `log_z`, which moves by whole units.

    Args:
        learning_rate: of the policy, > 0.
        log_z_learning_rate: of `log_z`, > 0.
        weight_decay: decoupled decay of the policy's parameters, >= 0.
        clip: largest global norm of the policy's gradient, > 0; `inf` for no limit.
        decay_steps: steps over which both rates fall to zero along a cosine; None keeps them constant.
    """
    for name, value in (("learning_rate", learning_rate), ("log_z_learning_rate", log_z_learning_rate)):
        if not 0.0 < value < float("inf"):
            raise ValueError(f"{name} must be positive and finite, got {value}.")
    if not clip > 0.0:
        raise ValueError(f"clip must be positive, got {clip}. Write inf for no limit.")
    if not 0.0 <= weight_decay < float("inf"):
        raise ValueError(f"weight_decay must be at least 0 and finite, got {weight_decay}.")
    if decay_steps is not None and decay_steps < 1:
        raise ValueError(f"decay_steps must be at least 1, got {decay_steps}. The number of training steps is usual.")
    rate, log_z_rate = (_decayed(value, decay_steps) for value in (learning_rate, log_z_learning_rate))
    policy = optax.chain(optax.clip_by_global_norm(clip), optax.adamw(rate, weight_decay=weight_decay))
    return optax.partition({"policy": policy, "log_z": optax.adam(log_z_rate)}, _labels)


def _decayed(rate: float, decay_steps: int | None) -> float | optax.Schedule:
    return rate if decay_steps is None else optax.cosine_decay_schedule(rate, decay_steps)


def _labels(model: Model) -> Model:
    """Return which of `adam`'s two rates each parameter has, in the shape of a model."""
    return eqx.tree_at(
        lambda tree: tree.log_z, jax.tree.map(lambda _: "policy", model), "log_z", is_leaf=lambda leaf: isinstance(leaf, str)
    )
