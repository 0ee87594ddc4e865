"""Recipes that take no time, and trainings that never were, for what is asked of trained players."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
from benchmarks._games.training import Run

from narrows.games.folder import GameFolder
from narrows.games.players import NetworkPlayer
from narrows.games.recipe import Algorithm, Preset, preset
from narrows.policies import Scaled

TINY_PLAY = {"num_slots": 8, "games_per_round": 2, "num_rows": 32, "games_per_batch": 8, "capacity": 50, "initial_games": 4}


def tiny(game="tic_tac_toe", name: Preset = "cpu", algorithm: Algorithm = "aflownet", seed=0, **changes: Any):
    """A preset's recipe with a network that takes no time and, but for AlphaZero's, games that take none."""
    own = preset(game, name, algorithm, seed)
    play = own.self_play if algorithm == "alphazero" else TINY_PLAY
    network = {"name": "ResidualMLP", "hidden": 8, "blocks": 1}
    return replace(replace(own, network=network, self_play=play, num_steps=4, every=2), **changes)


def made_up_run(recipe, history):
    """A run with an untrained network and a history that nobody has lived through."""
    policy = Scaled(recipe.make_policy(jax.random.key(recipe.seed)), recipe.scale, recipe.scale)
    player = NetworkPlayer(recipe.env(), policy, "made up", scale=recipe.scale, acts=recipe.acts)
    return Run(recipe, player, GameFolder(Path("nowhere")), history, 0.0)


def lived(seconds, step=10, games=20, moves=30, rows=40, **looks):
    """A row of a history."""
    return {"seconds": seconds, "step": step, "games": games, "moves": moves, "rows": rows, **looks}


def without_training(patch, module, history):
    """Let a part ask for trainings and get made-up ones; return what it asks for."""
    asked = []

    def trained(path, recipe, *, seconds=None, looks=False, clock=time.perf_counter):
        asked.append((path, recipe, seconds, looks))
        return made_up_run(recipe, history)

    patch.setattr(module, "trained", trained)
    return asked
