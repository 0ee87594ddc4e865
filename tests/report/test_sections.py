"""What the sections say: honest sentences, glossary entries for every column, words for numbers."""

from dataclasses import fields, replace

import numpy as np
import pytest
from tests.report.reading import read
from tests.report.samples import bare, noisy, sample

from narrows.data import Finding
from narrows.report import History, Noise, ReportData, ScoreGroup, Selection, Truth, render
from narrows.report.glossary import CHAPTERS, FINDINGS, SHORTLIST
from narrows.report.letters import tint_of, tinted
from narrows.report.sections.headline import headline
from narrows.report.sections.origin import origin_view, settings_tables
from narrows.report.sections.outcomes import describe_noise
from narrows.report.sections.run import run_view
from narrows.report.sections.shortlist import shortlist_view, with_differences
from narrows.report.sections.truth import truth_view
from narrows.selection import OutcomeSummary, ShortlistRow


def verdict(groups) -> str:
    view = truth_view(replace(bare(), truth=Truth("t", tuple(groups))))
    assert view is not None
    return " ".join(view.verdict)


def group(role, mean, *, spread=0.05, num=24, seed=0, proxy=0.0) -> ScoreGroup:
    values = np.random.default_rng(seed).normal(mean, spread, num)
    return ScoreGroup(role, role, values, values + proxy if proxy else ())


def test_the_verdict_says_above_below_or_cannot_tell():
    shortlist = group("shortlist", 0.6, proxy=0.1)
    assert "above “random”" in verdict([shortlist, group("random", 0.2, seed=1)])
    assert "below “measured”" in verdict([shortlist, group("measured", 0.9, seed=2)])
    tie = verdict([shortlist, group("control", 0.6, seed=3)])
    assert "cannot be told apart" in tie and "gains nothing that a change of temperature would not" in tie
    assert "0.1 too high on average" in tie and "another seed gives another list" in tie


def test_the_verdict_claims_nothing_without_scores():
    assert "nothing can be said" in verdict([ScoreGroup("shortlist", "s", [float("nan")])])
    assert "nothing can be said" in verdict([group("random", 0.5)])
    assert "Too few true scores" in verdict([group("shortlist", 0.6), ScoreGroup("measured", "m", [0.5])])


def test_failed_scores_are_counted():
    truth = Truth("t", (ScoreGroup("shortlist", "s", [0.5, float("nan"), 0.7]),), None, {"ACGU": "timed out"})
    view = truth_view(replace(bare(), truth=truth))
    assert view is not None and view.lines[0].num == "2 (1 failed)"
    assert read(render(replace(bare(), truth=truth))).has_text("timed out")


def test_every_column_has_a_glossary_entry():
    explained = {entry.key for entry in SHORTLIST.entries}
    assert {f.name for f in fields(ShortlistRow)} | {"true_score"} == explained
    assert {f.name for f in fields(Finding)} <= {entry.key for entry in FINDINGS.entries}
    keys = [(chapter.key, entry.key) for chapter in CHAPTERS for entry in chapter.entries]
    assert len(keys) == len(set(keys)) and all(len(entry.meaning) > 10 for chapter in CHAPTERS for entry in chapter.entries)


def test_every_heading_of_the_shortlist_leads_to_its_entry():
    reading = read(render(sample(num_rows=3)))
    headings = {value for tag, name, value in reading.attributes if tag == "a" and name == "href" and "#shortlist-" in value}
    assert len(headings) == 9 and {heading[1:] for heading in headings} <= set(reading.ids)


def test_a_noisy_run_shows_what_is_asked_for_and_what_is_expected():
    data = noisy(sample(num_rows=3))
    reading = read(render(data))
    headings = {value for tag, name, value in reading.attributes if tag == "a" and name == "href" and "#shortlist-" in value}
    assert len(headings) == 11 and {heading[1:] for heading in headings} <= set(reading.ids)
    for words in (
        "Sequence to ask for",
        "Exactly as asked a row comes out with probability 70\xa0%.",
        "means of 1,000 simulated outcomes a row; their standard error is at most 0.0016.",
        "12,345 candidates with less promise at first sight were not ranked",
        "taken from the top by expected score of what comes out",
        "These are true scores of sequences exactly as they stand in the table.",
    ):
        assert reading.has_text(words.replace("\xa0", " ")), words
    assert "mean expected score" in [fact.name for fact in headline(data).facts]
    assert describe_noise(Noise("Substitution", {"rate": 0.1})) in headline(data).lede
    assert ("noise", "Substitution, rate 0.1") in origin_view(data).origin
    learned = replace(data, noise=Noise("Observed", {"path": "o.csv"}, "0.4 nats"))
    assert ("noise", "Observed, path o.csv; 0.4 nats") in origin_view(learned).origin
    view = shortlist_view(data)
    assert view is not None and [picture.name for picture in view.pictures][-3:] == [
        "expected-score",
        "score-distance",
        "spread",
    ]
    assert view.pictures[-3].svg is not None and view.lines[0].spread == "0.050" and view.lines[0].as_asked == "70\xa0%"


def test_a_run_without_noise_does_not_speak_of_it():
    view = shortlist_view(sample(num_rows=3))
    assert view is not None and not view.has_outcomes
    assert [picture.name for picture in view.pictures] == ["logo", "score-distance", "spread"]
    page = render(sample(num_rows=3)).split('id="glossary"')[0]
    assert "noise" not in page.replace("without the noise of measuring", "") and "Expected score" not in page


def test_what_is_not_known_of_outcomes_is_said():
    rows = (ShortlistRow(1, "AC", 0.5, asked="AC", prob_as_asked=0.9),)
    told = OutcomeSummary("Table (path n.csv)", "unknown", reason="the expected score is not known: nobody asked")
    data = replace(bare(), selection=Selection(rows, outcomes=told), noise=Noise("Table", {"path": "n.csv"}))
    view = shortlist_view(data)
    assert view is not None and "The expected score is not known: nobody asked." in " ".join(view.summary)
    assert view.lines[0].expected == "–" and view.pictures == ()
    assert "mean expected score" not in [fact.name for fact in headline(data).facts]


@pytest.mark.parametrize(
    ("noise", "words"),
    [
        (Noise("Substitution", {"rate": 0.25}), "with probability 0.25 (Substitution, rate 0.25)."),
        (Noise("Table", {"path": "n.csv"}), "as the probabilities of the table n.csv say (Table, path n.csv)."),
        (
            Noise("Observed", {"path": "o.csv", "model": "table"}),
            "orders and deliveries in o.csv (Observed, path o.csv, model table)",
        ),
        (Noise("Gremlins"), "noise decides what becomes of each letter (Gremlins)."),
    ],
)
def test_noise_is_named_in_words(noise, words):
    assert words in describe_noise(noise)


def test_scores_are_shown_to_the_digits_their_uncertainty_allows():
    rows = (ShortlistRow(1, "AC", 0.65811, 0.0948), ShortlistRow(2, "AG", 0.65729, 0.0731))
    view = shortlist_view(replace(bare(), selection=Selection(rows)))
    assert view is not None and [line.mean for line in view.lines] == ["0.658", "0.657"]
    certain = shortlist_view(replace(bare(), selection=Selection(tuple(replace(row, score_std=None) for row in rows))))
    assert certain is not None and [line.mean for line in certain.lines] == ["0.658110", "0.657290"]
    assert not certain.has_std


def test_fewer_rows_than_asked_are_explained():
    data = replace(bare(), selection=Selection((ShortlistRow(1, "AC", 0.5),), 24, 4, 10, reason_fewer="Try --min-distance 2."))
    view = shortlist_view(data)
    assert view is not None and "24 were asked for. Try --min-distance 2." in " ".join(view.summary)


def test_clusters_large_enough_have_a_logo():
    view = shortlist_view(sample())
    assert view is not None and [picture.title for picture in view.pictures][:4] == [
        "Whole shortlist",
        "Cluster 1, 10 rows",
        "Cluster 3, 8 rows",
        "Cluster 2, 6 rows",
    ]


def test_a_curve_without_a_finite_value_is_named_not_drawn():
    nothing = [float("nan")] * 3
    view = run_view(ReportData("r", {}, history=History([1, 2, 3], loss=[3.0, 2.0, 1.0], distance_to_data=nothing)))
    assert view is not None and [picture.name for picture in view.pictures] == ["loss"]
    assert "no finite value was logged: distance to the data." in view.summary[-1]


@pytest.mark.parametrize(
    ("nearest", "sequence", "marked"),
    [
        ("ACGUACGU", "ACGUACGA", "ACGUACG<b>U</b>"),
        ("ACGUACGU", "CGUACGU", "<b>A</b>CGUACGU"),
        ("ACGUACGU", "AACGUACGU", "ACGUACGU"),
        ("ACGU", "UUUUUUU", "ACGU"),
        ("A<C>GUUUU", "A<C>GUUUA", "A&lt;C&gt;GUUU<b>U</b>"),
    ],
)
def test_differences_to_the_nearest_are_marked(nearest, sequence, marked):
    assert with_differences(nearest, sequence) == marked


def test_letters_keep_their_order_on_their_tints():
    html = tinted("ACGU" * 6 + "N<", tint_of("ACGU"))
    assert "".join(read(html).text) == "ACGU" * 6 + "N<"
    assert html.count('<span class="ten">') == 3 and "<b class=l3>U</b>" in html
    assert "N&lt;</span>" in html, "letters outside the alphabet have no tint"


def test_settings_read_as_the_job_file_does():
    tables = settings_tables({"seed": 1, "on": True, "none": None, "a": {"x": "<b>", "b": {"y": [1, "z"]}}})
    assert [(table.name, table.lines) for table in tables] == [
        ("", (("seed", "1"), ("on", "true"), ("none", "null"))),
        ("a", (("x", '"<b>"'),)),
        ("a.b", (("y", '[1, "z"]'),)),
    ]
