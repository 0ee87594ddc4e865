"""Freeze-And-Reconfigure under the Trainer of transformers."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedModel, TrainerControl, TrainerState, TrainingArguments

from narrows.tuning.architecture import Architecture, probe
from narrows.tuning.base import check_plain, is_tuned, layers, note_loading
from narrows.tuning.far.config import FarConfig
from narrows.tuning.far.inject import get_far_model, sites_of
from narrows.tuning.far.layers import FarLinear
from narrows.tuning.far.priming import frozen_names, select, snapshot
from narrows.tuning.far.scores import NodeScorer, scorer_of, shares
from narrows.tuning.far.selection import Selection, num_learners
from narrows.tuning.optimizer import Grouped, Origin, repair_optimizer
from narrows.tuning.phases import PhaseCallback
from narrows.tuning.precision import widened
from narrows.tuning.recording import Batch

PRIMING_FILE: Final = "far_priming.safetensors"


class FarCallback(PhaseCallback):
    """Freeze-And-Reconfigure in one run: S_p steps train everything and score the nodes, then the model is reconfigured.

    The optimiser is repaired in place, so moments, schedule and groups go on. A checkpoint of either phase can be resumed from:
    start from the same base model, with a callback of the same configuration. The optimiser of the priming steps is the
    Trainer's own, so `priming_optimizer` says nothing here. A model in half precision becomes float32.

    Args:
        config: of the method.
        example: a batch that the model takes, to watch it with; random tokens by default.

    Attributes:
        selection: what was chosen, once it was.
    """

    def __init__(self, config: FarConfig, example: Batch | None = None) -> None:
        if config.after_priming == "keep" and config.keep_base_copy:
            raise ValueError(
                "keep_base_copy with after_priming='keep' would have to hold a second model, since priming moves all of it. "
                "Take after_priming='rollback_frozen', or keep_base_copy=False."
            )
        super().__init__()
        self.config = config
        self.selection: Selection | None = None
        self._example = example
        self._architecture: Architecture | None = None
        self._scorer: NodeScorer | None = None
        self._before: dict[str, Tensor] = {}
        self._shares: dict[str, nn.Parameter] = {}
        self._num_steps = 0

    @property
    def is_priming(self) -> bool:
        """Whether the model is not reconfigured yet."""
        return self.selection is None

    def look(self, model: PreTrainedModel, optimizer: Any) -> None:
        """Look at the model while it is plain."""
        check_plain(model)
        self._watch(model)

    def begin(self, args: TrainingArguments, state: TrainerState, model: PreTrainedModel, optimizer: Any) -> None:
        """Start priming, or go on with it; nothing is left to do where a checkpoint of the second phase was loaded."""
        if args.world_size > 1:
            raise ValueError(
                "FarCallback changes the model while it trains, which data-parallel training does not allow. Prime in one "
                "process, pass the reconfigured model to the Trainer, and leave the callback out."
            )
        self._num_steps = self.config.num_priming_steps(state.max_steps)
        if self.selection is not None:
            return
        if state.global_step > self._num_steps:
            raise ValueError(
                f"the checkpoint is of step {state.global_step}, after the {self._num_steps} priming steps, and the model is "
                "not reconfigured. Pass a model, not model_init, to the Trainer, and this callback when it is made."
            )
        architecture = self._watch(model) if self._architecture is None else self._architecture
        counted = shares(model, architecture.pairs, self.config)
        parameters = dict(model.named_parameters())
        self._shares = {share.parameter: parameters[share.parameter] for share in counted}
        resumed = _read(args, state) if state.global_step else {}
        self._before = snapshot(model, self.config, architecture)
        self._before |= _part(resumed, "before.", model.device)
        self._scorer = scorer_of(model, counted, self._before, self.config)
        if self._scorer is not None and resumed:
            self._scorer.restore(_part(resumed, "score.", model.device))
        if state.global_step >= self._num_steps:
            self._switch(model, optimizer)

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any
    ) -> None:
        """Look at the gradients of a step."""
        if self.is_priming and self._scorer is not None:
            for name, parameter in self._shares.items():
                if parameter.grad is not None:
                    self._scorer.see(name, parameter.grad)

    def after_step(self, state: TrainerState, model: PreTrainedModel, optimizer: Any) -> None:
        """Reconfigure after step S_p."""
        if self.is_priming and state.global_step >= self._num_steps:
            self._switch(model, optimizer)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any) -> None:
        """Put what priming has collected beside the weights of a checkpoint of the first phase."""
        if self.is_priming and state.is_world_process_zero:
            tensors = {f"before.{name}": value for name, value in self._before.items()}
            if self._scorer is not None:
                tensors |= {f"score.{name}": value for name, value in self._scorer.state().items()}
            save_file({name: value.cpu().contiguous() for name, value in tensors.items()}, _priming_file(args, state))

    def _watch(self, model: PreTrainedModel) -> Architecture:
        """See what the model is made of, and refuse now what could not be reconfigured after priming."""
        with widened(model):
            found = probe(model, self.config.ffn_pairs, self.config.modules_to_save, self._example)
            num_learners(self.config, sites_of(model, self.config, found))
        self._architecture = found
        return found

    @torch.no_grad()
    def _switch(self, model: PreTrainedModel, optimizer: Grouped) -> None:
        assert self._architecture is not None
        before = self._before if self._num_steps else None
        self.selection = select(model, self.config, self._architecture, self._scorer, before, self._num_steps)
        get_far_model(model, self.config, self.selection, self._example, self._architecture)
        self._scorer, self._before, self._shares = None, {}, {}
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        repair_optimizer(optimizer, trained, origins(model), is_fresh=self.config.after_priming == "restart")

    def before_loading(self, model: PreTrainedModel, state_dict: Mapping[str, Tensor], *_: Any) -> None:
        """Reconfigure before a checkpoint of the second phase goes into a model that is still plain."""
        ending = ".far_index"
        indices = {name.removesuffix(ending): value.tolist() for name, value in state_dict.items() if name.endswith(ending)}
        if not indices or is_tuned(model):
            return
        assert self._architecture is not None
        moved: frozenset[str] = frozenset()
        if self.config.after_priming == "keep":
            moved = frozenset(frozen_names(model, self.config, self._architecture) & set(state_dict))
        # A feed-forward without learners is plain, and has no place for their positions.
        empty = {site.up: () for site in sites_of(model, self.config, self._architecture)}
        self.selection = Selection(empty | {name: tuple(nodes) for name, nodes in indices.items()}, moved=moved)
        get_far_model(model, self.config, self.selection, self._example, self._architecture)
        # The model's own hooks were not there yet when this loading began.
        note_loading(model, state_dict)


def origins(model: nn.Module) -> dict[nn.Parameter, Origin]:
    """Return, for each compact tensor, the full one that it was gathered from."""
    found = {}
    for _, layer in layers(model):
        if isinstance(layer, FarLinear):
            for part in layer.parts():
                assert isinstance(part.full, nn.Parameter), part.leaf
                found[part.compact] = Origin(part.full, part.axis, part.where)
    return found


def _priming_file(args: TrainingArguments, state: TrainerState) -> Path:
    return Path(str(args.output_dir)) / f"checkpoint-{state.global_step}" / PRIMING_FILE


def _read(args: TrainingArguments, state: TrainerState) -> dict[str, Tensor]:
    path = _priming_file(args, state)
    if not path.is_file():
        raise ValueError(
            f"the checkpoint is of the priming phase, and {path}, which holds what priming has collected, is not there. "
            "Resume with the output_dir that the checkpoint was written in."
        )
    return load_file(path)


def _part(tensors: Mapping[str, Tensor], prefix: str, device: torch.device) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value.to(device) for name, value in tensors.items() if name.startswith(prefix)}
