"""The outcome of games as a reward, alone, tempered and in a job."""

import pytest

from narrows.config import JobError, build, parse_job
from narrows.envs import ConnectFour, Hypergrid, TicTacToe
from narrows.rewards import Outcome, Tempered

ENDS = ["xxx/oo./...", "xxo/oox/xox", "xx./ooo/x.."]


def test_wins_draws_and_losses_of_the_first_player():
    env = TicTacToe()
    assert Outcome(env)(env.from_text(ENDS)).tolist() == [10.0, 0.0, -10.0]
    assert Tempered(Outcome(env, scale=0.5), 4.0)(env.from_text(ENDS)).tolist() == [2.0, 0.0, -2.0]
    env = ConnectFour(5, 4)
    ends = ["...../o..../oo.../xxxx.", "x..../x..../xx.../oooo.", "xoxox/xoxox/oxoxo/oxoxo"]
    assert Outcome(env, scale=3.0)(env.from_text(ends)).tolist() == [3.0, -3.0, 0.0]


def test_a_job_names_it(tmp_path):
    sections = {"env": {"name": "TicTacToe"}, "reward": {"name": "Outcome", "scale": 5.0}}
    sections["objective"] = {"name": "AdversarialTrajectoryBalance"}
    parts = build(parse_job(sections, tmp_path))
    assert parts.reward(parts.env.from_text(ENDS)).tolist() == [5.0, 0.0, -5.0]
    with pytest.raises(JobError, match=r"\[reward\] Outcome scores finished games of two players, got Hypergrid"):
        build(parse_job({**sections, "env": {"name": "Hypergrid"}}, tmp_path))


def test_refusals():
    with pytest.raises(ValueError, match="Outcome scores finished games of two players, got Hypergrid"):
        Outcome(Hypergrid(2, 4))
    for scale in (0.0, -1.0, float("inf"), float("nan")):
        with pytest.raises(ValueError, match=f"scale must be positive and finite, got {scale}"):
            Outcome(TicTacToe(), scale=scale)
