"""The outcome of games as a reward, alone, tempered and in a job."""

import pytest

from narrows.config import JobError, build, explain, parse_job
from narrows.envs import ConnectFour, Hypergrid, TicTacToe
from narrows.rewards import GameResult, Tempered

ENDS = ["xxx/oo./...", "xxo/oox/xox", "xx./ooo/x.."]


def test_wins_draws_and_losses_of_the_first_player():
    env = TicTacToe()
    assert GameResult(env)(env.from_text(ENDS)).tolist() == [10.0, 0.0, -10.0]
    assert Tempered(GameResult(env, scale=0.5), 4.0)(env.from_text(ENDS)).tolist() == [2.0, 0.0, -2.0]
    env = ConnectFour(5, 4)
    ends = ["...../o..../oo.../xxxx.", "x..../x..../xx.../oooo.", "xoxox/xoxox/oxoxo/oxoxo"]
    assert GameResult(env, scale=3.0)(env.from_text(ends)).tolist() == [3.0, -3.0, 0.0]


@pytest.mark.parametrize("name", ["GameResult", "Outcome"])
def test_a_job_names_it_also_by_its_old_name(name, tmp_path):
    sections = {"env": {"name": "TicTacToe"}, "reward": {"name": name, "scale": 5.0}}
    sections["objective"] = {"name": "AdversarialTrajectoryBalance"}
    parts = build(parse_job(sections, tmp_path))
    assert parts.reward(parts.env.from_text(ENDS)).tolist() == [5.0, 0.0, -5.0]
    with pytest.raises(JobError, match=r"\[reward\] GameResult scores finished games of two players, got Hypergrid"):
        build(parse_job({**sections, "env": {"name": "Hypergrid"}}, tmp_path))


def test_refusals():
    with pytest.raises(ValueError, match="GameResult scores finished games of two players, got Hypergrid"):
        GameResult(Hypergrid(2, 4))
    for scale in (0.0, -1.0, float("inf"), float("nan")):
        with pytest.raises(ValueError, match=f"scale must be positive and finite, got {scale}"):
            GameResult(TicTacToe(), scale=scale)


def test_the_old_name_is_shown_to_nobody(tmp_path):
    assert "Outcome" not in [named.name for named in explain("reward")[0].names]
    with pytest.raises(JobError, match=r"unknown name 'Win'. Known: (?!.*Outcome)"):
        parse_job({"env": {"name": "TicTacToe"}, "reward": {"name": "Win"}}, tmp_path)
