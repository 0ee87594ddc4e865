"""Runs by self-play: presets, folders, stopping, continuing bit for bit, players out of folders, and mistakes in sentences."""

import dataclasses
import io
import json
import shutil
from importlib.resources import as_file, files

import jax
import numpy as np
import pytest
from rich.console import Console

from narrows.cli import main
from narrows.commands.games.training import render
from narrows.files import WriterLock
from narrows.games.exam import exam
from narrows.games.folder import GameFolder, load_player, save_player
from narrows.games.opponents import opponent
from narrows.games.players import NetworkPlayer
from narrows.games.recipe import Recipe, preset
from narrows.runs import read_rows
from narrows.runs.self_play import train
from narrows.storage import checkpoint

SMALL = {
    "num_slots": 16,
    "games_per_round": 8,
    "num_rows": 64,
    "games_per_batch": 12,
    "capacity": 200,
    "initial_games": 20,
    "max_random": 4,
}


def small(**changes) -> Recipe:
    recipe = preset("tic_tac_toe")
    network = {"name": "ResidualMLP", "hidden": 8, "blocks": 1}
    return dataclasses.replace(recipe, **{"network": network, "self_play": SMALL, "num_steps": 6, "every": 2} | changes)


def quiet():
    return Console(file=io.StringIO())


@pytest.fixture(scope="module", autouse=True)
def traced_once():
    """Trace the step of a recipe once for all of its trainings."""
    made, trainer = {}, Recipe.trainer

    def remembered(recipe):
        if (name := repr(recipe)) not in made:
            found = trainer(recipe)
            made[name] = found._replace(step=jax.jit(found.step))
        return made[name]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Recipe, "trainer", remembered)
        yield


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "whole"
    return path, train(path, small(), console=quiet())


def saved(path):
    found = checkpoint.latest(path / "checkpoints")
    assert found.path is not None
    return {file.name: file.read_bytes() for file in found.path.iterdir()}


def test_a_run_leaves_history_checkpoint_and_player(finished):
    path, trained = finished
    assert (trained.step, trained.is_finished, trained.exit_status) == (6, True, 0)
    rows = read_rows(path / "history.csv")
    assert [row["step"] for row in rows] == [2, 4, 6]
    assert all(row["loss"] > 0.0 and row["rows"] > 0 for row in rows)
    assert rows[-1]["games"] > 20
    assert "narrows games play" in render(trained)
    recipe, player = load_player(path, "name")
    assert recipe == small()
    states = jax.tree.map(lambda leaf: leaf[None], player.env.reset())
    advice = player.advise(states)
    assert np.exp(advice.log_policy).sum() == pytest.approx(1.0, abs=1e-5)
    assert player.choose(states, np.random.default_rng(0))[0] in range(9)


def test_a_player_in_half_the_bits_plays_on_in_all_of_them(finished, tmp_path):
    recipe, player = load_player(finished[0], "whole")
    save_player(tmp_path / "half", player.policy, recipe, 6, is_halved=True)
    again, half = load_player(tmp_path / "half", "half")
    assert again == recipe
    for before, after in zip(jax.tree.leaves(player.policy), jax.tree.leaves(half.policy), strict=True):
        assert before.dtype == after.dtype
        np.testing.assert_allclose(after, before, rtol=1e-3, atol=1e-7)
    save_player(tmp_path / "all", player.policy, recipe, 6)
    sizes = [sum(file.stat().st_size for file in (tmp_path / name).rglob("*.safetensors")) for name in ("half", "all")]
    assert sizes[0] < 0.7 * sizes[1]


LARGER = pytest.mark.slow("solves many positions; tic-tac-toe has the same exam, and files of players are read alike")


# Somewhat below what each was measured to reach on all positions.
@pytest.mark.parametrize(
    ("name", "outcome", "strict"),
    [
        ("tic_tac_toe", 0.99, 0.9),
        pytest.param("connect4-4x4", 0.99, 0.9, marks=LARGER),
        pytest.param("connect4", 0.89, 0.8, marks=LARGER),
    ],
)
def test_the_players_that_come_with_narrows_play_well(name, outcome, strict):
    env, player = opponent(name)
    assert isinstance(player, NetworkPlayer)
    questions = exam(env, num=4000, seed=1)
    share = questions.grade(np.argmax(player.advise(questions.states).log_policy, axis=1)).overall
    assert share.outcome >= outcome and share.strict >= strict, share
    with as_file(files("narrows.games") / "data" / "players" / name) as folder:
        assert sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) < 2**20


def test_a_stopped_run_continues_bit_for_bit(finished, tmp_path):
    path = tmp_path / "parts"
    stopped = train(path, small(), seconds=1e-9, console=quiet())
    assert (stopped.step, stopped.is_finished, stopped.exit_status) == (2, False, 0)
    assert "same command continues" in render(stopped)
    assert train(path, small(), console=quiet()).is_finished
    assert saved(path) == saved(finished[0])
    assert [row["step"] for row in read_rows(path / "history.csv")] == [2, 4, 6]


@pytest.mark.slow("trains; tests/test_checkpoint.py passes over damaged ones")
def test_a_damaged_checkpoint_is_passed_over_and_said_so(finished, tmp_path):
    path = tmp_path / "damaged"
    shutil.copytree(finished[0], path)
    newest = checkpoint.latest(path / "checkpoints").path
    assert newest is not None
    (newest / "arrays.safetensors").write_bytes(b"nothing")
    said = io.StringIO()
    assert train(path, small(), console=Console(file=said)).is_finished
    assert "does not verify" in said.getvalue()


def test_another_recipe_in_the_same_folder_is_refused(finished):
    with pytest.raises(ValueError, match=r"another recipe: seed \(there 0, now 3\)"):
        train(finished[0], small(seed=3), console=quiet())


def test_a_second_run_in_the_same_folder_waits_its_turn(finished, tmp_path):
    shutil.copytree(finished[0], tmp_path / "run")
    before = saved(tmp_path / "run")
    with (
        WriterLock.acquire(tmp_path / "run" / "run.lock", "the run"),
        pytest.raises(OSError, match="is being written by process"),
    ):
        train(tmp_path / "run", small(), console=quiet())
    assert saved(tmp_path / "run") == before


def test_only_who_was_asked_to_stop_ends_like_an_interrupted_command(finished):
    whole = finished[1]
    part = dataclasses.replace(whole, step=2)
    assert (part.exit_status, dataclasses.replace(part, was_interrupted=True).exit_status) == (0, 130)
    assert dataclasses.replace(whole, was_interrupted=True).exit_status == 0


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(ValueError, match="exists and is no run"):
        train(tmp_path, small(), console=quiet())
    assert [file.name for file in tmp_path.iterdir()] == ["letter.txt"]
    with pytest.raises(ValueError, match="no recipe.json"):
        GameFolder.open(tmp_path)
    with pytest.raises(ValueError, match="has no player yet"):
        load_player(tmp_path, "name")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content["recipe"].pop("loss"), "expected a recipe with the fields"),
        (lambda content: content["recipe"].update(num_steps="many"), "num_steps must be a int"),
        (lambda content: content["recipe"].update(algorithm="magic"), "algorithm must be one of"),
        (lambda content: content.update(format_version=9), "expected format 1, got 9"),
    ],
)
def test_a_damaged_recipe_is_named(finished, tmp_path, change, message):
    folder = GameFolder(tmp_path / "run")
    shutil.copytree(finished[0], folder.path)
    content = json.loads(folder.recipe_file.read_text())
    del content["checksum"]  # as of a folder that was made so
    change(content)
    folder.recipe_file.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message):
        folder.recipe()
    folder.recipe_file.write_text("{")
    with pytest.raises(ValueError, match="not JSON"):
        folder.recipe()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"network": {"name": "Oracle"}}, "unknown name 'Oracle'"),
        ({"network": {"name": "ResidualMLP", "depth": 3}}, "ResidualMLP"),
        ({"loss": {"name": "TrajectoryBalance"}}, "unknown name 'TrajectoryBalance'"),
        ({"self_play": {"slots": 3}}, "self_play"),
        ({"game": "chess4"}, "there is no game 'chess4'"),
    ],
)
def test_a_recipe_that_names_what_is_not_there_is_refused(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        train(tmp_path / "run", small(**changes), console=quiet())
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("game", ["tic_tac_toe", "connect4", "connect4-5x4"])
@pytest.mark.parametrize("name", ["cpu", "gpu", "faithful"])
def test_every_preset_builds(game, name):
    recipe = preset(game, name)
    trainer = recipe.trainer()
    assert Recipe.from_data(recipe.as_data(), "here") == recipe
    jax.eval_shape(recipe.make_policy, jax.random.key(0))
    assert trainer.step is not None


def test_the_authors_network_has_as_many_parameters_as_published():
    # 2,984,654 without the value heads: trunk 2,957,568 and two policy heads of 13,543 (eflow 5.1).
    shape = jax.eval_shape(preset("connect4", "faithful").make_policy, jax.random.key(0))
    leaves = jax.tree_util.tree_leaves_with_path(shape)
    assert sum(leaf.size for path, leaf in leaves if ".flow" not in jax.tree_util.keystr(path)) == 2_984_654


def test_names_of_players(finished):
    env, player = opponent(str(finished[0]))
    assert (type(env).__name__, player.name) == ("TicTacToe", "whole")
    assert opponent("random:tic_tac_toe")[1].name == "random"
    assert opponent("tactic", env)[0] is env
    with pytest.raises(ValueError, match=r"there is no player 'nobody'.*random"):
        opponent("nobody")


def test_mistakes_on_the_command_line_are_sentences(tmp_path, capsys):
    out = ["--out", str(tmp_path / "run")]
    for words, message in (
        (["train", "chess4", *out], "there is no game 'chess4'"),
        (["train", "tic_tac_toe", *out, "--steps", "0"], "--steps must be at least 1"),
        (["train", "tic_tac_toe", *out, "--minutes", "-1"], "--minutes must be positive"),
        (["train", "connect4-3x3", *out], "at least 4 columns"),
    ):
        assert main(["games", *words]) == 1
        assert message in capsys.readouterr().err
    assert main(["games", "nonsense"]) == 2
    assert "there is no command 'nonsense'" in capsys.readouterr().err
    assert main(["games"]) == 2
    assert "tournament" in capsys.readouterr().out
    assert not (tmp_path / "run").exists()
