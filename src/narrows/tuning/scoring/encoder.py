"""Pre-trained encoders from a folder or from the hub, without running anything that comes with them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from huggingface_hub import logging as hub_logging
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer, PreTrainedModel
from transformers.utils import logging

from narrows.tuning.scoring.task import Problem


class PretrainedEncoder(NamedTuple):
    """A pre-trained model under a fresh head, and its tokenizer.

    Attributes:
        model: a sequence classifier.
        tokenizer: that the model was trained with.
    """

    model: PreTrainedModel
    tokenizer: Any


def open_encoder(name: str | os.PathLike[str], num_outputs: int, seed: int, problem: Problem) -> PretrainedEncoder:
    """Return a pre-trained encoder with a new head, in single precision.

    Args:
        name: a folder with config.json, model.safetensors and the files of a tokenizer; or a name on the hub.
        num_outputs: of the head.
        seed: of the head's weights.
        problem: what the head is for, as transformers calls it.

    Raises ValueError where the folder is none of a model, where the weights are not in safetensors, where the model brings code
    of its own, and where there is no such folder and the hub cannot be reached.
    """
    source, is_local = _source(name)
    options: dict[str, Any] = {"trust_remote_code": False, "local_files_only": is_local}
    try:
        with quiet():
            config = AutoConfig.from_pretrained(source, **options)
            config.num_labels, config.problem_type = num_outputs, problem
            torch.manual_seed(seed)
            # Not in the precision of the file, where the head would start rounded and buffers be less than exact.
            model = AutoModelForSequenceClassification.from_pretrained(
                source, config=config, use_safetensors=True, dtype=torch.float32, **options
            )
            tokenizer = AutoTokenizer.from_pretrained(source, **options)
    except (OSError, ValueError, ImportError) as error:
        raise ValueError(_why(name, is_local, error)) from error
    if tokenizer.pad_token_id is None:
        raise ValueError(f"the tokenizer of {name} has no padding, so texts of several lengths make no batch. Take an encoder.")
    return PretrainedEncoder(model, tokenizer)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers from reporting what is meant to be so: that a head is new, and how loading goes on."""
    level, shows, hub_level = logging.get_verbosity(), logging.is_progress_bar_enabled(), hub_logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    hub_logging.set_verbosity_error()  # which tells of every retry
    try:
        yield
    finally:
        logging.set_verbosity(level)
        hub_logging.set_verbosity(hub_level)
        if shows:
            logging.enable_progress_bar()


def _source(name: str | os.PathLike[str]) -> tuple[str, bool]:
    """Return the folder or the hub's name, and whether it is a folder."""
    path = Path(name).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise ValueError(
                f"{path} is a folder without config.json, so it is no model. A model's folder holds config.json, "
                "model.safetensors and the files of a tokenizer, as save_pretrained writes them."
            )
        return str(path), True
    text = str(name)
    if path.exists():
        raise ValueError(f"{path} is a file. Give the folder that config.json and model.safetensors are in.")
    if path.is_absolute() or text.startswith((".", "~")) or text.count("/") > 1:
        raise ValueError(f"there is no folder {path}. Give the folder of a model, or a name on the hub such as owner/name.")
    return text, False


def _why(name: str | os.PathLike[str], is_local: bool, error: Exception) -> str:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if "trust_remote_code" in str(error):
        return f"{name} brings code of its own, and none is run from a model. Take one that transformers knows by itself."
    if "safetensors" in str(error):
        return (
            f"{name} has no weights in safetensors, and no other format is opened ({reason}). Open it where you trust it and "
            "write it again with save_pretrained."
        )
    if is_local:
        return f"{name} cannot be opened as an encoder: {reason}"
    return (
        f"{name!r} is no folder here, and the hub gave no such model: {reason} Without a network, copy the model's folder to "
        "this machine and pass its path."
    )
