"""A fitted proxy as the reward of a run."""

from collections.abc import Sequence as Objects
from pathlib import Path
from typing import Literal, get_args

import equinox as eqx
import numpy as np
from jaxtyping import Array, Float

from narrows.envs.base import AbstractEnvironment
from narrows.envs.sequence import Sequence, SequenceState
from narrows.printing import quote
from narrows.proxies import fitted as files
from narrows.proxies.base import AbstractProxy
from narrows.proxies.fitted import FittedProxy, load
from narrows.proxies.quality import Quality
from narrows.rewards import AbstractReward

Trust = Literal["mean", "lower_bound", "ensemble_min"]


class Proxy(AbstractProxy):
    """What a fitted proxy predicts, and how far that is trusted, as made by `narrows fit`.

    Args:
        env: the `Sequence` environment whose objects it scores; its letters must be the proxy's, in the same order.
        path: the folder that `narrows fit` wrote.
        kappa: standard deviations to subtract from the mean, >= 0.
        trust: `mean`; `lower_bound`, which is `mean - kappa std`; or `ensemble_min`, what the most sceptical member says, its
            distance from the mean scaled as the standard deviation is. By default the lower bound where there is a kappa,
            else the mean.
    """

    fitted: FittedProxy
    kappa: float = eqx.field(static=True)
    trust: Trust = eqx.field(static=True)

    def __init__(self, env: AbstractEnvironment, path: str, kappa: float = 0.0, trust: Trust | None = None) -> None:
        if not isinstance(env, Sequence):
            raise ValueError(f"a Proxy scores the objects of a Sequence environment, got {type(env).__name__}.")
        if not 0.0 <= kappa < float("inf"):
            raise ValueError(f"kappa must be at least 0 and finite, got {kappa}.")
        if trust not in (None, *get_args(Trust)):
            raise ValueError(f"trust must be one of {', '.join(get_args(Trust))}, got {trust!r}.")
        if trust == "lower_bound" and kappa == 0.0:
            raise ValueError("trust is lower_bound, and kappa 0: that is the mean. Set kappa, 1 is usual.")
        if trust in ("mean", "ensemble_min") and kappa > 0.0:
            raise ValueError(f"trust is {trust}, which has no kappa, got {kappa}. Leave one of them out.")
        fitted, _ = load(path)
        if fitted.alphabet != env.alphabet:
            raise ValueError(
                f"the proxy in {path} knows the letters {quote(fitted.alphabet)}, the environment has {quote(env.alphabet)}. "
                "Give the environment the proxy's alphabet, or fit a proxy for this one."
            )
        known = fitted.space
        if not known.min_length <= env.min_length <= env.max_length <= known.max_length:
            raise ValueError(
                f"the proxy in {path} reads sequences of {known.lengths} letters, the environment builds {env.min_length} to "
                f"{env.max_length}. Change the environment's lengths or fit a proxy for these."
            )
        if trust == "ensemble_min" and fitted.num_members < 2:
            raise ValueError(
                f"trust is ensemble_min, and the proxy in {path} has one member alone. Use lower_bound with a kappa, or fit "
                "`--models trees`."
            )
        self.fitted = fitted
        self.kappa = kappa
        self.trust = trust or ("lower_bound" if kappa > 0.0 else "mean")

    def __call__(self, states: SequenceState) -> Float[Array, " batch"]:
        if self.trust == "ensemble_min":
            return self.fitted.least(states.tokens)
        mean, std = self.fitted(states.tokens)
        return mean - self.kappa * std if self.trust == "lower_bound" else mean

    @property
    def reference(self) -> float:
        return self.fitted.offset

    def deviation(self, states: SequenceState) -> Float[Array, " batch"]:
        return self.fitted(states.tokens)[1]

    def centred(self) -> "Proxy":
        return eqx.tree_at(lambda proxy: proxy.fitted, self, self.fitted.centred())

    def predict(self, objects: Objects[str]) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
        return self.fitted.predict(objects)

    def predicted_mean(self) -> AbstractReward:
        return _Mean(self.fitted)

    @classmethod
    def read_quality(cls, path: Path) -> Quality:
        return files.read_quality(path)

    @classmethod
    def read_table_sha256(cls, path: Path) -> str | None:
        return files.read_table_sha256(path)


class _Mean(AbstractReward):
    """What a fitted proxy predicts of finished sequences."""

    fitted: FittedProxy

    def __call__(self, states: SequenceState) -> Float[Array, " batch"]:
        return self.fitted(states.tokens)[0]

    @property
    def reference(self) -> float:
        return self.fitted.offset

    def centred(self) -> "_Mean":
        return _Mean(self.fitted.centred())
