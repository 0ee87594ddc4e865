"""The methods of this room by name, as a command line or a benchmark asks for them."""

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, Final, Literal, NamedTuple, get_args

from torch import Tensor, nn
from transformers import PreTrainedModel

from narrows.tuning.base import TunedModel, tuning_of
from narrows.tuning.baselines import (
    BaselineConfig,
    BitFitConfig,
    FreezeFfnConfig,
    FullConfig,
    HeadOnlyConfig,
    get_baseline_model,
)
from narrows.tuning.config import TuningConfig
from narrows.tuning.far.config import FarConfig
from narrows.tuning.far.inject import get_far_model
from narrows.tuning.far.priming import prime
from narrows.tuning.learners.config import LearnerConfig
from narrows.tuning.learners.inject import get_learner_model
from narrows.tuning.learners.phases import learner_groups
from narrows.tuning.optimizer import decay_groups
from narrows.tuning.recording import Batch

Method = Literal["far", "far_paper", "far_frugal", "learner", "lora", "full", "freeze_ffn", "bitfit", "head_only"]
Loss = Callable[[PreTrainedModel, Batch], Tensor]
"""From a model and a batch with labels to the number that is made small."""


class _Known(NamedTuple):
    """A method as it is asked for by name.

    Attributes:
        config: from retention and rank to the configuration; each is None where it was not given.
        learning_rate: that it is usually trained with.
    """

    config: Callable[[float | None, int | None], TuningConfig]
    learning_rate: float


def _share(retention: float | None) -> float:
    return 0.1 if retention is None else retention


def _lora(retention: float | None, rank: int | None) -> LearnerConfig:
    """Return LoRA with alpha twice the rank: learners of that scale, without trained biases, norms and priming.

    Keys have one as well as queries and values, since in some encoders one linear is all three.
    """
    return LearnerConfig(
        r=8 if rank is None else rank,
        target_roles=("q", "k", "v"),
        priming_epochs=0,
        train_biases=False,
        train_norms=False,
        scale=2.0,
    )


_METHODS: Final[Mapping[Method, _Known]] = MappingProxyType(
    {
        "far": _Known(lambda retention, _: FarConfig.edge(_share(retention)), 5e-5),
        "far_paper": _Known(lambda retention, _: FarConfig.paper(_share(retention)), 5e-5),
        "far_frugal": _Known(lambda retention, _: FarConfig.frugal(_share(retention)), 5e-5),
        "learner": _Known(lambda _, rank: LearnerConfig(r=64 if rank is None else rank), 3e-4),
        "lora": _Known(_lora, 3e-4),
        "full": _Known(lambda *_: FullConfig(), 5e-5),
        "freeze_ffn": _Known(lambda *_: FreezeFfnConfig(), 5e-5),
        "bitfit": _Known(lambda *_: BitFitConfig(), 5e-4),
        "head_only": _Known(lambda *_: HeadOnlyConfig(), 1e-3),
    }
)
METHODS: Final[tuple[Method, ...]] = get_args(Method)


def config_of(method: Method, retention: float | None = None, rank: int | None = None) -> TuningConfig:
    """Return the configuration of a method.

    Args:
        retention: share of the nodes that go on learning, for the methods called far; 0.1 by default.
        rank: of learners (64 by default) and of LoRA (8).

    Raises ValueError for a name that is none, and for a number that the method has no use for.
    """
    if method not in _METHODS:
        raise ValueError(f"there is no method {method!r}. There are: {', '.join(METHODS)}.")
    if retention is not None and not method.startswith("far"):
        raise ValueError(f"retention is about far, and the method is {method!r}. Leave it out.")
    if rank is not None and method not in ("learner", "lora"):
        raise ValueError(f"rank is about learner and lora, and the method is {method!r}. Leave it out.")
    return _METHODS[method].config(retention, rank)


def usual_learning_rate(method: Method) -> float:
    """Return the learning rate that a method is trained with where none is asked for."""
    return _METHODS[method].learning_rate


def tuned(
    model: PreTrainedModel,
    config: TuningConfig,
    batches: Iterable[Batch],
    total_steps: int | None = None,
    loss: Loss | None = None,
) -> TunedModel:
    """Return the model tuned in place by any method; Freeze-And-Reconfigure looks at the data first.

    Args:
        batches: with labels, for priming.
        total_steps: of the whole run, of which priming may be a share.
        loss: instead of the model's own.
    """
    if isinstance(config, FarConfig):
        return get_far_model(model, config, prime(model, batches, config, total_steps, loss=loss))
    if isinstance(config, LearnerConfig):
        return get_learner_model(model, config)
    if isinstance(config, BaselineConfig):
        return get_baseline_model(model, config)
    raise ValueError(f"{type(config).__name__} is the configuration of no method that is known here.")


def parameter_groups(model: nn.Module, learning_rate: float, weight_decay: float) -> list[dict[str, Any]]:
    """Return the trained parameters of a tuned model in groups for an optimiser, each with its rate and its decay.

    Weights that learners' priming trains, which are pre-trained ones, get a tenth of the rate.
    """
    if isinstance(tuning_of(model).config, LearnerConfig):
        return learner_groups(model, learning_rate, learning_rate / 10, weight_decay)
    return [{**group, "lr": learning_rate} for group in decay_groups(model, weight_decay)]
