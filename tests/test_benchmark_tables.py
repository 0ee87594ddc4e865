"""The benchmark of tables: what is drawn, what rivals give, what is kept on the way, and its page from made-up draws."""

import dataclasses
import tomllib

import numpy as np
import pytest
from benchmarks import tables as case
from benchmarks._tables import draw as drawing
from benchmarks._tables import rivals, tasks
from benchmarks._tables.draw import FOREST, GIVEN, NARROWS, OWN, RIDGE, Outcome
from benchmarks._tables.plan import FULL, MAIN, NUM_DRAWS, POOL, QUICK, K, Plan, Setting
from benchmarks._tables.plan import SCALED as SCALED_SCORES
from benchmarks._tables.reporting import COVERAGE, GAP, MEAN, SAME, SCALED, SEEN, rows_of
from benchmarks._tables.tables import tables
from benchmarks.harness import intervals
from benchmarks.harness.rows import Context
from scipy.stats import t

from narrows.alphabet import reverse_complements
from narrows.config import load_job
from narrows.data import read_table, space
from narrows.search import Space

CONTEXT = Context(False, None, "python -m benchmarks tables", {"python": "3.11.0"}, "2 cores, Linux x86_64")
OTHER, PEPTIDES = Setting("rna", 300), Setting(POOL, 1000)
LETTERS = Space("AC", 5, 5)


def outcome(setting: Setting, seed: int, lead: float) -> Outcome:
    """Return a draw in which every list is as good as its place in the order of names, ours better by so much."""
    names = [*GIVEN, *OWN] if setting.table != POOL else [RIDGE, FOREST]
    lists = {NARROWS: [3.0 + seed + lead] * K, **{name: [3.0 + seed - 0.1 * place] * K for place, name in enumerate(names)}}
    spearman = {NARROWS: 0.7, RIDGE: 0.5, FOREST: 0.6}
    seconds = {"start": 2.0, "fit": 10.0, "run": 5.0, "shortlist": 1.0, "beside": 6.0}
    return Outcome(lists, 2.0, spearman, {"68": 0.7, "95": 0.9}, True, seconds, None if setting.table == POOL else 500)


def made(lead: float = 0.5) -> dict:
    found = {setting: {seed: outcome(setting, seed, lead + 0.01 * seed) for seed in range(3)} for setting in (MAIN, OTHER)}
    found[SCALED_SCORES[1]] = {1: outcome(SCALED_SCORES[1], 1, lead + 0.01), 2: outcome(SCALED_SCORES[1], 2, lead)}
    return found | {PEPTIDES: {0: outcome(PEPTIDES, 0, lead)}}


def present(setting: Setting) -> None:
    why = tasks.missing(setting)
    if why is not None:
        pytest.skip(f"{setting}: {why}")


def test_a_full_plan_has_every_setting_ten_times_and_the_main_one_first():
    assert len(set(FULL.draws)) == len(FULL.draws)
    for setting in FULL.settings:
        drawn = [seed for one, seed in FULL.draws if one == setting]
        assert sorted(drawn) == list(range(3 if setting in SCALED_SCORES else NUM_DRAWS))
    first = FULL.draws[: len(FULL.settings) - len(SCALED_SCORES)]
    assert first[0] == (MAIN, 0) and {seed for _, seed in first} == {0}, "a draw of everything comes first"
    assert {setting.table for setting in QUICK.settings} == {"gb1", "SIX6", "rna"} and len(QUICK.draws) == 9
    assert len({str(setting) for setting in FULL.settings}) == len(FULL.settings), "rows tell them apart"


@pytest.mark.parametrize("setting", [MAIN, Setting("SIX6", 1000, is_worst=True), Setting("VSX1", 200), PEPTIDES], ids=str)
def test_a_draw_measures_rows_of_the_table_and_holds_others_back(setting, tmp_path):
    present(setting)
    task = tasks.task_of(setting, 1)
    rows = tasks.draw(task, setting, 1)
    assert rows.texts == tasks.draw(task, setting, 1).texts != tasks.draw(task, setting, 2).texts
    assert len(rows.texts) == len(rows.cells) == setting.num_rows
    cells = dict(zip(task.texts, task.cells.tolist(), strict=True))
    if setting.table != POOL:  # whose rows repeat peptides
        assert [cells[text] for text in rows.texts] == rows.cells.tolist()
        assert np.allclose(task.truth(rows.texts), rows.cells)
        assert np.isnan(task.truth(["XXXX"])).all()
    worst = np.sort(task.cells)[: round(0.6 * len(task.cells))].max()
    assert (rows.cells.max() <= worst) == setting.is_worst
    measured = {text.upper() for text in rows.texts}
    if task.space == "dna":
        measured |= set(reverse_complements(rows.texts, "ACGT"))
    assert 1000 < len(rows.held_back) <= 10_000 and not measured & set(rows.held_back)
    assert not np.isnan(task.truth(rows.held_back)).any()
    drawing._write_job(tmp_path, task, rows.texts, rows.cells)
    said = tomllib.loads((tmp_path / "job.toml").read_text())
    assert [*said] == ["data"] and [*said["data"]][:2] == ["path", "space"]
    assert setting.table == POOL or len(said["data"]) == 2, "no setting by hand"
    assert load_job(tmp_path / "job.toml").shortlist.k == K


def test_the_truth_of_peptides_is_higher_for_those_that_kill_at_less():
    present(PEPTIDES)
    task = tasks.task_of(PEPTIDES, 0)
    lone = [place for place, text in enumerate(task.texts) if text.isupper() and task.texts.count(text) == 1][:50]
    assert np.allclose(task.truth([task.texts[place] for place in lone]), -task.cells[lone])


@pytest.mark.slow("folds thousands of RNAs; the example's own tests guard its measurements")
def test_the_example_measures_what_its_truth_says_but_for_noise():
    present(OTHER)
    task = tasks.task_of(OTHER, 0)
    errors = task.cells[:200] - task.truth(task.texts[:200])
    assert 0.015 < np.std(errors) < 0.025


def test_a_table_that_is_absent_is_left_out_in_a_sentence(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tasks, "_GB1", tmp_path / "gb1" / "none.csv.gz")
    with pytest.raises(ValueError, match="nothing that was asked for"):
        list(case.measure_plan(CONTEXT, Plan.of((MAIN, range(2)))))
    assert "GB1, 480 rows at random is left out: it needs none.csv.gz in gb1" in capsys.readouterr().err
    with pytest.raises(ValueError, match="there is no case 'nothing'"):
        list(case.measure_plan(dataclasses.replace(CONTEXT, cases=("nothing",)), Plan.of((MAIN, range(2)))))


def test_features_count_letters_by_place_and_in_all():
    assert rivals.one_hot(Space("AC", 1, 2), ["CA", "C"]).tolist() == [[0, 1, 1, 0], [0, 1, 0, 0]]
    assert rivals.composition(Space("AC", 1, 3), ["CAC", "A"]).tolist() == [[1, 2, 3], [1, 0, 1]]


@pytest.mark.parametrize("name", [RIDGE, FOREST])
@pytest.mark.parametrize("is_listed", [True, False])
def test_a_rival_lists_what_its_model_likes_best_and_was_not_measured(name, is_listed, monkeypatch, tmp_path):
    texts = LETTERS.write(LETTERS.listed())[::2]
    np.savetxt(
        tmp_path / "x.csv", np.c_[texts, [text.count("C") for text in texts]], "%s", ",", header="sequence,score", comments=""
    )
    table = read_table(tmp_path / "x.csv", space("letters:AC"))
    score = rivals.learned(rivals.models(0)[name](), rivals.one_hot, LETTERS, table)
    monkeypatch.setattr(rivals, "MOST_LISTED", 100 if is_listed else 10)
    objects, scores = rivals.candidates(score, LETTERS, table, 0)
    assert is_listed == (len(objects) == 32)
    chosen = rivals.choose(objects, scores, table.sequences, 2)
    assert chosen[0] == "CCCCC" and not set(chosen) & set(table.sequences)
    assert all(sum(a != b for a, b in zip(one, two, strict=True)) >= 2 for one in chosen for two in chosen if one != two)
    assert rivals.choose(table.sequences, table.scores, (), 1)[0] in {"CCCCA"}


def test_rows_that_cannot_be_looked_up_leave_their_places_to_the_next_ones():
    scores = rivals.judged([f"x{place}" for place in range(30)], lambda names: np.array([np.nan, *range(29)], float))
    assert scores == list(range(K))


def test_intervals_over_settings_are_by_welch():
    rng = np.random.default_rng(0)
    samples = [rng.normal(1.0, 2.0, 5), rng.normal(3.0, 0.5, 3)]
    found = intervals.of_sum(samples, (0.5, 0.5))
    parts = [0.25 * np.var(one, ddof=1) / len(one) for one in samples]
    freedom = sum(parts) ** 2 / sum(part**2 / (len(one) - 1) for part, one in zip(parts, samples, strict=True))
    reach = t.ppf(0.975, freedom) * np.sqrt(sum(parts))
    assert found == pytest.approx((np.mean([one.mean() for one in samples]), found.value - reach, found.value + reach))


def test_draws_are_kept_and_a_run_that_was_stopped_goes_on(tmp_path, monkeypatch, capsys):
    plan, asked = Plan.of((MAIN, range(3)), (OTHER, range(1))), []
    monkeypatch.setattr(case, "missing", lambda setting: None)

    def measured(setting, seed, folder):
        assert not list(folder.iterdir())
        asked.append((setting, seed))
        if asked[-1] == (MAIN, 2) and asked.count((MAIN, 2)) == 1:
            raise KeyboardInterrupt
        return outcome(setting, seed, 0.5)

    monkeypatch.setattr(case, "measure_draw", measured)
    context = dataclasses.replace(CONTEXT, data=tmp_path)
    assert list(case.measure_plan(dataclasses.replace(context, cases=("rna",)), plan)) and asked == [(OTHER, 0)]
    stopped = list(case.measure_plan(context, plan))
    assert "stopped" in capsys.readouterr().err
    assert {row.seeds for row in stopped if row.seeds} == {(0, 1), (0,)}, "what was there before is told too"
    whole = list(case.measure_plan(context, plan))
    assert asked == [(OTHER, 0), (MAIN, 0), (MAIN, 1), (MAIN, 2), (MAIN, 2)]
    found = {MAIN: {seed: outcome(MAIN, seed, 0.5) for seed in range(3)}, OTHER: {0: outcome(OTHER, 0, 0.5)}}
    assert whole == list(rows_of(context, found))


def test_rows_hold_means_paired_differences_and_targets():
    rows = {(row.case, row.metric): row for row in rows_of(CONTEXT, made())}
    ours = rows[f"tables/{MAIN}/{NARROWS}", MEAN]
    assert ours.value == pytest.approx(4.51) and ours.target == ">= 2.6" and ours.met
    gap = rows[f"tables/{MAIN}/{NARROWS} less {FOREST}", GAP]
    assert gap.value == pytest.approx(0.61) and gap.most - gap.value == pytest.approx(
        t.ppf(0.975, 2) * 0.01 / np.sqrt(3), rel=1e-3
    )
    assert gap.target == "> 0" and gap.met
    other = rows[f"tables/{OTHER}/{NARROWS} less {FOREST}", GAP]
    assert other.target == "upper end >= 0" and other.met
    over = rows[f"tables/all settings/{NARROWS} less {FOREST}", SCALED]
    assert over.value == pytest.approx(0.305) and over.met and rows[over.case, "settings"].value == 2, "one draw is no sample"
    assert rows[f"tables/{MAIN}/{NARROWS}", SEEN].met and rows[f"tables/{MAIN}/{NARROWS}", COVERAGE.format(95)].value == 0.9
    scaled = rows[f"tables/other scales/{SCALED_SCORES[1]}", SAME]
    assert (scaled.low, scaled.high, scaled.met) == (0.0, K, False), "one list stayed, the other did not"
    assert not any(row.case.startswith(f"tables/{SCALED_SCORES[1]}") for row in rows_of(CONTEXT, made()))
    behind = {(row.case, row.metric): row for row in rows_of(CONTEXT, made(-1.0))}
    assert not behind[f"tables/{OTHER}/{NARROWS} less {RIDGE}", GAP].met and not behind[over.case, SCALED].met


def test_the_page_tells_draws_differences_and_costs():
    page = " ".join(tables(list(rows_of(CONTEXT, made()))).split())
    assert f"### {MAIN} 3 draws of rows." in page and "E. coli MIC, 1,000 rows at random 1 draw of rows." in page
    assert "| ridge | 4.00 [1.52, 6.48] | 4.00 |" in page and "+0.51 [+0.49, +0.53] | 0.510 | ahead | > 0 | yes |" in page
    assert "9 of the 129 draws of a full run are measured. By what they took, a full run takes 0.86 hours" in page
    assert "| 10.0 (target <= 20: yes) | 5.00 | 1.00 | 18.0 (target <= 60: yes) | 24.0 |" in page
    assert "for want of a second draw: E. coli MIC, 1,000 rows at random." in page
    assert "| ridge | 3.00 | 3.00 | 3.00 | 24 | +0.50 | 0.500 |" in page, "one draw has no interval"
    assert "behind" in tables(list(rows_of(CONTEXT, made(-1.0))))


@pytest.mark.slow("fits, trains and judges one draw of 8-mers; its pieces are tested above, and the committed rows")
def test_one_draw_from_table_to_lists(tmp_path):
    setting = Setting("SIX6", 200)
    present(setting)
    found = drawing.measure_draw(setting, 0, tmp_path)
    assert set(found.lists) == {NARROWS, *GIVEN, *OWN} and all(len(scores) == K for scores in found.lists.values())
    assert all(0.0 <= score <= 1.0 for scores in found.lists.values() for score in scores)
    assert np.mean(found.lists[NARROWS]) > 0.55 and found.spearman[NARROWS] > 0.2
    assert (
        found.num_seen is not None
        and found.num_seen > 0
        and set(found.seconds) == {"start", "fit", "run", "shortlist", "beside"}
    )
