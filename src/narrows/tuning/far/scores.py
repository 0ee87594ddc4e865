"""Scores of nodes: how far they moved, or what gradients they got."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from narrows.tuning.architecture import FfnPair
from narrows.tuning.far.config import FarConfig


class Share(NamedTuple):
    """A parameter of a feed-forward and where its nodes lie.

    Attributes:
        pair: the name of the widening linear.
        parameter: name in the model.
        part: `in`, `bias` or `out`.
        axis: of the nodes.
        is_gated: whether there are two rows a node.
    """

    pair: str
    parameter: str
    part: str
    axis: int
    is_gated: bool


class NodeScorer(Protocol):
    """Collects what is needed over the priming steps."""

    def see(self, name: str, gradient: Tensor) -> None:
        """Look at the complete gradient of one parameter in one step."""
        ...

    def scores(self) -> dict[str, Tensor]:
        """Return one number a node, by the name of the widening linear."""
        ...

    def state(self) -> dict[str, Tensor]:
        """Return what was collected, to go on elsewhere."""
        ...

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what `state` returned."""
        ...


def positions(model: nn.Module, pairs: Sequence[FfnPair], config: FarConfig) -> list[Share]:
    """Return where the nodes lie in the parameters of the feed-forwards that are to have learners."""
    known = {name for name, _ in model.named_parameters()}
    found = []
    for pair in pairs:
        if config.is_transformed(pair.block):
            gated = pair.gate != "none"
            found += [
                Share(pair.up, f"{pair.up}.weight", "in", 0, gated),
                Share(pair.up, f"{pair.up}.bias", "bias", 0, gated),
                Share(pair.up, f"{pair.down}.weight", "out", 1, False),
            ]
    return [share for share in found if share.parameter in known]


def shares(model: nn.Module, pairs: Sequence[FfnPair], config: FarConfig) -> list[Share]:
    """Return those of them that count for the score."""
    return [share for share in positions(model, pairs, config) if share.part in config.score_parts]


def by_node(share: Share, value: Tensor) -> Tensor:
    """Return the numbers of each node, shape `(F, numbers a node)`."""
    rows = value.movedim(share.axis, 0)
    rows = rows.reshape(rows.shape[0], -1)
    return torch.cat(list(rows.chunk(2)), dim=1) if share.is_gated else rows


def node_norm(share: Share, value: Tensor) -> Tensor:
    """Return the L1 norm of each node's numbers, shape `(F,)`."""
    return by_node(share, value.detach().float()).abs().sum(1)


def _total(norms: Sequence[tuple[Share, Tensor]]) -> dict[str, Tensor]:
    totals: dict[str, Tensor] = {}
    for share, norm in norms:
        totals[share.pair] = totals[share.pair] + norm if share.pair in totals else norm
    return totals


class RunningSum:
    """Sum over the steps of gradients, `(...)` a parameter, or of the L1 norms of each node's gradient, `(F,)` a parameter.

    A node's score is the norm of the sum, which is what moves under SGD, or the sum of the norms.

    Args:
        shares: the parameters that count.
        dtype: of the sums.
        is_of_norms: whether norms are summed.
    """

    def __init__(self, shares: Sequence[Share], dtype: torch.dtype = torch.float32, is_of_norms: bool = False) -> None:
        self._shares = {share.parameter: share for share in shares}
        self._dtype, self._is_of_norms = dtype, is_of_norms
        self._sums: dict[str, Tensor] = {}

    def see(self, name: str, gradient: Tensor) -> None:
        """Add a step's gradient, or its norms."""
        if name not in self._shares:
            return
        value = node_norm(self._shares[name], gradient) if self._is_of_norms else gradient.detach()
        if name not in self._sums:
            self._sums[name] = torch.zeros_like(value, dtype=self._dtype)
        self._sums[name].add_(value)

    def scores(self) -> dict[str, Tensor]:
        """Return the norms, summed over the parts of a node."""
        sums = [(self._shares[name], value) for name, value in self._sums.items()]
        return _total(sums if self._is_of_norms else [(share, node_norm(share, value)) for share, value in sums])

    def state(self) -> dict[str, Tensor]:
        """Return the sums."""
        return dict(self._sums)

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take the sums."""
        self._sums = dict(state)


class Movement:
    """L1 distance between a node's weights now and when this was made.

    Args:
        model: whose weights are about to move.
        shares: the parameters that count.
        before: their values before anything moved.
        config: whose score may be a function of the node vectors before and after.
    """

    def __init__(self, model: nn.Module, shares: Sequence[Share], before: Mapping[str, Tensor], config: FarConfig) -> None:
        self._model, self._shares, self._before, self._config = model, list(shares), before, config

    def see(self, name: str, gradient: Tensor) -> None:
        """Do nothing: gradients do not count."""

    def scores(self) -> dict[str, Tensor]:
        """Return the distances, or the values of the configuration's function of the vectors."""
        now = dict(self._model.named_parameters())
        score = self._config.score
        if not callable(score):
            moved = [(share, now[share.parameter].detach() - self._before[share.parameter]) for share in self._shares]
            return _total([(share, node_norm(share, delta)) for share, delta in moved])
        result = {}
        for pair in dict.fromkeys(share.pair for share in self._shares):
            own = [share for share in self._shares if share.pair == pair]
            before = torch.cat([by_node(share, self._before[share.parameter]) for share in own], dim=1)
            after = torch.cat([by_node(share, now[share.parameter].detach()) for share in own], dim=1)
            value = score(pair, before, after)
            if value.shape != before.shape[:1]:
                raise ValueError(
                    f"the score function must give {before.shape[0]} numbers for {pair}, got {tuple(value.shape)}."
                )
            result[pair] = value.detach()
        return result

    def state(self) -> dict[str, Tensor]:
        """Return nothing: the weights hold it all."""
        return {}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Do nothing."""


def scorer_of(model: nn.Module, shares: Sequence[Share], before: Mapping[str, Tensor], config: FarConfig) -> NodeScorer | None:
    """Return what collects the configured score; None where nodes are drawn."""
    if config.score == "random":
        return None
    if config.needs_movement:
        return Movement(model, shares, before, config)
    if config.score == "grad_abs_sum":
        return RunningSum(shares, is_of_norms=True)
    return RunningSum(shares, torch.bfloat16 if config.score_dtype == "bfloat16" else torch.float32)
