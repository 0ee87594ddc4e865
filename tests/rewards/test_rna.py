"""The duplex score against ViennaRNA called directly, and what it refuses before ViennaRNA sees it."""

import sys

import numpy as np
import pytest

from narrows.scorers.rna import TARGET_1, RnaBinding

RNA = pytest.importorskip("RNA")


def reverse_complement(text):
    return "".join({"A": "U", "U": "A", "C": "G", "G": "C"}[letter] for letter in reversed(text))


def random_rnas(num, length, seed=0):
    return ["".join(row) for row in np.random.default_rng(seed).choice(list("ACGU"), (num, length))]


def test_score_is_the_formula():
    objects = random_rnas(20, 14)
    perfect = RNA.duplexfold(TARGET_1, reverse_complement(TARGET_1)).energy
    expected = [RNA.duplexfold(TARGET_1, one).energy / (perfect * 14 / 100) for one in objects]
    np.testing.assert_allclose(RnaBinding()(objects), expected, rtol=1e-12)


def test_the_target_is_the_published_one_and_its_perfect_partner_scores_one():
    assert len(TARGET_1) == 100
    assert RnaBinding(length=None)([reverse_complement(TARGET_1)]) == pytest.approx([1.0])


def test_pieces_of_the_perfect_partner_beat_random_rnas_and_a_poor_one_is_below_zero():
    partner = reverse_complement(TARGET_1)
    pieces = RnaBinding()([partner[i : i + 14] for i in range(0, 84, 7)])
    assert pieces.min() > 0.5
    assert np.median(RnaBinding()(random_rnas(50, 14))) < 0.45
    assert RnaBinding()(["A" * 14])[0] < 0.0  # not clipped


def test_any_length_is_scored_by_its_own():
    free, fixed = RnaBinding(length=None), RnaBinding(length=9)
    assert free(["GGGCCCCCG"]) == fixed(["GGGCCCCCG"])
    assert free([]).shape == (0,)


@pytest.mark.parametrize(
    ("bad", "match"),
    [
        ("ACGTACGTACGTAC", "object 1 .*'T' at position 4 is no RNA letter.*Write U for T"),
        ("acguacguacguac", "'a' at position 1 .*Use capitals"),
        ("ACGUACGUACGU C", "' ' at position 13"),
        ("ACGUACGUACGUN!", "'N' at position 13"),
        ("ACGU", "expected 14 nt, got 4"),
        ("", "expected 14 nt, got 0"),
        (14, "expected a text"),
    ],
)
def test_nonsense_never_reaches_vienna(bad, match, monkeypatch):
    score = RnaBinding()
    monkeypatch.setattr(RNA, "duplexfold", lambda *texts: pytest.fail(f"ViennaRNA was asked for {texts}"))
    with pytest.raises(ValueError, match=match):
        score(["ACGUACGUACGUAC", bad])


def test_settings_that_make_no_sense():
    with pytest.raises(ValueError, match="the target is empty"):
        RnaBinding("")
    with pytest.raises(ValueError, match="'T' at position 2"):
        RnaBinding("GTGTGTGT")
    with pytest.raises(ValueError, match="length must be at least 1"):
        RnaBinding(length=0)
    with pytest.raises(ValueError, match="binds not even its own reverse complement"):
        RnaBinding("A")


def test_without_vienna_the_error_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "RNA", None)
    with pytest.raises(ImportError, match=r"pip install 'narrows\[rna\]'"):
        RnaBinding()
