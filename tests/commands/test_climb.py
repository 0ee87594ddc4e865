"""A list exists before a sampler has learned anything: a hill climb from the best measured rows, as a user meets it."""

import itertools
import re
from dataclasses import replace
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

from narrows.cli import main
from narrows.commands.training import render
from narrows.config import JobError, load_job
from narrows.config.names import NAMES
from narrows.data import write_table
from narrows.proxies import AbstractProxy
from narrows.proxies.near import Neighbourhood
from narrows.proxies.quality import WORTHLESS
from narrows.rewards import AbstractReward
from narrows.runs import OpenRun, RunFolder, execute, rehearse
from narrows.runs import opened as opened_runs
from narrows.runs.candidates import load_candidates
from narrows.runs.opened import CLIMB, EVOLUTION
from narrows.selection import read_csv
from narrows.storage.archive import Archive

MEASURED = {"AAAA": 0.5, "ACAA": 1.0, "CAAC": 2.0, "AAAAA": 9.0, "GGAA": 0.1}
JOB = """
[data]
path = "table.csv"
space = "letters:ACG"
[env]
name = "Sequence"
alphabet = "ACG"
min_length = 4
max_length = 4
[reward]
name = "Cautious"
caution = 0.25
beta = 3.0
[policy]
name = "Tabular"
[objective]
name = "{objective}"
[train]
num_steps = 2
batch_size = 8
every = 2
checkpoint_every = 2
[shortlist]
k = 2
min_distance = 2
"""
NEAR = "[near]\npenalty = 0.4\nlimit = 2\n"
NOISE = '[noise]\nname = "Substitution"\nrate = 0.1\n'


class Cautious(AbstractProxy):
    """Counts C, with an offset, is unsure of G, and takes off a share of that."""

    caution: float
    offset: float

    def __init__(self, env, caution: float = 0.0, offset: float = 1000.0) -> None:
        self.caution, self.offset = caution, offset

    def __call__(self, states):
        num_c, num_g = (jnp.sum(states.tokens == token, axis=-1) for token in (1, 2))
        return self.offset + num_c + 0.0625 * num_g - self.caution * num_g

    @property
    def reference(self):
        return self.offset

    def centred(self):
        return Cautious(None, self.caution, 0.0)

    def predict(self, objects):
        num_g = np.array([text.count("G") for text in objects], float)
        return 1000.0 + np.array([text.count("C") for text in objects]) + 0.0625 * num_g, num_g

    def predicted_mean(self):
        return Cautious(None)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Makes the folder of a run that has not begun."""
    monkeypatch.setitem(NAMES["reward"], "Cautious", Cautious)  # pyright: ignore[reportArgumentType]
    write_table(tmp_path / "table.csv", list(MEASURED), np.array([*MEASURED.values()]))

    def make(name="run", more="", objective="TrajectoryBalance", overrides=None):
        (tmp_path / f"{name}.toml").write_text(JOB.format(objective=objective) + more, encoding="utf-8")
        return RunFolder.create(tmp_path / name, load_job(tmp_path / f"{name}.toml", overrides), {})

    return make


@pytest.fixture
def unlisted(monkeypatch):
    """Takes every space for one that is too large to be listed."""
    monkeypatch.setattr(opened_runs, "_MOST_LISTED", 0)


def test_a_space_that_can_be_listed_is_listed(folder, capsys):
    run = folder()
    assert main(["shortlist", str(run.path)]) == 0
    output = " ".join(capsys.readouterr().out.split())
    assert "81 of the candidates are from a list of all objects there are" in output
    scored = load_candidates([OpenRun(run)])
    assert sorted(scored.candidates.objects) == sorted("".join(word) for word in itertools.product("ACG", repeat=4))
    assert [row.sequence for row in read_csv(run.shortlist)][0] == "CCCC"


def test_rows_of_a_proxy_that_is_no_better_than_the_mean_say_so(folder, monkeypatch):
    run = folder()
    monkeypatch.setattr("narrows.runs.shortlists.quality_of_proxy", lambda job: SimpleNamespace(beats_mean=False))
    assert main(["shortlist", str(run.path)]) == 0
    assert {row.caution for row in read_csv(run.shortlist)} == {WORTHLESS}


def test_a_run_of_no_steps_trains_nothing_and_ranks_by_the_exact_solution(folder, capsys):
    run = folder(overrides={"train.num_steps": 0})
    result = execute(run, console=Console(quiet=True))
    assert result.is_finished and result.is_listed and not list(run.path.glob("checkpoints/*"))
    assert "Nothing to train" in render(result) and "all objects there are" in render(result)
    for name in ("shortlist", "resume", "report"):
        assert main([name, str(run.path)]) == 0
    opened = OpenRun(run)
    assert opened.missing_model is None
    # By trajectory balance an object has the share exp(beta score) of all, worked out by hand.
    objects, reward = "AAAA ACGA GGGG CCCC".split(), opened.parts.reward
    assert opened.listed is not None and isinstance(reward, AbstractReward)
    everything = reward.in_double(opened.env.from_text(opened.listed.objects))
    log_reward = reward.in_double(opened.env.from_text(objects))
    np.testing.assert_allclose(opened.log_likelihoods(objects), log_reward - np.logaddexp.reduce(everything), atol=1e-6)
    assert main(["shortlist", str(run.path), "--by", "sampler"]) == 0
    assert read_csv(run.shortlist)[0].sequence == "CCCC"
    assert main(["worst", str(run.path)]) == 1 and "trains nothing" in capsys.readouterr().err
    capsys.readouterr()


def test_a_run_of_no_steps_needs_something_to_search(tmp_path):
    path = tmp_path / "job.toml"
    path.write_text(
        '[env]\nname = "BitSequence"\nnum_bits = 8\n[reward]\nname = "BitModes"\n[train]\nnum_steps = 0\n', encoding="utf-8"
    )
    with pytest.raises(JobError, match="trains nothing"):
        rehearse(load_job(path))


def test_there_is_a_list_before_the_first_step(folder, capsys, unlisted):
    run = folder()
    assert main(["shortlist", str(run.path)]) == 0
    output = " ".join(capsys.readouterr().out.split())
    rows = read_csv(run.shortlist)
    assert rows[0].sequence == "CCCC" and len(rows) == 2
    assert {row.run for row in rows} <= {CLIMB, EVOLUTION}
    assert {row.step for row in rows} == {None}
    number = re.search(rf"([\d,]+) of the candidates are from a {CLIMB} or a {EVOLUTION}", output)
    assert number is not None and int(number[1]) == len(load_candidates([OpenRun(run)]).candidates.objects)


def test_what_is_climbed_joins_what_the_sampler_saw_and_leaves_the_archive_alone(folder, unlisted):
    run = folder()
    execute(run, console=Console(quiet=True))
    with Archive.open(run.archive, read_only=True) as archive:
        seen = archive.entries()
    opened = OpenRun(run)
    scored = load_candidates([opened])
    assert opened.climbed is not None and opened.proxy is not None
    found = scored.candidates
    where = {name: found.runs[run].name for name, run in zip(found.objects, found.run_index, strict=True)}
    assert {name for name, run in where.items() if run not in (CLIMB, EVOLUTION)} == {*seen.objects}
    assert opened.evolved is not None
    assert {*where} == {*seen.objects, *opened.climbed.objects, *opened.evolved.objects}
    assert scored.searched == f"{len({*where} - {*seen.objects})} of the candidates are from a {CLIMB} or a {EVOLUTION}"
    assert scored.candidates.steps[[run in (CLIMB, EVOLUTION) for run in where.values()]].max() == -1
    np.testing.assert_array_equal(scored.mean, opened.proxy.predict(scored.candidates.objects)[0])
    with Archive.open(run.archive, read_only=True) as archive:
        assert archive.entries().objects == seen.objects
    assert load_candidates([OpenRun(run)]).candidates.objects == scored.candidates.objects


def counted_slowly(text, near):
    num_c, num_g = text.count("C"), text.count("G")
    score = 1000.0 + num_c + 0.0625 * num_g - 0.25 * num_g
    if not near:
        return score
    table = Neighbourhood(tuple(MEASURED), np.array([*MEASURED.values()]), 0.4, 2)
    return float(table.lowered(score, np.array(min(table.edits([text])))))


@pytest.mark.parametrize("near", ["", NEAR])
def test_the_climb_goes_by_the_score_as_it_guides_the_run_from_rows_that_the_run_may_build(folder, near):
    opened = OpenRun(folder(more=near))
    texts = ["".join(word) for word in itertools.product("ACG", repeat=4)]
    np.testing.assert_allclose(opened.counted(texts), [counted_slowly(text, near) for text in texts], atol=1e-4)
    problem, climbed = opened.problem, opened.climbed
    assert problem is not None and climbed is not None
    assert problem.starts == ("CAAC", "ACAA", "AAAA", "GGAA"), "the best scored first, without the one of five letters"
    np.testing.assert_allclose(climbed.scores, opened.counted(climbed.objects), atol=0)
    assert max(climbed.scores) == pytest.approx(max(counted_slowly(text, near) for text in texts))


def test_under_noise_it_climbs_by_what_is_asked_for(folder):
    quiet, noisy = OpenRun(folder()), OpenRun(folder("noisy", NOISE, "ExpectedDetailedBalance"))
    assert quiet.climbed is not None and noisy.climbed is not None
    assert noisy.climbed.objects == quiet.climbed.objects
    np.testing.assert_array_equal(noisy.climbed.scores, quiet.climbed.scores)


def test_a_run_without_a_proxy_or_measurements_has_no_climb(folder, tmp_path):
    write_table(tmp_path / "landscape.csv", ["A", "C"], np.array([0.0, 1.0]))
    (tmp_path / "known.toml").write_text(
        '[env]\nname = "Sequence"\nalphabet = "AC"\nmin_length = 1\nmax_length = 1\n'
        '[reward]\nname = "Landscape"\npath = "landscape.csv"\n',
        encoding="utf-8",
    )
    assert OpenRun(RunFolder(tmp_path), job=load_job(tmp_path / "known.toml")).climbed is None
    job = replace(folder().job(), data=None)
    assert OpenRun(RunFolder(tmp_path), job=job).climbed is None


def test_verify_and_the_page_show_plain_searches_of_the_same_proxy(folder, tmp_path, capsys):
    run = folder(more=NEAR)
    execute(run, console=Console(quiet=True))
    (tmp_path / "true.py").write_text("def score(texts):\n    return [text.count('C') for text in texts]\n", encoding="utf-8")
    assert main(["shortlist", str(run.path), "--by", "mean"]) == 0
    assert main(["verify", str(run.path), "--score", f"{tmp_path / 'true.py'}:score", "--no-control"]) == 0
    output, page = capsys.readouterr().out, run.report.read_text(encoding="utf-8")
    opened = OpenRun(run)
    assert opened.verification is not None
    groups = {group.label: group for group in opened.verification.groups}
    searches = ["hill climb", "genetic algorithm", "AdaLead", "exhaustive ranking"]
    assert [label for label, group in groups.items() if group.role == "search"] == searches
    texts = ["".join(word) for word in itertools.product("ACG", repeat=4)]
    best = sorted(texts, key=lambda text: -counted_slowly(text, NEAR))
    chosen = []
    for text in best:  # two, at least two edits apart, none measured, within the limit of [near]
        near = min(opened.env.distance.matrix([text, name])[0, 1] for name in MEASURED)
        if text not in MEASURED and near <= 2 and all(opened.env.distance.matrix([text, row])[0, 1] >= 2 for row in chosen):
            chosen.append(text)
    ranking = opened.counted(groups["exhaustive ranking"].objects)
    np.testing.assert_allclose(ranking, opened.counted(chosen[:2]), atol=1e-4)
    for label in searches:
        rows = groups[label].objects
        assert label in output and label in page
        assert not {*rows} & {*MEASURED} and opened.env.distance.matrix(rows)[0, 1] >= 2
        assert opened.counted(rows)[0] <= ranking[0] + 1e-3
    assert f"with {opened.num_asked:,} calls, as many as the run and its searches had" in groups["AdaLead"].note
