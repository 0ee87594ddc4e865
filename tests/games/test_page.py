"""The page in a real browser: keys, clicks and touches, and what is seen."""

import re

import numpy as np
import pytest
from tests.games.browser import BINARY, browsing
from tests.games.tables import cells_server, running, small_server, told

from narrows.games.web import GameServer

pytestmark = [
    pytest.mark.skipif(BINARY is None, reason="no chromium, chromium-browser or google-chrome is installed here"),
    pytest.mark.slow("starts a browser; test_web.py has all that the server answers, and nothing else runs the page's script"),
]


@pytest.fixture(scope="module")
def server():
    with running(small_server()) as server:
        yield server


@pytest.fixture(scope="module")
def cells():
    with running(cells_server()) as server:
        yield server


@pytest.fixture(scope="module")
def tab():
    with browsing() as page:
        yield page


def opened(page, server, fragment="", width=1200, height=900):
    page.events.clear()
    page.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600)
    page.call("Page.navigate", url="about:blank")
    page.call("Page.navigate", url=f"{server.url}#{fragment}")
    page.wait("document.querySelector('#status')?.textContent.match(/Your move|win|draw/i)")


STONES = "[...document.querySelectorAll('.cell')].map(cell => cell.dataset.mark).join('')"
STATUS = "document.querySelector('#status').textContent"


def columns(page):
    """The stones column by column from the top, as the page has them."""
    return re.findall("....", page.look(STONES))


def no_complaints(page):
    """Nothing was blocked by the policy and no script failed; a refused move is an answer that the browser counts as one."""
    found = [event["params"] for event in page.events if event["method"] in ("Log.entryAdded", "Runtime.exceptionThrown")]
    return [one for one in found if "422" not in str(one)]


def test_keys_play_undo_and_begin_anew(tab, server):
    opened(tab, server, "moves=23")
    assert columns(tab) == ["....", "...x", "...o", "...."]
    tab.press("2")
    tab.wait("document.querySelectorAll('#moves li').length === 4")
    assert columns(tab) == ["...o", "..xx", "...o", "...."]
    assert tab.look("location.hash") == "#moves=2321&side=first" and tab.look(STATUS) == "left<b>most plays 1. Your move."
    tab.press("u")
    tab.wait("document.querySelectorAll('#moves li').length === 2")
    assert columns(tab) == ["....", "...x", "...o", "...."]
    # The arrows go from the last column that was played, and Enter plays where they are.
    tab.press("ArrowRight")
    tab.press("ArrowRight")
    assert tab.look("document.activeElement.dataset.move") == "4"
    assert tab.look("getComputedStyle(document.activeElement).outlineStyle") == "solid", "the focus can be seen"
    tab.press("Enter")
    tab.wait("document.querySelectorAll('#moves li').length === 4")
    assert columns(tab) == ["...o", "...x", "...o", "...x"]
    assert tab.look("document.activeElement.getAttribute('aria-label')") == "Column 4; from the bottom: you"
    tab.press("n")
    tab.wait("document.querySelectorAll('#moves li').length === 0")
    assert columns(tab) == ["...."] * 4 and no_complaints(tab) == []


def test_a_won_game_is_marked_and_a_mistake_is_explained(tab, server):
    opened(tab, server, "moves=2121")
    tab.click("[data-move='2']")
    tab.wait("document.querySelectorAll('#moves li').length === 6")
    tab.click("[data-move='2']")
    tab.wait(f"{STATUS} === 'You win with four in a row.'")
    assert tab.look("[...document.querySelectorAll('.wins')].map(cell => cell.parentElement.dataset.move).join('')") == "2222"
    opened(tab, server, "moves=111123")
    assert tab.look("document.querySelector('[data-move=\"1\"]').getAttribute('aria-disabled')") == "true"
    tab.click("[data-move='1']")
    tab.wait("!document.querySelector('#trouble').hidden")
    assert "1 cannot be played now: column 1 is full" in tab.look("document.querySelector('#trouble p').textContent")
    tab.click("[data-move='4']")
    tab.wait("document.querySelectorAll('#moves li').length === 8")
    assert tab.look("document.querySelector('#trouble').hidden")
    opened(tab, server, "moves=19")
    assert "Move 2: '9' is not a move" in tab.look("document.querySelector('#trouble p').textContent")
    assert columns(tab) == ["...."] * 4 and no_complaints(tab) == []


def test_the_network_and_the_solver_are_shown_when_asked(tab, server):
    opened(tab, server, "moves=1111")
    tab.click("#show-policy")
    tab.wait("!document.querySelector('.share').hidden")
    policy = told(server, "advice", "1111")[1]["policy"]
    shown = tab.look("[...document.querySelectorAll('.percent')].map(share => share.textContent)")
    assert shown == ["", *(f"{round(100 * share)}%" for share in policy.values())]
    heights = tab.look("[...document.querySelectorAll('.bar')].slice(1).map(bar => bar.getBoundingClientRect().height)")
    assert np.argmax(heights) == np.argmax(list(policy.values())) and min(heights) > 0
    assert tab.look("document.querySelector('#value').hidden")
    tab.press("v")
    tab.wait("!document.querySelector('#value').hidden")
    value = told(server, "advice", "1111")[1]["value"]
    assert f"{abs(value):.2f} for you" in tab.look("document.querySelector('#value p').textContent")
    tab.click("#solve")
    tab.wait("!document.querySelectorAll('.verdict')[1].hidden")
    assert tab.look("[...document.querySelectorAll('.verdict')].map(one => one.textContent.trim())") == [
        "", "wins in 6", "loses in 6", "draw"
    ]  # fmt: skip
    assert tab.look("document.querySelector('.verdict.best').parentElement.querySelector('.target').dataset.move") == "2"
    tab.press("n")
    tab.wait("document.querySelectorAll('#moves li').length === 0")
    assert tab.look("document.querySelector('.verdict').hidden"), "a verdict is about one position"
    tab.press("s")
    tab.wait("document.querySelector('#trouble p').textContent.startsWith('Too deep to solve here')")
    assert not tab.look("document.querySelector('#again').hidden") and no_complaints(tab) == []


def test_tic_tac_toe_by_touch_on_a_narrow_screen_as_the_second_player(tab, cells):
    tab.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-reduced-motion", "value": "reduce"}])
    opened(tab, cells, width=360, height=740)
    assert tab.look(STONES) == "x........", "the first player has moved"
    assert tab.look("document.documentElement.scrollWidth") == 360, "nothing sticks out"
    tab.touch("[data-move='5']")
    tab.wait("document.querySelectorAll('#moves li').length === 3")
    assert tab.look(STONES) == "xx..o...."
    assert tab.look("document.getAnimations().length") == 0, "nothing moves for who does not want it"
    tab.touch("input[value=first] + span")
    tab.wait("document.querySelectorAll('#moves li').length === 4")
    assert tab.look(STONES) == "xxo.o....", "the seats are swapped, and it is the other's turn"
    tab.press("7")
    tab.wait(f"{STATUS}.includes('move')")
    tab.press("ArrowDown")
    assert no_complaints(tab) == []


def test_a_server_that_has_gone_is_said_to_have_gone(tab, server):
    with running(GameServer(server.answers.table)) as other:
        opened(tab, other, "moves=21")
    tab.press("3")
    tab.wait("!document.querySelector('#trouble').hidden")
    assert "The server does not answer" in tab.look("document.querySelector('#trouble p').textContent")
    assert columns(tab) == ["...o", "...x", "....", "...."] and tab.look(STATUS).endswith("Your move.")
