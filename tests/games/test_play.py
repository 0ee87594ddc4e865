"""A person who plays in a terminal, and the command that brings them to a table."""

import io
import os
import signal
import subprocess
import sys
import types
import urllib.request

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console
from tests.games import tables
from tests.games.heap import OneHeap
from tests.games.tables import Leftmost

from narrows.commands.games import playing
from narrows.games.names import game_named
from narrows.games.players import NetworkPlayer, TacticPlayer
from narrows.games.session import Table
from narrows.games.terminal import play_in_terminal
from narrows.games.verdicts import perfect_judge


def scripted(table, lines, side=0, seconds=10.0, is_terminal=False):
    """Play with lines typed beforehand; an exception among them is raised where it stands. Return the tally and the output."""
    output = io.StringIO()
    console = Console(file=output, force_terminal=is_terminal, width=100, highlight=False, color_system="256")
    rest = iter(lines)

    def read(prompt):
        line = next(rest, EOFError())
        output.write(f"{prompt}{line}\n")
        if isinstance(line, BaseException):
            raise line
        return line

    generator = np.random.default_rng(0)
    tally = play_in_terminal(table, side, console=console, read=read, generator=generator, seconds=seconds)
    return tally, output.getvalue()


@pytest.fixture(scope="module")
def network():
    return tables.network("connect4-5x4")


def test_a_game_without_lines_is_played_as_well():
    env = OneHeap()
    tally, output = scripted(Table(env, Leftmost(env)), ["two", "solve", "three", "one", "quit"])
    assert (tally.wins, tally.draws, tally.losses) == (0, 0, 1)  # 5 - 2 - 1 - 1 leaves the last one to leftmost
    assert "there is no solver for this game" in output and "'three' is not a move" in output and "leftmost wins." in output


def test_a_game_in_the_terminal_from_the_first_move_to_the_last():
    env = game_named("connect4-4x4")
    tally, output = scripted(Table(env, Leftmost(env)), ["2", "2", "2", "2", "QUIT"])
    # leftmost fills column 1 with four of its own, unless somebody stops it: nobody does, but the first player is faster.
    assert (tally.wins, tally.draws, tally.losses) == (1, 0, 0)
    assert tally.last.moves == ("2", "1", "2", "1", "2", "1", "2")
    board = "  . X . .\n  o X . .\n  o X . .\n  o X . .\n  1 2 3 4\n"
    assert board in output and output.count("leftmost plays 1.") == 3 and "You win." in output
    assert playing.render(tally) == "1 game: 1 won, 0 drawn, 0 lost."
    assert "\x1b" not in output


def test_mistakes_are_explained_and_the_game_goes_on():
    env = game_named("connect4-4x4")
    lines = ["", "9", "[red]x[/]", "1", "1", "1", "hint", "solve", "undo", "undo", "undo", "4", "help"]
    tally, output = scripted(Table(env, Leftmost(env)), lines)
    assert "Type a move, or 'help'." in output
    assert "'9' is not a move. Expected one of 1, 2, 3, 4." in output
    assert "'[red]x[/]' is not a move." in output, "what is typed is no markup"
    assert "1 cannot be played now: column 1 is full. Legal: 2, 3, 4." in output
    assert "There is no network to ask: leftmost is none." in output
    assert "There is no move of yours to take back." in output
    assert "take your last move back" in output
    assert tally.last.moves == ("4", "1")
    assert playing.render(tally) == "No game was finished."


def test_the_second_side_a_new_game_and_the_end_of_input():
    env = game_named("tic_tac_toe")
    # leftmost: 1, 2, 3 unless taken; the person blocks once and then lets it win, then undoes, and begins anew.
    lines = ["5", "9", "undo", "3", "u", "9", "n", "9", "8", "Q"]
    tally, output = scripted(Table(env, Leftmost(env)), lines, side=1)
    assert (tally.wins, tally.draws, tally.losses) == (0, 0, 2), "a game that was taken back does not count"
    assert output.startswith("You play second with o, leftmost plays with x.")
    assert "  x 2 3\n  4 5 6\n  7 8 9\n" in output
    for end in (EOFError(), KeyboardInterrupt()):
        assert scripted(Table(env, Leftmost(env)), ["5", end])[0].last.moves == ("5", "1")


def test_a_hint_shows_the_policy_and_the_value(network):
    env = network.env
    tally, output = scripted(Table(env, network, network), ["3", "hint", "quit"])
    states = jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], tally.last.state)
    advice = network.advise(states)
    shares = np.exp(advice.log_policy[0])
    lines = output[output.index("What the network") :].splitlines()
    assert f"It expects {advice.value[0]:+.2f} for you" in lines[0]
    assert abs(advice.value[0]) > 0.005
    assert [line.split()[:2] for line in lines[1:6]] == [
        [env.action_names[action], f"{shares[action]:.0%}"] for action in np.argsort(-shares)
    ]
    bars = [line.count("#") for line in lines[1:6]]
    assert bars == [round(24 * share) for share in sorted(shares, reverse=True)]


def test_a_terminal_gets_colours_round_stones_and_a_marked_line():
    env = game_named("connect4-4x4")
    _, output = scripted(Table(env, Leftmost(env)), ["2", "2", "2", "2"], is_terminal=True)
    assert "●" in output and "○" in output and "\x1b[" in output and "7;" in output, "reverse video marks the winning line"


def test_the_solver_speaks_in_the_terminal():
    env = game_named("tic_tac_toe")
    _, output = scripted(Table(env, Leftmost(env), judge=perfect_judge(env)), ["5", "solve"])
    # A corner is the right answer to the centre: nothing loses and nothing wins.
    assert [line for line in output.splitlines() if line.endswith("*")] == [f"  {name}  draw  *" for name in "2346789"]


def test_a_network_is_seated_with_its_temperature_and_gives_hints_without(network):
    table = playing.seated(network.env, network, 0.7)
    assert isinstance(table.opponent, NetworkPlayer) and table.opponent.temperature == 0.7
    assert table.opponent.name == "my run" and table.adviser is table.opponent and table.judge is not None
    other = playing.seated(network.env, TacticPlayer(network.env), 0.0)
    assert other.adviser is None
    with pytest.raises(ValueError, match="temperature is for networks, and tactic is none"):
        playing.seated(network.env, TacticPlayer(network.env), 1.0)
    env = OneHeap()
    assert playing.seated(env, Leftmost(env), 0.0).judge is None


def test_the_command_plays_against_whom_the_name_means(monkeypatch, capsys):
    env = game_named("connect4-4x4")
    monkeypatch.setitem(
        sys.modules, "narrows.games.opponents", types.SimpleNamespace(opponent=lambda name: (env, Leftmost(env)))
    )
    lines = iter(["2", "2", "2", "2", "quit"])
    monkeypatch.setattr("builtins.input", lambda *prompt: next(lines))
    tally = playing.play("leftmost")
    assert tally is not None and tally.wins == 1
    assert "leftmost plays 1." in capsys.readouterr().out
    with pytest.raises(ValueError, match="--port is the page's"):
        playing.play("leftmost", port=8000)


def test_ctrl_c_closes_the_page_and_nothing_ugly_is_printed():
    script = (
        # A shell starts what runs in its background with SIGINT ignored, and the suite may run there.
        "import signal\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from narrows.commands.games.playing import serve, render\n"
        "from narrows.games.names import game_named\n"
        "from narrows.games.players import UniformPlayer\n"
        "from narrows.games.session import Table\n"
        "env = game_named('tic_tac_toe')\n"
        "serve(Table(env, UniformPlayer(env)), 1, open_browser=False)\n"
        "print(render(None))\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ
    )
    try:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(5)]
        url = lines[2].strip()
        assert lines[0] == "Play against random at\n" and url.startswith("http://127.0.0.1:")
        with urllib.request.urlopen(url, timeout=10) as answer:
            assert b'data-side="second"' in answer.read()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
    finally:
        process.kill()
    assert (process.returncode, err) == (0, "")
    assert out.endswith("The board is closed.\n") and "token" not in out
