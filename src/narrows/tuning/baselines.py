"""Strong simple baselines in the same convention: everything, head only, frozen feed-forwards, biases only.

A method that saves memory is worth something only beside these, so they are configurations like any other.
"""

from dataclasses import dataclass
from typing import ClassVar, Final, Literal

from transformers import PreTrainedModel

from narrows.tuning.architecture import Architecture, probe
from narrows.tuning.base import TunedModel, Tuning, attach, check_plain
from narrows.tuning.config import TuningConfig
from narrows.tuning.far.inject import reconfigure
from narrows.tuning.precision import widened
from narrows.tuning.recording import Batch
from narrows.tuning.swapping import checked_swaps
from narrows.tuning.verbs import VERBS


@dataclass(frozen=True, kw_only=True)
class BaselineConfig(TuningConfig):
    """The configuration of a baseline."""


@dataclass(frozen=True, kw_only=True)
class FullConfig(BaselineConfig):
    """Ordinary fine-tuning.

    Attributes:
        memory_mode: `plain` leaves the layers alone; `lean` and `recompute` are the fused feed-forward with every node
            trained, which keeps as little as FAR does in that mode. Compare FAR with this one, at equal technique.
    """

    method: ClassVar[str] = "full"
    memory_mode: Literal["plain", "lean", "recompute"] = "plain"


@dataclass(frozen=True, kw_only=True)
class HeadOnlyConfig(BaselineConfig):
    """The encoder is frozen; only the head is trained."""

    method: ClassVar[str] = "head_only"


@dataclass(frozen=True, kw_only=True)
class FreezeFfnConfig(BaselineConfig):
    """Weights of feed-forwards, and the embeddings, are frozen; attention, biases of feed-forwards, norms and head are trained.

    Attributes:
        train_embeddings: train them as well.
    """

    method: ClassVar[str] = "freeze_ffn"
    train_embeddings: bool = False


@dataclass(frozen=True, kw_only=True)
class BitFitConfig(BaselineConfig):
    """All biases and the head."""

    method: ClassVar[str] = "bitfit"


BASELINES: Final = (FullConfig, HeadOnlyConfig, FreezeFfnConfig, BitFitConfig)


def get_baseline_model(
    model: PreTrainedModel, config: BaselineConfig, example: Batch | None = None, architecture: Architecture | None = None
) -> TunedModel:
    """Return the model with flags, and for a recomputed `FullConfig` layers, set in place as the baseline says.

    A model in half precision becomes float32.

    Args:
        example: a batch that the model takes, to watch it with; random tokens by default.
        architecture: what `probe` found in this model, where that was asked before.

    Raises ValueError where nothing would be trained; the model is then as it was.
    """
    check_plain(model)
    with widened(model) as narrow:
        if architecture is None:
            architecture = probe(model, config.ffn_pairs, config.modules_to_save, example)
        names = {name for name, _ in model.named_parameters() if _is_trained(name, config, architecture)}
        if not names:
            raise ValueError(
                f"{config.method} would train nothing in {type(model).__name__}, whose head is {architecture.head or 'none'}. "
                "Open it with a head, name one in modules_to_save, or take another method."
            )
        mode = config.memory_mode if isinstance(config, FullConfig) and config.memory_mode != "plain" else None
        is_exact = None if mode is None else all(pair.is_exact for pair in architecture.pairs)
        with checked_swaps(model, example, is_exact) as swaps:
            if mode is not None:
                for pair in architecture.pairs:
                    swaps += reconfigure(model, pair, None, mode)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name in names)
        trained = {name: value for name, value in model.named_parameters() if value.requires_grad}
        base = {name: value.detach().clone() for name, value in trained.items()} if config.keep_base_copy else None
        state = Tuning(config, swaps, head=architecture.head, base=base, unreached=architecture.unreached, narrow=narrow)
        return attach(model, state, VERBS)


def _is_trained(name: str, config: BaselineConfig, architecture: Architecture) -> bool:
    if name in architecture.unreached:
        return False
    if isinstance(config, FullConfig) or name in architecture.head_parameters:
        return True
    if isinstance(config, BitFitConfig):
        return name in architecture.biases
    if not isinstance(config, FreezeFfnConfig):
        return False
    if name in architecture.norms or (name in architecture.ffn and name in architecture.biases):
        return True
    if name in architecture.embeddings:
        return config.train_embeddings
    return name not in architecture.ffn
