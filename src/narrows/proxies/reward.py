"""A fitted ensemble as the reward of a run."""

from collections.abc import Sequence as Objects
from pathlib import Path
from typing import Literal, get_args

import equinox as eqx
import numpy as np
from jaxtyping import Array, Float

from narrows.envs.base import AbstractEnvironment
from narrows.envs.sequence import Sequence, SequenceState
from narrows.printing import quote
from narrows.proxies import ensemble as files
from narrows.proxies.base import AbstractProxy
from narrows.proxies.ensemble import Ensemble, load
from narrows.proxies.quality import Quality
from narrows.rewards import AbstractReward

Trust = Literal["mean", "lower_bound", "ensemble_min"]


class Proxy(AbstractProxy):
    """What a fitted ensemble predicts, and how far that is trusted, as made by `narrows fit`.

    Args:
        env: the `Sequence` environment whose objects it scores; its letters must be the proxy's, in the same order.
        path: the folder that `narrows fit` wrote.
        kappa: standard deviations to subtract from the mean, >= 0.
        trust: `mean`; `lower_bound`, which is `mean - kappa std`; or `ensemble_min`, what the most sceptical member says, its
            distance from the mean scaled as the standard deviation is. By default the lower bound where there is a kappa,
            else the mean.
    """

    ensemble: Ensemble
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
        ensemble, _ = load(path)
        if ensemble.alphabet != env.alphabet:
            raise ValueError(
                f"the proxy in {path} knows the letters {quote(ensemble.alphabet)}, the environment has {quote(env.alphabet)}. "
                "Give the environment the proxy's alphabet, or fit a proxy for this one."
            )
        known = ensemble.space
        if not known.min_length <= env.min_length <= env.max_length <= known.max_length:
            raise ValueError(
                f"the proxy in {path} reads sequences of {known.lengths} letters, the environment builds {env.min_length} to "
                f"{env.max_length}. Change the environment's lengths or fit a proxy for these."
            )
        self.ensemble = ensemble
        self.kappa = kappa
        self.trust = trust or ("lower_bound" if kappa > 0.0 else "mean")

    def __call__(self, states: SequenceState) -> Float[Array, " batch"]:
        if self.trust == "ensemble_min":
            return self.ensemble.least(states.tokens)
        mean, std = self.ensemble(states.tokens)
        return mean - self.kappa * std if self.trust == "lower_bound" else mean

    @property
    def reference(self) -> float:
        return self.ensemble.offset

    def centred(self) -> "Proxy":
        return eqx.tree_at(lambda proxy: proxy.ensemble, self, self.ensemble.centred())

    def predict(self, objects: Objects[str]) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
        return self.ensemble.predict(objects)

    def predicted_mean(self) -> AbstractReward:
        return _Mean(self.ensemble)

    @classmethod
    def read_quality(cls, path: Path) -> Quality:
        return files.read_quality(path)

    @classmethod
    def read_table_sha256(cls, path: Path) -> str | None:
        return files.read_table_sha256(path)


class _Mean(AbstractReward):
    """What an ensemble predicts of finished sequences."""

    ensemble: Ensemble

    def __call__(self, states: SequenceState) -> Float[Array, " batch"]:
        return self.ensemble(states.tokens)[0]

    @property
    def reference(self) -> float:
        return self.ensemble.offset

    def centred(self) -> "_Mean":
        return _Mean(self.ensemble.centred())
