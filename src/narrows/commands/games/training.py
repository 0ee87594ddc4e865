"""`narrows games train`: train a player by self-play, and continue a stopped run."""

import shlex
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import tyro
from tyro.conf import Positional

from narrows.games.exam import watch
from narrows.games.names import KNOWN
from narrows.games.recipe import Algorithm, Preset, preset
from narrows.runs.self_play import Trained
from narrows.runs.self_play import train as train_recipe
from narrows.sizes import Count, Seed


def train(
    game: Annotated[Positional[str], tyro.conf.arg(help=f"One of {KNOWN}.")],
    *,
    out: Path,
    preset_: Annotated[Preset, tyro.conf.arg(name="preset")] = "cpu",
    algorithm: Algorithm = "aflownet",
    seed: Seed = 0,
    minutes: float | None = None,
    steps: Count | None = None,
) -> Trained:
    """Train a player by self-play, from nothing but the rules. Ctrl-C stops and saves; the same command continues.

    Args:
        game: a name that `game_named` knows.
        out: folder of the run; one that holds the same run is continued, bit for bit.
        preset_: cpu for two cores, gpu for an accelerator, faithful for the authors' configuration.
        algorithm: aflownet, or alphazero to compare with.
        seed: of everything random.
        minutes: training time after which to stop and save, as Ctrl-C does; the same command continues.
        steps: length of the run in steps of the optimiser, in place of the preset's.
    """
    recipe = preset(game, preset_, algorithm, seed)
    if steps is not None:
        if steps < 1:
            raise ValueError(f"--steps must be at least 1, got {steps}.")
        recipe = replace(recipe, num_steps=steps)
    if minutes is not None and not minutes > 0.0:
        raise ValueError(f"--minutes must be positive, got {minutes}.")
    look = watch(recipe.env(), recipe.acts, recipe.scale)
    return train_recipe(out, recipe, seconds=None if minutes is None else 60.0 * minutes, watch=look)


def render(trained: Trained) -> str:
    """Return what the command prints when training has ended."""
    folder = shlex.quote(str(trained.folder.path))
    share = f", {trained.row['optimal']:.1%} of its moves optimal" if "optimal" in trained.row else ""
    if trained.is_finished:
        done = f"Trained {trained.step:,} steps in {trained.seconds:.0f} s{share}."
    else:
        done = f"Stopped at step {trained.step:,} of {trained.num_steps:,}, saved{share}. The same command continues."
    return f"{done} Play: narrows games play {folder}"
