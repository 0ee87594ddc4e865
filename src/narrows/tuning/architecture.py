"""The parts of a model, found by watching one tiny forward: feed-forward pairs, attention, head, embeddings, norms."""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from narrows.tuning.activations import Gate, recognise, recognise_gated
from narrows.tuning.parts import Attention, attention_parts, block_prefixes, head_parts, parameters_of
from narrows.tuning.recording import Batch, Call, example_batch, reached, record


class FfnPair(NamedTuple):
    """The two linears of a feed-forward `down(phi(up(x)))`, and what is needed to compute it as one function.

    Attributes:
        up, down: names of the linears.
        block: which pair it is, counted from the input.
        activation: the name of phi; None where values could not be looked at, or none of the known ones fits.
        gate: the half of up's output that phi acts on where the other half multiplies it; `none` for a plain feed-forward.
        is_exact: whether our phi agrees with the model's bit by bit.
        has_dropout: whether something random stands between the two in training.
        bypass: modules between the two that do nothing but phi, and may be passed through.
        shell: a module that does nothing but what stands before down, or the whole feed-forward; None where there is none.
    """

    up: str
    down: str
    block: int
    activation: str | None = None
    gate: Gate = "none"
    is_exact: bool = False
    has_dropout: bool = False
    bypass: tuple[str, ...] = ()
    shell: str | None = None

    @property
    def is_fusible(self) -> bool:
        """Whether one function can stand for the whole feed-forward."""
        return self.activation is not None and not self.has_dropout and (bool(self.bypass) or self.shell is not None)

    @property
    def obstacle(self) -> str:
        """The reason why no function can stand for the feed-forward, for a warning."""
        return "something random stands between its linears" if self.has_dropout else "it cannot be computed as one function"


class Architecture(NamedTuple):
    """The parts of a model. The sets hold names of parameters and overlap: the norm of the embeddings is in two of them.

    Attributes:
        pairs: the feed-forwards, in order; one that several blocks share stands once.
        attention: the linears of attention, with their roles.
        ffn, attention_parameters, norms, embeddings, biases: names of parameters.
        blocks: what names of parameters in a block begin with, by its number; empty where a pair stands in no block.
        head: names of the modules outside the encoder, and of a pooler inside that was not loaded from a checkpoint.
        head_parameters: their parameters.
        unreached: parameters of any part that no gradient of the loss comes to, which no method trains. A feed-forward, a
            linear of attention and a module of the head that hold no others are not listed above.
    """

    pairs: tuple[FfnPair, ...]
    attention: tuple[Attention, ...]
    ffn: frozenset[str]
    attention_parameters: frozenset[str]
    norms: frozenset[str]
    embeddings: frozenset[str]
    biases: frozenset[str]
    blocks: tuple[str, ...]
    head: tuple[str, ...]
    head_parameters: frozenset[str]
    unreached: frozenset[str]


def probe(
    model: PreTrainedModel,
    ffn_pairs: Sequence[tuple[str, str]] | None = None,
    modules_to_save: Sequence[str] | None = None,
    example: Batch | None = None,
    unreached: frozenset[str] | None = None,
) -> Architecture:
    """Return the parts of the model.

    Two linears called one after the other are a feed-forward where the second brings the width back down to that of the
    first's input, and a known activation, or a gated one, leads from one to the other. A model on the meta device has no
    values, so there shapes alone decide. What a gradient comes to is seen in a backward pass, from the loss where the example
    has labels, else from everything that the model gives.

    Args:
        ffn_pairs: names (up, down) to take instead of looking for pairs; needed where a feed-forward does not widen.
        modules_to_save: names of the head's modules, instead of everything outside the encoder.
        example: a batch that the model takes; random tokens by default.
        unreached: names of the parameters that no gradient comes to, where they are known.

    Raises ValueError where no pair is found, a name is none of the model's linears that learn, or the model does not run.
    """
    batch = example_batch(model) if example is None else example
    calls = record(model, batch)
    linears = [call for call in calls if isinstance(call.module, nn.Linear)]
    found = _named(model, linears, ffn_pairs) if ffn_pairs is not None else _discovered(linears)
    if not found:
        raise ValueError(_no_pair(model, linears))
    if unreached is None:
        unreached = frozenset(name for name, _ in model.named_parameters()) - reached(model, batch)
    live = [not unreached & {f"{up.name}.weight", f"{down.name}.weight"} for up, down in found]
    if ffn_pairs is not None and not all(live):
        raise ValueError(
            f"ffn_pairs names {found[live.index(False)][0].name!r}, which no gradient comes to in {type(model).__name__}, so "
            "it cannot learn. Leave it out, or pass as example= a batch whose loss reaches it."
        )
    trained = None if _is_meta(calls) else record(model, batch, is_training=True)
    described = [_describe(model, up, down, block, calls, trained) for block, (up, down) in enumerate(found)]
    pairs = tuple(pair for pair, is_live in zip(described, live, strict=True) if is_live)
    named = [(up.name, down.name) for up, down in found]
    attention = tuple(part for part in attention_parts(linears, named) if f"{part.name}.weight" not in unreached)
    ffn = frozenset(name for pair in pairs for name in parameters_of(model, (pair.up, pair.down)))
    parts = head_parts(model, linears, named[-1][1], modules_to_save, unreached)
    return Architecture(
        pairs,
        attention,
        ffn,
        frozenset(parameters_of(model, [linear.name for linear in attention])),
        parts.norms,
        parts.embeddings,
        parts.biases,
        block_prefixes(linears, named),
        parts.head,
        parts.head_parameters,
        unreached,
    )


def _is_meta(calls: Sequence[Call]) -> bool:
    return any(call.output.is_meta for call in calls)


def _discovered(linears: Sequence[Call]) -> list[tuple[Call, Call]]:
    """Return the pairs by shape and value, each once; the first call stands for a pair that several blocks share."""
    found: dict[tuple[str, str], tuple[Call, Call]] = {}
    for up, down in pairwise(linears):
        key = (up.name, down.name)
        if key not in found and _fits(up.module, down.module) and (up.output.is_meta or _leads(up, down) is not None):
            found[key] = (up, down)
    return list(found.values())


def _fits(up: nn.Module, down: nn.Module) -> bool:
    assert isinstance(up, nn.Linear) and isinstance(down, nn.Linear)
    is_wide = down.in_features > up.in_features and down.out_features == up.in_features
    return is_wide and up.out_features in (down.in_features, 2 * down.in_features)


def _leads(up: Call, down: Call) -> tuple[str, Gate, bool] | None:
    """Return the activation from one linear to the next, its gate, and whether bits agree; None where none fits."""
    before, after = up.output, down.input
    if before.shape[:-1] != after.shape[:-1]:
        return None
    if before.shape[-1] == after.shape[-1]:
        plain = recognise(before, after)
        return None if plain is None else (plain[0].name, "none", plain[1])
    gated = recognise_gated(before, after)
    if gated is None:
        return None
    return gated[0].name, gated[1], gated[2]


def _named(model: nn.Module, linears: Sequence[Call], names: Sequence[tuple[str, str]]) -> list[tuple[Call, Call]]:
    """Return the pairs that were named; ValueError for a wrong name, one that is not called, or shapes of no feed-forward."""
    calls: dict[str, Call] = {}
    for call in linears:
        calls.setdefault(call.name, call)
    found = []
    for up_name, down_name in names:
        for name in (up_name, down_name):
            if name not in calls:
                known = ", ".join(calls)
                raise ValueError(f"ffn_pairs names {name!r}, which is no linear that {type(model).__name__} calls: {known}.")
        up, down = calls[up_name], calls[down_name]
        assert isinstance(up.module, nn.Linear) and isinstance(down.module, nn.Linear)
        if down.module.out_features != up.module.in_features or up.module.out_features not in (
            down.module.in_features,
            2 * down.module.in_features,
        ):
            raise ValueError(
                f"{up_name} takes {up.module.in_features} to {up.module.out_features} and {down_name} takes "
                f"{down.module.in_features} to {down.module.out_features}; a feed-forward ends at the width it began with."
            )
        found.append((up, down))
    return found


def _no_pair(model: nn.Module, linears: Sequence[Call]) -> str:
    seen = dict.fromkeys(f"{call.name} {tuple(call.input.shape)} -> {tuple(call.output.shape)}" for call in linears)
    return (
        f"no feed-forward was found in {type(model).__name__}: two linears called one after the other, the second as wide at "
        "its end as the first at its start, with a known activation between. Name them: ffn_pairs=[(up, down), ...]. "
        f"Linears that were called: {'; '.join(seen) or 'none'}."
    )


def _describe(
    model: nn.Module, up: Call, down: Call, block: int, calls: Sequence[Call], trained: Sequence[Call] | None
) -> FfnPair:
    leads = None if trained is None else _leads(up, down)
    if leads is None or trained is None:
        gate: Gate = "first" if up.output.shape[-1] == 2 * down.input.shape[-1] else "none"
        return FfnPair(up.name, down.name, block, gate=gate)
    activation, gate, is_exact = leads
    again_up, again_down = _call(trained, up.name), _call(trained, down.name)
    has_dropout = again_up is None or again_down is None or _leads(again_up, again_down) is None
    bypass, shell = (), None
    if not has_dropout and again_up is not None and again_down is not None:
        bypass = _chain(model, up, down, calls)
        if not bypass:
            shell = _shell(up, down, calls, trained)
    return FfnPair(up.name, down.name, block, activation, gate, is_exact, has_dropout, bypass, shell)


def _call(calls: Sequence[Call], name: str) -> Call | None:
    return next((call for call in calls if call.name == name), None)


def _chain(model: nn.Module, up: Call, down: Call, calls: Sequence[Call]) -> tuple[str, ...]:
    """Return the modules that hand on the very tensor of up until down gets it; none where something else does a part."""
    names = [name for name, _ in model.named_modules(remove_duplicate=False)]
    objects = [id(module) for _, module in model.named_modules(remove_duplicate=False)]
    start, end = _position(calls, up), _position(calls, down)
    tensor, chain = up.output, []
    for call in calls[start + 1 : end]:
        is_leaf = next(call.module.children(), None) is None
        if call.input is tensor and is_leaf and objects.count(id(call.module)) == 1 and call.name in names:
            tensor = call.output
            chain.append(call.name)
    return tuple(chain) if tensor is down.input else ()


def _position(calls: Sequence[Call], wanted: Call) -> int:
    return next(index for index, call in enumerate(calls) if call is wanted)


def _shell(up: Call, down: Call, calls: Sequence[Call], trained: Sequence[Call]) -> str | None:
    """Return the innermost module around up that takes its input and gives down's input or output, in training too."""
    parts = up.name.split(".")
    for depth in range(len(parts) - 1, 0, -1):
        name = ".".join(parts[:depth])
        whole = _call(calls, name)
        if whole is None or any(True for _ in (*whole.module.parameters(recurse=False), *whole.module.buffers(recurse=False))):
            continue
        holds_down = down.name.startswith(name + ".")
        if all(_is_whole(name, up.name, down.name, record_, holds_down) for record_ in (calls, trained)):
            return name
    return None


def _is_whole(name: str, up_name: str, down_name: str, calls: Sequence[Call], holds_down: bool) -> bool:
    whole, up, down = _call(calls, name), _call(calls, up_name), _call(calls, down_name)
    if whole is None or up is None or down is None:
        return False
    return _same(whole.input, up.input) and _same(whole.output, down.output if holds_down else down.input)


def _same(first: Tensor, second: Tensor) -> bool:
    return first.shape == second.shape and torch.equal(first, second)
