"""The page: inert whatever the data hold, coherent, the same every time, whole on the disk."""

import os
import re
import subprocess
import sys
from dataclasses import fields, replace

import matplotlib
import numpy as np
import pytest
from tests.report.reading import assert_coherent, assert_inert, read
from tests.report.samples import PEPTIDE, bare, sample

from narrows.data import Finding, Space
from narrows.report import (
    DataQuality,
    History,
    Noise,
    Provenance,
    ProxyQuality,
    ReportData,
    ScoreGroup,
    Search,
    Selection,
    SetAside,
    Truth,
    render,
    write_report,
)
from narrows.selection import SCORE_GUIDE, OutcomeSummary, ShortlistRow

NAN, INF = float("nan"), float("inf")
PARTS = ("space", "search", "selection", "truth", "history", "data", "proxy", "provenance")


@pytest.fixture(scope="module")
def full() -> str:
    return render(sample())


def checked(data: ReportData) -> str:
    page = render(data)
    reading = read(page)
    assert_inert(reading)
    assert_coherent(reading)
    assert not {"nan", "NaN", "inf", "None"} & set(re.findall(r"\w+", " ".join(reading.text)))
    return page


def test_a_full_page_is_inert_and_coherent(full):
    reading = read(full)
    assert_inert(reading)
    assert_coherent(reading)
    assert "<script" not in full.lower() and "javascript:" not in full.lower()
    assert "http://" not in full and "https://" not in full
    assert reading.tags.count("h1") == 1
    policy = [value for _, name, value in reading.attributes if name == "content" and "default-src" in value]
    assert policy and "default-src 'none'" in policy[0] and "script" not in policy[0]


def test_a_full_page_shows_every_part(full):
    reading = read(full)
    for title in ("The shortlist", "Proxy and truth", "How the run went", "Data quality", "Proxy quality", "Glossary"):
        assert reading.has_text(title)
    drawings = {value for tag, name, value in reading.attributes if tag == "svg" and name == "id"}
    assert drawings == {
        *("stream", "logo", "logo-1", "logo-2", "logo-3", "score-distance", "spread", "truth-groups", "truth-proxy"),
        *("loss", "scores", "distinct", "distance", "speed", "data-scores"),
        *("proxy-prediction", "proxy-coverage", "proxy-error", "proxy-honesty"),
    }
    labels = [value for tag, name, value in reading.attributes if tag == "svg" and name == "aria-label"]
    assert len(labels) == len(drawings) and all(len(label) > 20 for label in labels)
    for cell in ("ridge-words", "ridge regression on words", "1.32", "0.911", "−0.56", "69 %", "7.1 s", "100 %"):
        assert reading.has_text(cell)
    assert reading.tags.count("caption") >= 9 and "To add it" not in full


def test_every_row_of_the_shortlist_is_whole(full):
    data = sample()
    text = "".join(read(full).text)
    assert data.selection is not None
    for row in data.selection.rows:
        assert row.sequence in text and row.why in text
        assert row.nearest_measured is not None and row.nearest_measured in text


@pytest.mark.parametrize("lacking", [PARTS[::2], PARTS[1::2]], ids=str)
def test_a_page_without_a_part_says_so(lacking):
    page = checked(replace(sample(num_rows=6), **dict.fromkeys(lacking)))
    commands = {"selection": "narrows shortlist", "truth": "narrows verify", "data": "narrows check", "proxy": "narrows fit"}
    for part, command in commands.items():
        assert (f"<code>{command}" in page) == (part in lacking)


def test_the_least_page():
    page = checked(bare())
    assert page.count('<p class="missing">') == 5
    assert "No automatic check was possible" in page and "<svg" not in page


def test_a_page_of_a_score_without_a_proxy_is_short_and_does_not_speak_of_one():
    data = sample(num_rows=6)
    assert data.selection is not None and data.truth is not None and data.history is not None
    unknown = {"score_std": None, "lower_bound": None, "nearest_measured": None, "nearest_measured_score": None}
    rows = tuple(replace(row, **unknown, distance_to_measured=None, why="highest score") for row in data.selection.rows)
    by_score = replace(
        data,
        selection=replace(data.selection, rows=rows, ranked_by="score"),
        truth=replace(data.truth, groups=tuple(replace(group, scores=()) for group in data.truth.groups)),
        history=replace(data.history, distance_to_data=()),
        guide=SCORE_GUIDE,
        **dict.fromkeys(("data", "proxy", "provenance")),
        settings={},
    )
    reading = read(checked(by_score))
    text = " ".join("".join(reading.text).split()).lower()
    assert "proxy" not in text and "not drawn" not in text
    assert not {"data", "proxy"} & set(reading.ids) and "score and truth" in text
    headings = [value for tag, name, value in reading.attributes if tag == "a" and name == "href" and "#shortlist-" in value]
    assert headings == [f"#shortlist-{key}" for key in ("rank", "sequence", "score", "true_score", "cluster", "why")]


HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</style><script>x</script>",
    "</title></svg><b onclick=x>",
    "{{ 7 * 7 }}{% raw %}",
    "$\\frac{1}{2}$ & <!-- -->",
    "]]><x>",
    "\x00\x1b\ud800\u202egnp",
    "javascript:alert(1)",
)


ALONE = pytest.mark.slow("draws a page each; a script, mathematics and control characters guard the same")


@pytest.mark.parametrize("text", [pytest.param(text, marks=() if text[0] in "<$\x00" else ALONE) for text in HOSTILE])
def test_hostile_text_stays_text_wherever_it_stands(text):
    row = ShortlistRow(1, text, 0.5, 0.1, 0.4, text, 0.2, 3, 1, text, text, 0, 5, text, 0.4, 0.1, 0.2)
    values = [0.1, 0.4, 0.3]
    told = OutcomeSummary(text, "simulated", 5, 0.1, 3, text)
    data = ReportData(
        name=text,
        settings={text: text, "table": {text: [text, {text: text}]}, "nested": {text: {text: text}}},
        folder=text,
        space=Space(text, "ACGU", 1, 9),
        search=Search(text, "stopped", 10, 20, 30, 25, 1.0, {text: 1.0}),
        selection=Selection((row, replace(row, rank=2, cluster=2)), 5, 4, 9, 1.0, text, text, told, {text: 0.3}),
        noise=Noise(text, {text: text, "path": text}, text),
        truth=Truth(
            text, (ScoreGroup("shortlist", text, values, values, text), ScoreGroup("control", text, values)), 2.0, {text: text}
        ),
        history=History([1, 2, 3], loss=values),
        data=DataQuality(text, 3, 3, 1, 0, (Finding(2, text, text, text, "error"),), values, [3, 4, 5], text, text, text, text),
        proxy=ProxyQuality(test_truth=values, test_mean=values, description=text, split=text),
        provenance=Provenance(0, text, {text: text, "narrows": text}, text, (text,)),
        set_aside=(SetAside(text, text, 1),),
    )
    page = checked(data)
    assert "<script" not in page and "<img" not in page and "49" not in read(page).text
    shown = text.replace("\x00", "\ufffd").replace("\x1b", "\ufffd").replace("\ud800", "\ufffd").replace("\u202e", "\ufffd")
    assert read(page).has_text(" ".join(shown.split()))
    page.encode("utf-8")


def test_the_same_data_make_the_same_bytes(full):
    assert render(sample()) == full


@pytest.mark.slow("starts a process; the same data make the same bytes in this one below")
def test_another_process_makes_the_same_bytes(full, tmp_path):
    """Another hash seed, another matplotlib configuration, no display."""
    (tmp_path / "matplotlibrc").write_text("font.size: 30\nsvg.fonttype: path\naxes.grid: False\nlines.linewidth: 9\n")
    script = (
        "import sys; from tests.report.samples import sample; from narrows.report import render;"
        "assert 'jax' not in sys.modules and 'torch' not in sys.modules and 'matplotlib.pyplot' not in sys.modules;"
        "sys.stdout.buffer.write(render(sample()).encode())"
    )
    environment = {key: value for key, value in os.environ.items() if key != "DISPLAY"}
    environment |= {"PYTHONHASHSEED": "99", "MPLCONFIGDIR": str(tmp_path), "PYTHONPATH": os.getcwd()}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, env=environment, cwd=os.getcwd(), check=False)
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout.decode() == full


DRAWN = pytest.mark.slow("draws a page; nothing, nothing finite and what overflows guard the same")


def test_drawing_leaves_the_settings_of_matplotlib_alone():
    with matplotlib.rc_context({"font.size": 17, "axes.grid": False}):
        before = dict(matplotlib.rcParams)
        render(replace(bare(), history=History([1, 2], loss=[2.0, 1.0])))
        assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize(
    "values",
    [
        [],
        [NAN, INF],
        pytest.param([1.0], marks=DRAWN),
        pytest.param([0.0] * 3, marks=DRAWN),
        [1e308, -1e308, 1e-320],
        pytest.param([3.0, NAN, -2.0, INF], marks=DRAWN),
    ],
    ids=str,
)
@pytest.mark.filterwarnings("error")
def test_degenerate_numbers_are_shown_or_left_out(values):
    steps = list(range(len(values)))
    rows = tuple(ShortlistRow(i + 1, "ACGU"[: i % 5], value, value, value, None, value) for i, value in enumerate(values))
    columns = {f.name: values for f in fields(History) if f.name != "step"}
    checked(
        ReportData(
            "degenerate",
            {},
            space=Space("rna", "ACGU", 1, 4),
            search=Search(num_distinct=0, num_sampled=0, num_steps=0, seconds=NAN),
            selection=Selection(rows, num_asked=9),
            truth=Truth("t", (ScoreGroup("shortlist", "s", values, values), ScoreGroup("measured", "m", values, values))),
            history=History(step=steps, **columns),
            data=DataQuality("t.csv", scores=values, lengths=values),
            proxy=ProxyQuality(
                spearman=NAN,
                rmse=NAN,
                rmse_of_mean=0.0,
                coverage_1std=NAN,
                coverage_2std=NAN,
                test_truth=values,
                test_mean=values,
                test_std=values,
                test_distance=steps,
            ),
        )
    )


@pytest.mark.parametrize("sequences", [("",), ("", ""), ("A",), ("ACGU", "", "A" * 90)], ids=str)
def test_odd_sequences(sequences):
    rows = tuple(ShortlistRow(i + 1, sequence, 0.5, nearest_measured="") for i, sequence in enumerate(sequences))
    checked(ReportData("odd", {}, space=Space("rna", "ACGU", 0, 90), selection=Selection(rows)))


@pytest.mark.slow("draws a hundred long rows; a hundred short ones below")
def test_large_lists_of_long_sequences_stay_small_pages():
    long = checked(sample(PEPTIDE, num_rows=100, name="a_name_without_a_break_" * 9))
    assert len(long.encode()) < 1_500_000
    assert 'class="rows cards long"' in long


def test_large_lists_stay_small_pages():
    short = checked(sample(num_rows=100))
    assert len(short.encode()) < 700_000 and 'class="rows"' in short


def test_many_points_and_findings_stay_a_small_page():
    rng = np.random.default_rng(0)
    values = rng.normal(size=20_000)
    data = ReportData(
        "many",
        {},
        history=History(np.arange(20_000), loss=values**2, num_distinct=np.arange(20_000)),
        data=DataQuality("t.csv", findings=tuple(Finding(i, "x", "k", "m", "error") for i in range(5000)), scores=values),
        proxy=ProxyQuality(test_truth=values, test_mean=values, coverage_1std=0.5),
    )
    page = checked(data)
    assert len(page.encode()) < 300_000
    assert "600 of 20,000 shown" in page and "4900 more are listed by narrows check" in page


def test_a_page_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = write_report(bare("first"), tmp_path / "report.html")
    assert path.read_text(encoding="utf-8") == render(bare("first"))

    def full_disk(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full_disk)
    with pytest.raises(OSError, match="No space"):
        write_report(bare("second"), path)
    assert path.read_text(encoding="utf-8") == render(bare("first"))
    assert os.listdir(tmp_path) == ["report.html"]


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere.*Make it"):
        write_report(bare(), tmp_path / "nowhere" / "report.html")


def test_columns_of_different_lengths_are_refused():
    with pytest.raises(ValueError, match="step has 2, loss has 1"):
        History([1, 2], loss=[0.5])
    with pytest.raises(ValueError, match="'best'.*true_scores has 1, scores has 2"):
        ScoreGroup("measured", "best", [1.0], [1.0, 2.0])
    with pytest.raises(ValueError, match="test_truth has 3, test_std has 1"):
        ProxyQuality(test_truth=[1, 2, 3], test_std=[1])
