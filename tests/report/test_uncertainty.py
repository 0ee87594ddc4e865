"""The picture of two actions' sets: its borders against the closed form, its words, and the file it makes."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest

from narrows.exact import second_reward
from narrows.report.canvas import TONES
from narrows.report.uncertainty import EXPONENTS, TwoActions, standalone, two_actions, write_two_actions

CHOICE = TwoActions(("A", "the end"), np.log([0.8, 0.2]), np.log([0.6, 0.4]), 2.0)
CUT = TwoActions(("A", "C"), np.log([0.5, 0.2]), np.log([0.4, 0.3]), 3.0, np.log([1.0, 0.5]))


@pytest.mark.parametrize("choice", [CHOICE, CUT], ids=["two actions", "two of several"])
@pytest.mark.parametrize("q", EXPONENTS)
def test_borders_are_those_of_the_closed_form(choice, q):
    first, second = choice.border(q, np.linspace(-6.0, 6.0, 25))
    expected = second_reward(first, choice.log_weights(q), choice.omega, choice.log_bound)
    np.testing.assert_allclose(second, expected, atol=1e-10)
    # The worst case lies on it, and no other point of it is worse for the policy.
    worst = choice.worst(q)
    assert worst[1] == pytest.approx(float(second_reward(worst[0], choice.log_weights(q), choice.omega, choice.log_bound)))
    policy = np.exp(choice.log_policy)
    assert np.all(policy @ np.stack([first, second]) >= policy @ worst - 1e-12)


def test_the_drawing_says_what_it_shows():
    drawing = str(two_actions("sets", CHOICE, unit="the score"))
    root = ElementTree.fromstring(drawing)
    words = root.attrib["aria-label"]
    # q = 1: the worst case is half the log-ratio of reference and policy, and the trained reward is on the border.
    assert "q 1: worst case (−0.144, 0.347), no change misses by 0" in words
    assert "q 0: worst case (0.112, 0.805), no change misses by 0.347" in words
    texts = {"".join(node.itertext()) for node in root.iter() if node.tag.endswith("text")}
    assert {"q = 0", "q = 0.25", "q = 0.5", "q = 0.75", "q = 1", "no change", "change of A, in units of the score"} <= texts
    assert "<script" not in drawing and "http" not in drawing.replace("http://www.w3.org", "")


def test_the_file_stands_alone_and_is_the_same_every_time(tmp_path):
    for name in ("one.svg", "two.svg"):
        write_two_actions(tmp_path / name, CUT)
    text = (tmp_path / "one.svg").read_text(encoding="utf-8")
    assert text == (tmp_path / "two.svg").read_text(encoding="utf-8")
    root = ElementTree.fromstring(text)
    assert root.tag == "{http://www.w3.org/2000/svg}svg" and float(root.attrib["width"]) > 0.0
    assert "var(--" not in text and TONES["accent"] in text
    assert set(re.findall(r"https?://[^\"]+", text)) == {"http://www.w3.org/2000/svg"}


def test_all_that_is_marked_is_in_the_window():
    """Worst cases far apart and near, and one that is infinite and has no mark."""
    for policy, omega, marks in (([0.999, 0.001], 0.1, 6), ([0.5, 0.5], 50.0, 6), ([1.0, 0.0], 2.0, 1)):
        with np.errstate(divide="ignore"):
            choice = TwoActions(("A", "C"), np.log(policy), np.log([0.5, 0.5]), omega)
        drawing = standalone(two_actions("sets", choice))
        used = [
            (float(node.attrib["x"]), float(node.attrib["y"]))
            for node in ElementTree.fromstring(drawing).iter("{http://www.w3.org/2000/svg}use")
            if "data" not in node.attrib
        ]
        assert all(0.0 <= x <= 480.0 and 0.0 <= y <= 440.0 for x, y in used)
        assert len(used) >= marks


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"log_policy": np.zeros(3)}, "log_policy must be the logarithms of two probabilities"),
        ({"log_policy": np.ones(2)}, "log_policy must be the logarithms of two probabilities"),
        ({"log_reference": np.array([0.0, -np.inf])}, "both actions some probability"),
        ({"omega": 0.0}, "omega must be positive"),
    ],
)
def test_mistakes_are_named(change, expected):
    given = {"labels": ("A", "C"), "log_policy": np.log([0.5, 0.5]), "log_reference": np.log([0.5, 0.5]), "omega": 1.0}
    with pytest.raises(ValueError, match=expected):
        TwoActions(**{**given, **change})


def test_only_so_many_borders():
    for exponents in ((), (0.0, 0.1, 0.2, 0.3, 0.4, 0.5), (1.5,)):
        with pytest.raises(ValueError, match="values of q"):
            two_actions("sets", CHOICE, exponents)
