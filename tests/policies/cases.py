"""Every public policy in small, and the observations of sequences to try them on."""

from functools import cache

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from narrows.envs import Prefix
from narrows.policies import MLP, ColumnNet, ConvNet, FaithfulTransformer, ResidualMLP, Scaled, Sizes, Tabular, Transformer

NUM_FEATURES, NUM_VALUES, NUM_ACTIONS, NUM_BACKWARD = 5, 4, 3, 2
START = NUM_VALUES - 1
NUM_TIMES = NUM_FEATURES + 3  # the root, each token, and two repeats of the finished state

BOARD = {"rows": 1, "columns": NUM_FEATURES}
"""The settings that networks over boards cannot do without."""

SETTINGS = {
    "tabular": (Tabular, {"init_scale": 1.0}),
    "mlp": (MLP, {"hidden": 8, "depth": 3, "activation": "tanh"}),
    "faithful-transformer": (
        FaithfulTransformer,
        {"layers": 2, "width": 8, "heads": 2, "feed_forward": 12, "head_hidden": 10},
    ),
    "transformer-pre": (Transformer, {"layers": 2, "width": 8, "heads": 4, "feed_forward": 12, "norm": "pre"}),
    "transformer-post": (
        Transformer,
        {"layers": 2, "width": 9, "heads": 2, "head_width": 6, "norm": "post", "activation": "gelu"},
    ),
    "columns": (ColumnNet, {**BOARD, "width": 3, "hidden": 8, "blocks": 1, "activation": "tanh"}),
    "convnet": (ConvNet, {**BOARD, "channels": 4, "blocks": 1, "squeeze": 2, "hidden": 8}),
    "residual": (ResidualMLP, {"hidden": 8, "blocks": 2}),
    "scaled": (lambda sizes, **given: Scaled(MLP(sizes, hidden=8, **given), 3.0), {}),
}


@cache
def make(
    name: str,
    seed: int = 0,
    *,
    num_backward_actions: int | None = NUM_BACKWARD,
    flow_head: bool = True,
    child_flow_head: bool = True,
):
    """Return a policy as it is constructed."""
    constructor, settings = SETTINGS[name]
    sizes = Sizes(NUM_FEATURES, NUM_VALUES, NUM_ACTIONS, num_backward_actions, flow_head, child_flow_head)
    return constructor(sizes, **settings, key=jax.random.key(seed))


@cache
def make_loud(name: str):
    """Return a policy whose heads are as large as its trunk, so that errors cannot hide behind their small start."""
    policy = make(name)
    if name == "tabular":
        return policy
    where = (lambda it: it.policy.heads) if name == "scaled" else (lambda it: it.heads)
    return eqx.tree_at(where, policy, jax.tree.map(lambda leaf: leaf * jnp.float32(100.0), where(policy)))


def prefixes(tokens, num_times: int = NUM_TIMES, num_features: int = NUM_FEATURES, start: int = START) -> Prefix:
    """Return what is observed while `tokens` are placed one by one, the last state repeated up to `num_times`."""
    rows = []
    for time in range(num_times):
        placed = list(tokens[:time])
        row = placed + [start] * (num_features - len(placed))
        rows.append((row, placed[-1] if placed else start, len(placed)))
    return Prefix(*(jnp.asarray(np.array(column, np.int32)) for column in zip(*rows, strict=True)))
