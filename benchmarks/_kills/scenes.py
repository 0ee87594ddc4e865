"""The commands that are killed: what lies there before, what they are told, and how to see that all of it is whole."""

import hashlib
import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from narrows.data import write_table
from narrows.proxies import fitted
from narrows.storage import checkpoint
from narrows.storage.archive import Archive

Call = Callable[[list[str]], None]
"""Runs a command to its end; ValueError where it fails."""

_JOB = """
[env]
name = "Sequence"
alphabet = "ACGU"
min_length = 6
max_length = 6
[reward]
name = "Ehrlich"
beta = 4.0
motif_length = 3
quantization = 3
[policy]
name = "MLP"
hidden = 16
depth = 1
[train]
num_steps = 20
batch_size = 8
every = 5
checkpoint_every = 5
[shortlist]
k = 3
min_distance = 1
"""
_SCORE = """
def first(texts):
    return [float(text.count("A")) for text in texts]


def second(texts):
    return [float(text.count("C")) for text in texts]
"""
_LETTERS = "ACGU"
_FIT = ("fit", "{}/data.csv", "--space", "rna", "--out", "{}/proxy", "--models", "ridge-letters", "--no-refit")
_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


@dataclass(frozen=True)
class Scene:
    """A command that is killed."""

    command: tuple[str, ...]  # its words, after the folder that it works in is put for `{}`
    prepare: Callable[[Path, Call], None]  # makes what lies there before, in an empty folder
    # names, from the folder, of what the command replaces by something new; all else stays bit for bit
    replaced: tuple[str, ...]
    opened: Callable[[Path], object]  # raises ValueError or OSError unless what is replaced can be opened, the old or the new
    result: Callable[[Path], Any]  # what the finished command leaves, the same each time
    # whether a folder's command has ended, for one that refuses to be given again then
    is_done: Callable[[Path], bool] | None = None

    def words(self, folder: Path) -> list[str]:
        """Return what the command is told."""
        return [word.replace("{}", str(folder)) for word in self.command]

    def is_replaced(self, name: str) -> bool:
        """Return whether a file, named from the folder, may be replaced."""
        return any(name == known or name.startswith(f"{known}/") for known in self.replaced)


def _table(folder: Path, num: int = 60) -> None:
    generator = random.Random(0)
    texts = list(dict.fromkeys("".join(generator.choices(_LETTERS, k=6)) for _ in range(num)))
    write_table(folder / "data.csv", texts, [float(text.count("A")) for text in texts])


def _fit(folder: Path, call: Call) -> None:
    _table(folder)
    call([*(word.replace("{}", str(folder)) for word in _FIT), "--seed", "1"])


def _proxy(folder: Path) -> object:
    return fitted.load(folder / "proxy")


def _weights(folder: Path) -> Any:
    return json.loads((folder / "proxy" / "manifest.json").read_text(encoding="utf-8"))["weights_sha256"]


def _tune(folder: Path, call: Call) -> None:
    _table(folder)
    _encoder(folder / "encoder")


def _scorer(folder: Path) -> object:
    from narrows.tuning.scoring import TunedScorer, is_scorer

    return TunedScorer.load(folder / "scorer") if is_scorer(folder / "scorer") else None


def _is_tuned(folder: Path) -> bool:
    return (folder / "scorer" / "scorer.json").is_file() and not (folder / "scorer" / "training").exists()


def _run(folder: Path, call: Call) -> None:
    (folder / "job.toml").write_text(_JOB, encoding="utf-8")
    (folder / "score.py").write_text(_SCORE, encoding="utf-8")
    call(["run", f"{folder}/job.toml", "--out", f"{folder}/run"])
    call(["shortlist", f"{folder}/run"])


def _verified(folder: Path, call: Call) -> None:
    _run(folder, call)
    call(["verify", f"{folder}/run", "--score", f"{folder}/score.py:first", "--no-control"])


def _page(folder: Path) -> object:
    page = (folder / "run" / "report.html").read_text(encoding="utf-8")
    if not page.rstrip().endswith("</html>"):
        raise ValueError("the page has no end")
    return page


def _verdict(folder: Path) -> object:
    _page(folder)
    return json.loads((folder / "run" / "verification.json").read_text(encoding="utf-8"))


def _verification(folder: Path) -> Any:
    control = checkpoint.latest(folder / "run" / "control" / "checkpoints").path
    assert control is not None, "a finished verification has a control"
    with Archive.open(folder / "run" / "control" / "archive.sqlite", read_only=True) as archive:
        return _verdict(folder), checkpoint.read_manifest(control).arrays_sha256, archive.content_hash()


def _game(folder: Path, call: Call) -> None:
    # Its time is up after the first chunk, so that the command that is killed goes on from there.
    call(["games", "train", "tic_tac_toe", "--out", f"{folder}/player", "--steps", "60", "--minutes", "1e-6"])


def _player(folder: Path) -> object:
    from narrows.games.folder import load_player

    found = checkpoint.latest(folder / "player" / "checkpoints")
    if found.path is None or found.skipped:
        raise ValueError(f"no whole checkpoint: {found.skipped}")
    return load_player(folder / "player", "player")


def _trained(folder: Path) -> Any:
    found = [checkpoint.latest(folder / "player" / name) for name in ("checkpoints", "player")]
    return [checkpoint.read_manifest(place.path).arrays_sha256 for place in found if place.path is not None]


def _bytes(*names: str) -> Callable[[Path], Any]:
    return lambda folder: [hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names]


def _encoder(folder: Path) -> None:
    """Write an encoder of one narrow block that reads letters one by one."""
    import torch
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    vocabulary = {token: number for number, token in enumerate((*_SPECIAL, *_LETTERS))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    special = [(token, vocabulary[token]) for token in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=special)
    names = {"unk_token": "[UNK]", "pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"}
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=16, **names).save_pretrained(folder)
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=16,
        pad_token_id=0,
    )
    transformers.BertModel(config).save_pretrained(folder)


_LISTED = ("run/shortlist.csv", "run/shortlist.fasta", "run/shortlist.json")
_SCORER = ("scorer/member-0/model.safetensors", "scorer/tokenizer.json")

SCENES = {
    "fit": Scene(
        *(_FIT, _fit, ("proxy",), _proxy, _weights),
    ),
    "tune": Scene(
        ("tune", "{}/data.csv", "--encoder", "{}/encoder", "--out", "{}/scorer", "--epochs", "3", "--method", "bitfit"),
        *(_tune, (), _scorer, _bytes(*_SCORER), _is_tuned),
    ),
    "shortlist": Scene(("shortlist", "{}/run", "--k", "4"), _run, _LISTED, lambda folder: None, _bytes(*_LISTED)),
    "verify": Scene(
        ("verify", "{}/run", "--score", "{}/score.py:second"),
        *(_verified, ("run/verification.json", "run/report.html"), _verdict, _verification),
    ),
    "report": Scene(("report", "{}/run"), _verified, ("run/report.html",), _page, _bytes("run/report.html")),
    "games-train": Scene(
        ("games", "train", "tic_tac_toe", "--out", "{}/player", "--steps", "60"),
        *(_game, ("player/checkpoints", "player/player", "player/history.csv", "player/run.lock"), _player, _trained),
    ),
}
