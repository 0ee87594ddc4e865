"""The parts of a model that are no feed-forward: attention with its roles, embeddings, norms, biases, and the head."""

from collections.abc import Iterable, Sequence
from typing import Final, Literal, NamedTuple

from torch import nn
from transformers import PreTrainedModel

from narrows.tuning.recording import Call

AttentionRole = Literal["q", "k", "v", "o", "qkv", "other"]


_OTHER: Final[AttentionRole] = "other"


class Attention(NamedTuple):
    """A linear of attention.

    Attributes:
        name: in the model.
        role: query, key, value, output, all three in one (`qkv`), or `other`, such as those for relative positions.
        block: of the feed-forward that follows it.
    """

    name: str
    role: AttentionRole
    block: int


class Parts(NamedTuple):
    """Names of parameters by part, and the modules of the head; see `Architecture`."""

    norms: frozenset[str]
    embeddings: frozenset[str]
    biases: frozenset[str]
    head: tuple[str, ...]
    head_parameters: frozenset[str]


def parameters_of(model: nn.Module, modules: Iterable[str]) -> list[str]:
    """Return the names of all parameters inside the named modules, in the model's order."""
    prefixes = tuple(f"{name}." for name in modules)
    return [name for name, _ in model.named_parameters() if name.startswith(prefixes)] if prefixes else []


def attention_parts(linears: Sequence[Call], pairs: Sequence[tuple[str, str]]) -> tuple[Attention, ...]:
    """Return the linears of attention: as wide as the model, and called in the block of a pair before it."""
    calls = {call.name: call for call in reversed(linears)}
    found = []
    for block, ((up, _), (home, window)) in enumerate(zip(pairs, _windows(linears, pairs), strict=True)):
        names = [name for name in window if home and name.startswith(home)]
        roles = _roles(names, calls, calls[up].input.shape[-1])
        found += [Attention(name, role, block) for name, role in zip(names, roles, strict=True)]
    return tuple(found)


def block_prefixes(linears: Sequence[Call], pairs: Sequence[tuple[str, str]]) -> tuple[str, ...]:
    """Return what the names of parameters begin with in the block of each pair; empty where a pair stands in none."""
    return tuple(home for home, _ in _windows(linears, pairs))


def _windows(linears: Sequence[Call], pairs: Sequence[tuple[str, str]]) -> list[tuple[str, list[str]]]:
    """Return for each pair its block, and the linears as wide as the model called between the pair before and it."""
    order = list(dict.fromkeys(call.name for call in linears))
    calls = {call.name: call for call in reversed(linears)}
    in_pair = {name for pair in pairs for name in pair}
    found, begin = [], 0
    for up, down in pairs:
        width = calls[up].input.shape[-1]
        between = order[begin : order.index(up)]
        window = [name for name in between if name not in in_pair and calls[name].input.shape[-1] == width]
        found.append((_home(up, down, window) or "", window))
        begin = max(begin, order.index(down) + 1)
    return found


def _home(up: str, down: str, window: Sequence[str]) -> str | None:
    """Return the block: the smallest module that holds the pair and some other linear called before it."""
    first, second = up.split("."), down.split(".")
    depth = next((i for i, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), min(len(first), len(second)))
    for length in range(depth, 0, -1):
        prefix = ".".join(first[:length]) + "."
        if any(name.startswith(prefix) for name in window):
            return prefix
    return None


def _roles(names: Sequence[str], calls: dict[str, Call], width: int) -> list[AttentionRole]:
    """Return roles by order: query, key, value first, output last; one of three times the width is all three."""
    if names and calls[names[0]].output.shape[-1] == 3 * width:
        first: list[AttentionRole] = ["qkv"]
    elif len(names) >= 4:
        first = ["q", "k", "v"]
    else:
        return [_OTHER] * len(names)
    last: list[AttentionRole] = ["o"] if len(names) > len(first) else []
    between: list[AttentionRole] = [_OTHER] * (len(names) - len(first) - len(last))
    return first + between + last


def head_parts(
    model: PreTrainedModel,
    linears: Sequence[Call],
    last_down: str,
    modules_to_save: Sequence[str] | None,
    unreached: frozenset[str],
) -> Parts:
    """Return the parts that are found without looking at values.

    The head is everything outside the encoder, and a pooler inside it, a linear called after the last feed-forward, where it
    was not loaded from a checkpoint: what starts at random must be trained and saved. What no gradient comes to is no head.
    """
    encoder = next((name for name, module in model.named_modules() if name and module is model.base_model), None)
    if modules_to_save is None:
        outside = [] if encoder is None else [name for name, _ in model.named_children() if name != encoder]
        head = [name for name in outside if parameters_of(model, [name])]
        head += _fresh_poolers(model, linears, last_down, head) if encoder is not None else []
        head = [name for name in head if not unreached.issuperset(parameters_of(model, [name]))]
    else:
        head = list(modules_to_save)
        for name in head:
            if not parameters_of(model, [name]):
                raise ValueError(
                    f"modules_to_save names {name!r}, which is no module of {type(model).__name__} that holds parameters. "
                    f"Its modules: {', '.join(child for child, _ in model.named_children())}."
                )
    embeddings = frozenset(_embeddings(model))
    head_parameters = frozenset(parameters_of(model, head)) - embeddings
    norms = (f"{name}.{leaf}" for name, module in model.named_modules() if _is_norm(module) for leaf in module._parameters)
    named = {name for name, _ in model.named_parameters()}
    biases = frozenset(name for name in named if name.rsplit(".", 1)[-1] == "bias")
    return Parts(frozenset(norms) & named, embeddings, biases, tuple(head), head_parameters)


def _fresh_poolers(model: PreTrainedModel, linears: Sequence[Call], last_down: str, head: Sequence[str]) -> list[str]:
    order = list(dict.fromkeys(call.name for call in linears))
    outside = tuple(f"{name}." for name in head)
    after = [name for name in order[order.index(last_down) + 1 :] if not f"{name}.".startswith(outside or ("\0",))]
    return [name for name in after if not all(map(was_loaded, model.get_submodule(name).parameters(recurse=False)))]


def was_loaded(parameter: nn.Parameter) -> bool:
    """Whether `from_pretrained` marked a parameter as read from a file.

    The mark is transformers' own and private; where it is absent the parameter counts as fresh, which costs a few kilobytes in
    the adapter's file and loses nothing.
    """
    return getattr(parameter, "_is_hf_initialized", False)


def _is_norm(module: nn.Module) -> bool:
    return next(module.children(), None) is None and "norm" in type(module).__name__.lower()


def _embeddings(model: PreTrainedModel) -> list[str]:
    """Return the parameters of the module that holds the input embeddings, and of every other table of embeddings."""
    table = model.get_input_embeddings()
    home = next(name for name, module in model.named_modules() if module is table)
    parent = home.rpartition(".")[0]
    modules = [parent if parent else home]
    modules += [name for name, module in model.named_modules() if isinstance(module, nn.Embedding)]
    return parameters_of(model, modules)
