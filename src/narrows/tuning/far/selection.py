"""From scores to learner nodes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil, floor
from typing import NamedTuple

import torch
from torch import Tensor

from narrows.tuning.far.config import FarConfig


class Site(NamedTuple):
    """A feed-forward that has nodes to choose from.

    Attributes:
        up: the name of its widening linear, which names the feed-forward.
        block: its number.
        num_nodes: F.
    """

    up: str
    block: int
    num_nodes: int


@dataclass(frozen=True)
class Selection:
    """The result of priming.

    Attributes:
        indices: learner nodes of each feed-forward, ascending, by the name of the widening linear.
        scores: what they were ranked by; empty where they were drawn or imported.
        num_steps: priming steps that were taken.
        moved: names of the parameters that priming changed and did not put back.
        before: values of those before priming, where the configuration asks for base copies.
    """

    indices: Mapping[str, tuple[int, ...]]
    scores: Mapping[str, Tensor] = field(default_factory=dict, repr=False)
    num_steps: int = 0
    moved: frozenset[str] = frozenset()
    before: Mapping[str, Tensor] = field(default_factory=dict, repr=False)

    def share(self) -> float:
        """Return the part of the whole score that the learners hold: their share of the nodes, where the score says nothing."""
        if not self.scores:
            raise ValueError("nodes that were drawn or imported have no scores.")
        held = sum(float(self.scores[name][list(nodes)].sum()) for name, nodes in self.indices.items())
        return held / sum(float(score.sum()) for score in self.scores.values())


def overlap(first: Selection, second: Selection) -> float:
    """Return the share of the first's learners that the second has too, over all feed-forwards; at random, the retention."""
    both = sum(len(set(nodes) & set(second.indices[name])) for name, nodes in first.indices.items())
    return both / sum(len(nodes) for nodes in first.indices.values())


def num_learners(config: FarConfig, sites: Sequence[Site]) -> list[int]:
    """Return `k = floor(rho F)` of each feed-forward, safe against the last bit of the product.

    Raises ValueError where that leaves a feed-forward, or under `scope='global'` all of them together, without a node.
    """
    counts = [floor(config.retention_of(site.block) * site.num_nodes + 1e-9) for site in sites]
    if not all(counts) and (config.scope == "layer" or not any(counts)):
        site = sites[counts.index(0)]
        raise ValueError(
            f"retention={config.retention_of(site.block):g} of the {site.num_nodes} nodes of {site.up} is less than one node, "
            f"so none would be trained. It takes {ceil(1e6 / site.num_nodes) / 1e6:g} at least; FreezeFfnConfig trains no "
            "node, and layers_to_transform leaves out blocks."
        )
    return counts


def choose(config: FarConfig, sites: Sequence[Site], scores: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """Return the nodes with the largest scores: k in each feed-forward, or as many as that in all, wherever they are.

    Raises ValueError where a score is not finite, or a feed-forward has none.
    """
    for site in sites:
        if site.up not in scores:
            raise ValueError(
                f"no gradient came to {site.up} in priming, so its nodes have no score: the loss does not reach it. Leave its "
                "block out with layers_to_transform, or look at the loss."
            )
        if not bool(scores[site.up].isfinite().all()):
            raise ValueError(
                f"the score of {site.up} is not finite. Priming diverged: lower priming_learning_rate, or look for nan in data."
            )
    counts = num_learners(config, sites)
    if config.scope == "layer":
        return {site.up: _largest(scores[site.up], count) for site, count in zip(sites, counts, strict=True)}
    sizes = [site.num_nodes for site in sites]
    chosen = torch.tensor(_largest(torch.cat([scores[site.up].float().cpu() for site in sites]), sum(counts)))
    mask = torch.zeros(sum(sizes), dtype=torch.bool).index_fill_(0, chosen.long(), True)
    return {site.up: tuple(part.nonzero().flatten().tolist()) for site, part in zip(sites, mask.split(sizes), strict=True)}


def draw(config: FarConfig, sites: Sequence[Site]) -> dict[str, tuple[int, ...]]:
    """Return k nodes of each feed-forward drawn with the configuration's seed: the control for every ranking."""
    generator = torch.Generator().manual_seed(config.seed)
    return {
        site.up: tuple(torch.randperm(site.num_nodes, generator=generator)[:count].sort().values.tolist())
        for site, count in zip(sites, num_learners(config, sites), strict=True)
    }


def imported(indices: Mapping[str, Sequence[int]], sites: Sequence[Site]) -> dict[str, tuple[int, ...]]:
    """Return nodes chosen elsewhere, ascending; ValueError where they do not fit the model."""
    known = {site.up: site for site in sites}
    if set(indices) != set(known):
        raise ValueError(
            f"indices name the feed-forwards {', '.join(sorted(indices)) or 'none'}; "
            f"this model's are {', '.join(sorted(known))}. A feed-forward is named by its widening linear."
        )
    for name, nodes in indices.items():
        if len(set(nodes)) != len(nodes) or any(not 0 <= node < known[name].num_nodes for node in nodes):
            raise ValueError(f"indices of {name} must be different numbers from 0 to {known[name].num_nodes - 1}.")
    if not any(len(nodes) for nodes in indices.values()):
        raise ValueError("indices name no node at all, so none would be trained. FreezeFfnConfig trains no node.")
    return {site.up: tuple(sorted(int(node) for node in indices[site.up])) for site in sites}


def _largest(score: Tensor, count: int) -> tuple[int, ...]:
    order = torch.sort(score.float(), descending=True, stable=True).indices
    return tuple(sorted(order[:count].tolist()))
