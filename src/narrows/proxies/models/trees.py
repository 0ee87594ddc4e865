"""Boosted trees, learned by scikit-learn and evaluated in JAX."""

from typing import Any, Self, final

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from narrows.data import Space
from narrows.proxies.features import AbstractFeatures, describe_all, described, read_features
from narrows.proxies.models.base import AbstractModel, Lesson

_MEMBERS, _TREES, _DEPTH = 4, 120, 3
_MOST_ROWS = 20_000
"""Rows that are learned from; of more, some are drawn, for scikit-learn would take an hour."""


@final
class Trees(AbstractModel):
    """Predict by several sums of small trees, each learned from a bootstrap sample.

    Args:
        features: numbers that describe a sequence.
        feature, threshold: the number that each node looks at, and up to where it sends to the left; a full binary tree,
            the children of node `i` being `2 i + 1` and `2 i + 2`.
        value: what each leaf adds.
        base: what each member starts from.
        noise: standard deviation of what no member explains.
    """

    features: AbstractFeatures
    feature: Int[Array, "member tree node"]
    threshold: Float[Array, "member tree node"]
    value: Float[Array, "member tree leaf"]
    base: Float[Array, " member"]
    noise: Float[Array, ""]

    def __call__(self, tokens: Int[Array, "batch length"]) -> tuple[Float[Array, " batch"], Float[Array, " batch"]]:
        outputs = self.members(tokens)
        return jnp.mean(outputs, axis=0), jnp.sqrt(jnp.var(outputs, axis=0) + self.noise**2)

    def members(self, tokens: Int[Array, "batch length"]) -> Float[Array, "member batch"]:
        numbers = self.features(tokens)
        num_trees = self.feature.shape[0] * self.feature.shape[1]
        feature, threshold = self.feature.reshape(num_trees, -1), self.threshold.reshape(num_trees, -1)
        tree = jnp.arange(num_trees)
        node = jnp.zeros((len(tokens), num_trees), jnp.int32)
        for _ in range(_DEPTH):
            seen = jnp.take_along_axis(numbers, feature[tree, node], axis=1)
            node = 2 * node + jnp.where(seen <= threshold[tree, node], 1, 2)
        leaves = self.value.reshape(num_trees, -1)[tree, node - (2**_DEPTH - 1)]
        return self.base[:, None] + leaves.reshape(len(tokens), *self.feature.shape[:2]).sum(axis=2).T

    def described(self) -> dict[str, Any]:
        return {"features": described(self.features)}

    @classmethod
    def blank(cls, plain: dict[str, Any], space: Space) -> Self:
        match plain:
            case {"features": dict(one), **rest} if not rest:
                features = read_features(one, len(space.alphabet), space.max_length)
            case _:
                raise ValueError("these are no trees")
        inner, leaves = 2**_DEPTH - 1, 2**_DEPTH
        shape = (_MEMBERS, _TREES)
        feature, threshold = jnp.zeros((*shape, inner), jnp.int32), jnp.zeros((*shape, inner))
        return cls(features, feature, threshold, jnp.zeros((*shape, leaves)), jnp.zeros(_MEMBERS), jnp.zeros(()))


def boost(features: AbstractFeatures, lesson: Lesson) -> Trees:
    """Return trees that have learned from some rows."""
    from sklearn.ensemble import GradientBoostingRegressor

    rng = np.random.default_rng(lesson.seed)
    if len(lesson.scores) > _MOST_ROWS:
        lesson = lesson.at(np.sort(rng.permutation(len(lesson.scores))[:_MOST_ROWS]))
    numbers = describe_all(features, lesson.tokens).astype(np.float32)
    inner, leaves = 2**_DEPTH - 1, 2**_DEPTH
    feature = np.zeros((_MEMBERS, _TREES, inner), np.int32)
    threshold = np.full((_MEMBERS, _TREES, inner), np.inf, np.float32)
    value, base = np.zeros((_MEMBERS, _TREES, leaves), np.float32), np.zeros(_MEMBERS, np.float32)
    num = len(lesson.scores)
    total, times = np.zeros(num), np.zeros(num)
    for member in range(_MEMBERS):
        bag = rng.integers(0, num, num)
        learner = GradientBoostingRegressor(
            n_estimators=_TREES,
            learning_rate=0.08,
            max_depth=_DEPTH,
            min_samples_leaf=3,
            max_features="sqrt",
            random_state=int(rng.integers(2**31)),
        )
        learner.fit(numbers[bag], lesson.scores[bag], sample_weight=1.0 / lesson.noise[bag])
        base[member] = lesson.scores[bag] @ (1.0 / lesson.noise[bag]) / (1.0 / lesson.noise[bag]).sum()
        for place, tree in enumerate(learner.estimators_[:, 0]):
            _fill(tree.tree_, 0, 0, feature[member, place], threshold[member, place], value[member, place])
        value[member] *= learner.learning_rate
        out = np.setdiff1d(np.arange(num), bag)
        total[out] += learner.predict(numbers[out])
        times[out] += 1
    seen = times > 0
    errors = lesson.scores[seen] - total[seen] / times[seen]
    noise = float(np.sqrt(np.mean(errors**2))) if seen.any() else 1.0
    parts = map(jnp.asarray, (feature, threshold, value, base, np.float32(noise)))
    return Trees(features, *parts)


def _fill(tree: Any, node: int, place: int, feature: np.ndarray, threshold: np.ndarray, value: np.ndarray) -> None:
    """Write a node of scikit-learn's and what is below it as a full tree: a leaf above the last row sends all to the left."""
    is_leaf = tree.children_left[node] < 0
    if place >= len(feature):
        value[place - len(feature)] = tree.value[node, 0, 0]
        return
    if not is_leaf:
        feature[place], threshold[place] = tree.feature[node], tree.threshold[node]
    for child, below in ((2 * place + 1, tree.children_left), (2 * place + 2, tree.children_right)):
        _fill(tree, node if is_leaf else below[node], child, feature, threshold, value)
