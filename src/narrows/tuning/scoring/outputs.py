"""Outputs of an encoder's head for a text, whatever stands beside the text in a batch."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Final, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel

from narrows.tuning.recording import Batch, mode
from narrows.tuning.scoring.reading import Reader, Side, equal_batches

Precision = Literal["fp32", "bf16"]

NEIGHBOURS: Final = 5e-5
"""Most that a prediction moves with the texts beside its own, in fp32, as a share of the largest output: products of other
shapes add up in another order, and nothing else depends on them."""
_HARMLESS: Final = 3e-4
"""Most that padding may move an output, as a share of the range of outputs; rounding in fp32 does a tenth of it."""
_PREDICTED: Final = 64
"""Texts in a batch that is only predicted."""
_TRIED: Final = 8


def predict(
    model: PreTrainedModel, reader: Reader, ids: Sequence[list[int]], precision: Precision
) -> Float[np.ndarray, "row output"]:
    """Return what the head puts out for each text, in order; the other texts move it by `NEIGHBOURS` at most.

    Texts of one length make a batch, so that none is padded: a convolution, a Fourier transform, positions that are counted
    from the left, or a head that reads the last place would see the padding.
    """
    found: dict[int, np.ndarray] = {}
    with mode(model, False), torch.inference_mode(), autocast(model, precision):
        for batch in equal_batches(np.asarray([len(one) for one in ids]), _PREDICTED):
            given = reader.batch([ids[row] for row in batch], model.device)
            found.update(zip(batch.tolist(), model(**given).logits.float().cpu().numpy(), strict=True))
    return np.stack([found[row] for row in range(len(ids))])


def harmless_side(model: PreTrainedModel, reader: Reader, ids: Sequence[list[int]]) -> Side | None:
    """Return the side on which padding leaves the outputs alone, the right one first; None where there is no such side.

    The shortest texts are tried beside the longest one. Which side a tokenizer pads on by itself says nothing: many a folder
    has the tokenizer of another model.
    """
    tried = sorted(ids, key=len)
    tried = [*tried[:_TRIED], tried[-1]]
    sides: tuple[Side, ...] = ("right", "left")
    if len(tried[0]) == len(tried[-1]):
        return sides[0]  # nothing will be padded
    alone = predict(model, reader, tried, "fp32")
    for side in sides:
        with mode(model, False), torch.inference_mode():
            beside = model(**reader.batch(tried, model.device, side)).logits.float().cpu().numpy()
        if np.abs(beside - alone).max() <= _HARMLESS * np.ptp(alone, axis=0).max():
            return side
    return None


def logits(model: PreTrainedModel, batch: Batch, side: Side | None) -> Float[Tensor, "row output"]:
    """Return the head's outputs for a batch that was padded on a harmless side; texts of one length at a time where none is.

    Args:
        batch: `input_ids` and `attention_mask`, padded on that side, or on the right.
        side: of `harmless_side`.
    """
    ids, mask = batch["input_ids"], batch["attention_mask"]
    if side is not None:
        return model(input_ids=ids, attention_mask=mask).logits
    lengths = mask.sum(1)
    groups = [(torch.nonzero(lengths == length)[:, 0], int(length)) for length in lengths.unique()]
    parts = [model(input_ids=ids[rows, :length], attention_mask=mask[rows, :length]).logits for rows, length in groups]
    return torch.cat(parts)[torch.cat([rows for rows, _ in groups]).argsort()]


def autocast(model: PreTrainedModel, precision: Precision) -> AbstractContextManager[object]:
    """Return the context that computes the layers in a precision."""
    return torch.autocast(model.device.type, dtype=torch.bfloat16, enabled=precision == "bf16")
