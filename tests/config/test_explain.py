"""What a job may say: every section, name and field is explained, as it is checked and built; the page is up to date."""

from pathlib import Path

import pytest
from benchmarks.harness import job_page

from narrows.commands.listing import list_names, render
from narrows.config import SECTIONS, JobError, explain, explain_job, parse_job
from narrows.config.names import NAMES, OLD_NAMES, SCORE

EVERY = [entry for top in explain_job() for entry in top.walk()]
FOLDER = Path()
SMALL = {"env": {"name": "TicTacToe"}, "reward": {"name": "GameResult"}}


def test_everything_has_a_line():
    assert len(EVERY) > 150
    for entry in EVERY:
        assert len(entry.line) > 5, f"the docstring says nothing of {entry.path}: add it to its Args"
        assert not entry.line.startswith("as for"), "the line of another class stands in its place"
        assert entry.what != "field" or (entry.takes and entry.default)


def test_nothing_is_missing():
    assert {entry.path for entry in explain_job()} == {"name", "seed", *SECTIONS}
    for section, names in NAMES.items():
        known = {named.name for named in explain(section)[0].names}
        assert known == {*names} - {*OLD_NAMES} | ({SCORE} if section == "reward" else set())


@pytest.mark.parametrize("section", [section for section in SECTIONS if section not in NAMES])
def test_the_fields_are_those_that_a_job_is_checked_for(section):
    data = {"data": {"path": "t.csv", "space": "rna"}}
    for field in explain(section)[0].fields:
        table = {**data.get(section, {}), field.name: [{}]}
        with pytest.raises(JobError, match=rf"^\[{section}\] {field.name}(\.0)?(:| must be) .*got \[?{{}}"):
            parse_job({**SMALL, **data, section: table}, FOLDER)
    with pytest.raises(JobError, match=rf"unknown fields \['fog'\]. .*; `narrows list {section}` explains them"):
        parse_job({**SMALL, **data, section: {"fog": 1}}, FOLDER)


@pytest.mark.parametrize("path", ["policy.MLP", "objective.TrajectoryBalance", "noise.Substitution"])
def test_the_fields_of_a_name_are_those_that_a_job_is_checked_for(path):
    section, name = path.split(".")
    fields = explain(path)[0].fields
    with pytest.raises(JobError) as refused:
        parse_job({**SMALL, section: {"name": name, **{field.name: [] for field in fields}}}, FOLDER)
    assert all(f"{field.name}: " in str(refused.value) for field in fields)
    with pytest.raises(JobError, match=rf"`narrows list {section}\.{name}` explains them"):
        parse_job({**SMALL, section: {"name": name, "fog": 1}}, FOLDER)


def test_what_is_asked_for_is_found_by_its_path_or_the_end_of_it():
    assert explain("env.Sequence.max_length") == explain("Sequence.max_length") == explain("max_length")
    assert explain("Proxy") == explain("reward.Proxy")
    assert explain("reward.Proxy.beta") == explain("reward.beta") == explain("beta")
    assert {entry.path for entry in explain("kappa")} == {"reward.Proxy.kappa", "reward.Score.kappa", "shortlist.kappa"}
    assert explain("optimizer.surrogate.inner_steps")[0].default == "5"


def test_a_line_that_two_share_stands_with_both():
    own, other = explain("objective.TrajectoryGeneralMellowmax.omega")[0], explain("objective.SubTrajectoryBalance.omega")[0]
    assert other.line.startswith(own.line.rstrip("."))
    assert explain("policy.FaithfulTransformer.width")[0].line == explain("policy.Transformer.width")[0].line


def test_what_a_field_takes_is_in_words():
    assert explain("data.score_sense")[0].takes == '"higher" or "lower"'
    assert explain("reward.Proxy.trust")[0].takes == '"mean", "lower_bound" or "ensemble_min"'
    assert (explain("train.batch_size")[0].takes, explain("train.batch_size")[0].default) == ("integer", "64")
    assert (explain("data.path")[0].default, explain("train.epochs")[0].default) == ("required", "none")
    assert (explain("policy.learned_backward")[0].takes, explain("policy.name")[0].default) == ("true or false", '"MLP"')


@pytest.mark.parametrize(
    ("asked", "nearest"),
    [("Hypergird", "env.Hypergrid"), ("trian.num_steps", "train.num_steps"), ("mindistance", "shortlist.min_distance")],
)
def test_what_is_not_there_names_the_nearest(asked, nearest):
    with pytest.raises(ValueError, match=rf"nothing in a job is called '{asked}'\. Nearest: {nearest}"):
        explain(asked)


def test_the_listing_fits_the_terminal(monkeypatch):
    for columns in ("60", "100"):
        monkeypatch.setenv("COLUMNS", columns)
        for asked in (None, *SECTIONS, "policy.Transformer"):
            lines = render(list_names(asked)).splitlines()
            assert max(map(len, lines)) <= int(columns)


def test_the_page_is_up_to_date():
    assert job_page.PATH.read_text(encoding="utf-8") == job_page.page(), "run: make docs-results"
