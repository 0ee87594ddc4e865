"""The folder of a run by self-play, and players out of it. Opening one runs no code."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from narrows.files import new_folder, parse_content, read_text, record_text, refuse_special_within, write_atomically
from narrows.games.players import NetworkPlayer
from narrows.games.recipe import Recipe
from narrows.policies.base import AbstractPolicy, Scaled
from narrows.printing import quote
from narrows.storage import checkpoint

FORMAT_VERSION = 1
_HALVED = "is_halved"


@dataclass(frozen=True)
class GameFolder:
    """The paths of one run by self-play: `recipe.json`, `history.csv`, `checkpoints/` and the `player/` it has come to."""

    path: Path

    @property
    def recipe_file(self) -> Path:
        return self.path / "recipe.json"

    @property
    def history(self) -> Path:
        return self.path / "history.csv"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def player(self) -> Path:
        return self.path / "player"

    @classmethod
    def create(cls, path: Path, recipe: Recipe) -> "GameFolder":
        """Make a run folder, whole or not at all; ValueError if something is there already."""
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise ValueError(f"{path} exists and is no run of this game. Name another folder with --out.")
        with new_folder(path) as draft:
            content = {"format_version": FORMAT_VERSION, "recipe": recipe.as_data()}
            write_atomically(draft / "recipe.json", record_text(content, indent=1))
        return cls(path)

    @classmethod
    def open(cls, path: Path) -> "GameFolder":
        """Return the run folder at a path; ValueError if there is none, or if anything in it is no plain file."""
        folder = cls(path)
        refuse_special_within(path)
        if not folder.recipe_file.is_file():
            raise ValueError(
                f"{path} is no run of a game: it has no recipe.json. `narrows games train GAME --out {path}` makes one."
            )
        return folder

    def recipe(self) -> Recipe:
        """Return what the run is made of; ValueError naming the file and what is wrong."""
        place = str(self.recipe_file)
        content = parse_content(read_text(self.recipe_file), place, "Restore the file from a copy of the run.")
        version = content.get("format_version")
        if version != FORMAT_VERSION:
            raise ValueError(f"{place}: expected format {FORMAT_VERSION}, got {quote(version)}. Use the release that made it.")
        return Recipe.from_data(content.get("recipe"), place)


def save_player(path: Path, policy: AbstractPolicy, recipe: Recipe, step: int, *, is_halved: bool = False) -> None:
    """Write a network and what it is made of into a folder of its own, two files: safetensors and a manifest.

    Args:
        is_halved: keep its numbers in 16 bits, for a player that is to be passed on; it plays in 32 bits again.
    """
    metadata = {"recipe": _replaced(recipe.as_data(), float("inf"), "inf")} | ({_HALVED: True} if is_halved else {})
    checkpoint.save(path, _cast(policy, jnp.float16) if is_halved else policy, step=step, metadata=metadata, keep=1)


def load_player(path: Path, name: str, *, temperature: float = 0.0) -> tuple[Recipe, NetworkPlayer]:
    """Return the player in a folder that `save_player` wrote, or in a run folder.

    Raises ValueError if there is none, or it is damaged.
    """
    folder = GameFolder(path)
    refuse_special_within(path)
    place = folder.player if folder.recipe_file.is_file() else path
    found = checkpoint.latest(place)
    if found.path is None:
        reason = f" {'; '.join(found.skipped)}." if found.skipped else ""
        raise ValueError(f"{path} has no player yet: no whole network is in {place}.{reason} Train it a little first.")
    manifest = checkpoint.read_manifest(found.path)
    recipe = Recipe.from_data(_replaced(manifest.metadata.get("recipe"), "inf", float("inf")), str(found.path))
    is_halved = bool(manifest.metadata.get(_HALVED))

    def fresh() -> AbstractPolicy:
        policy = Scaled(recipe.make_policy(jax.random.key(0)), recipe.scale, recipe.scale)
        return _cast(policy, jnp.float16 if is_halved else jnp.float32)

    policy, _ = checkpoint.restore(found.path, eqx.filter_eval_shape(fresh))
    policy = _cast(policy, jnp.float32)
    return recipe, NetworkPlayer(recipe.env(), policy, name, scale=recipe.scale, temperature=temperature, acts=recipe.acts)


def _cast(policy: AbstractPolicy, dtype: Any) -> AbstractPolicy:
    """Return a policy with its floating-point arrays in another precision."""
    return jax.tree.map(lambda leaf: leaf.astype(dtype) if eqx.is_inexact_array(leaf) else leaf, policy)


def _replaced(data: Any, old: object, new: object) -> Any:
    """Return data with one value in place of another: JSON holds no infinite numbers, but their names."""
    if isinstance(data, dict):
        return {name: _replaced(value, old, new) for name, value in data.items()}
    return new if data == old else data
