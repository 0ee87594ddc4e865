"""From texts to batches of token ids."""

from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

Side = Literal["right", "left"]

_LONGEST = 512
_ABSURD = 1_000_000
"""Tokenizers without a limit of their own say a number beyond this."""
_BUCKET = 32
"""Batches that are cut from texts of like lengths."""


class Tokens(NamedTuple):
    """Texts as token ids.

    Attributes:
        ids: of each text, special tokens included.
        num_cut: how many texts were longer than what the encoder reads and lost their end.
    """

    ids: tuple[list[int], ...]
    num_cut: int


class Reader:
    """Cut texts into tokens, and tokens into batches.

    Args:
        tokenizer: of the encoder.
        max_length: tokens of a text at most, special ones included.
        is_spaced: put a blank between any two letters, which is how some encoders of proteins were trained.
    """

    def __init__(self, tokenizer: Any, max_length: int, is_spaced: bool = False) -> None:
        if max_length < 3:
            raise ValueError(f"max_length must be at least 3, for one token between the special ones, got {max_length}.")
        self.tokenizer = tokenizer
        self.max_length = max_length
        self.is_spaced = is_spaced

    def read(self, texts: Sequence[str]) -> Tokens:
        """Return the tokens of texts."""
        shown = [" ".join(text) for text in texts] if self.is_spaced else list(texts)
        whole = self.tokenizer(shown, add_special_tokens=True, truncation=False, verbose=False)["input_ids"] if shown else []
        lengths = np.asarray([len(ids) for ids in whole], dtype=np.int64)
        is_long = lengths > self.max_length
        if not is_long.any():
            return Tokens(tuple(whole), 0)
        cut = self.tokenizer(shown, add_special_tokens=True, truncation=True, max_length=self.max_length)["input_ids"]
        return Tokens(tuple(cut), int(is_long.sum()))

    def batch(
        self, ids: Sequence[list[int]], device: torch.device | str = "cpu", side: Side | None = None
    ) -> dict[str, Tensor]:
        """Return some texts as the model's forward takes them, padded to the longest: on a side, or on the right."""
        given = {"input_ids": list(ids)}
        padded = self.tokenizer.pad(given, padding=True, padding_side=side or "right", return_tensors="pt")
        return {name: padded[name].to(device) for name in ("input_ids", "attention_mask")}


def longest_of(tokenizer: Any, config: Any) -> int:
    """Return how many tokens an encoder reads: by its tokenizer, its positions, and 512 where neither says."""
    known = [_LONGEST]
    if 0 < tokenizer.model_max_length < _ABSURD:
        known.append(tokenizer.model_max_length)
    positions = getattr(config, "max_position_embeddings", None)
    if isinstance(positions, int) and positions > 0:
        # RoBERTa and its like count positions from behind the padding token's.
        known.append(positions - (config.pad_token_id or 0) - 1 if _counts_from_padding(config) else positions)
    return min(known)


def _counts_from_padding(config: Any) -> bool:
    return config.model_type in ("roberta", "xlm-roberta", "camembert", "esm", "mpnet", "longformer")


def epoch_batches(
    lengths: Int[np.ndarray, " text"], rows: Int[np.ndarray, " row"], size: int, seed: int, epoch: int
) -> Iterator[Int[np.ndarray, " batch"]]:
    """Yield the rows of an epoch in batches of like lengths, in an order that seed and epoch alone decide."""
    generator = np.random.default_rng([seed, epoch])
    order = generator.permutation(rows)
    batches: list[Int[np.ndarray, " batch"]] = []
    for start in range(0, len(order), _BUCKET * size):
        part = order[start : start + _BUCKET * size]
        part = part[np.argsort(lengths[part], kind="stable")]
        batches += [part[begin : begin + size] for begin in range(0, len(part), size)]
    for number in generator.permutation(len(batches)):
        yield batches[number]


def equal_batches(lengths: Int[np.ndarray, " text"], size: int) -> Iterator[Int[np.ndarray, " batch"]]:
    """Yield all rows in batches of one length each, for prediction."""
    for length in np.unique(lengths):
        rows = np.flatnonzero(lengths == length)
        for start in range(0, len(rows), size):
            yield rows[start : start + size]
