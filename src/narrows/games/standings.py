"""The result of a tournament as a table for the terminal, as lines of JSON, and as a picture."""

import io
import json
from collections.abc import Iterator
from typing import Any

import numpy as np

from narrows.envs.game import AbstractGame
from narrows.games.tournament import COLOURS, Tournament, written

_ACCENT, _MUTED, _GRID = "#0b6a70", "#5c6869", "#e6e7e1"


def render(result: Tournament) -> str:
    """Return the ratings with intervals, and who has scored what against whom."""
    standings = result.standings()
    width = max(map(len, result.players))
    head = f"{'':>3} {'':<{width}}  {'Elo':>5}  {'95 %':>12}  {'score':>6}  {'won':>6} {'drawn':>6} {'lost':>6}"
    lines = [
        f"{place:>3} {row.name:<{width}}  {row.rating:>5.0f}  {row.interval.low:>5.0f} .. {row.interval.high:<4.0f}"
        f"  {row.score:>6.1%}  {row.wins:>6} {row.draws:>6} {row.losses:>6}"
        for place, row in enumerate(standings, start=1)
    ]
    order = [result.players.index(row.name) for row in standings]
    cells = [
        f"{'':>3} {result.players[one]:<{width}}  {result.players[other]:<{width}}  {score.mean:>6.1%}"
        f"  {score.interval.low:>6.1%} .. {score.interval.high:.1%}"
        for place, one in enumerate(order)
        for other in order[place + 1 :]
        for score in [result.score(one, other)]
    ]
    plies = result.openings.shape[1]
    return "\n".join(
        [
            f"{result.num_games} games: {len(result.openings)} openings of {plies} {'move' if plies == 1 else 'moves'}, each "
            f"with both colours, between every two of {len(result.players)} players; seed {result.seed}.",
            "",
            head,
            *lines,
            "",
            "Who has scored what against whom, per game (a win 1, a draw 1/2), with its 95 % interval:",
            "",
            *cells,
            "",
            "Elo by maximum likelihood, mean 1500; a weak prior keeps the rating of who has won or lost every game finite.",
        ]
    )


def json_lines(env: AbstractGame, result: Tournament) -> Iterator[str]:
    """Yield the tournament as lines of JSON: first itself, then each player, each pairing and each game."""
    rows, columns = env.board
    first = {"game": type(env).__name__, "board": [rows, columns], "players": result.players, "seed": result.seed}
    yield _line("tournament", **first, num_openings=len(result.openings), num_games=result.num_games)
    for row in result.standings():
        facts = {"name": row.name, "rating": row.rating, "low": row.interval.low, "high": row.interval.high}
        yield _line("player", **facts, wins=row.wins, draws=row.draws, losses=row.losses)
    for pairing in result.played:
        score = result.score(pairing.first, pairing.second)
        pair = [result.players[pairing.first], result.players[pairing.second]]
        interval = {"low": score.interval.low, "high": score.interval.high}
        yield _line("pairing", players=pair, num_games=pairing.points.size, score=score.mean, **interval)
    for pairing in result.played:
        pair = [result.players[pairing.first], result.players[pairing.second]]
        for opening, colour in np.ndindex(len(result.openings), COLOURS):
            points = float(pairing.points[opening, colour])
            facts = {"first": pair[colour], "second": pair[1 - colour], "points": points if colour == 0 else 1.0 - points}
            moves = written(env, pairing.moves[opening, colour])
            yield _line("game", **facts, moves=moves, num_opening_moves=result.openings.shape[1])


def picture(result: Tournament) -> str:
    """Return the ratings with their intervals as SVG text, the best player at the top."""
    import matplotlib as mpl  # a second that only a picture has use for
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    standings = result.standings()
    places = np.arange(len(standings))[::-1]
    middle = np.asarray([row.rating for row in standings])
    ends = np.asarray([row.interval for row in standings]).T
    with mpl.rc_context({"svg.hashsalt": "narrows", "svg.fonttype": "none", "font.size": 10, "text.parse_math": False}):
        figure = Figure(figsize=(6.4, 1.0 + 0.36 * len(standings)), layout="constrained")
        canvas, axes = FigureCanvasSVG(figure), figure.add_subplot()
        reach = np.maximum(np.abs(ends - middle), 0.0)
        axes.errorbar(middle, places, xerr=reach, fmt="o", color=_ACCENT, markersize=5, capsize=3, linewidth=1.5)
        for place, row in zip(places.tolist(), standings, strict=True):
            note = f"{row.rating:.0f}"
            axes.annotate(
                note, (row.rating, place), xytext=(0, 6), textcoords="offset points", ha="center", color=_MUTED, size=8
            )
        axes.set_yticks(places.tolist(), [row.name for row in standings])
        axes.set_ylim(-0.6, len(standings) - 0.3)
        axes.set_xlabel("Elo, with 95 % interval")
        axes.grid(axis="x", color=_GRID)
        axes.set_axisbelow(True)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(axis="y", length=0)
        buffer = io.StringIO()
        canvas.print_svg(buffer, metadata={"Date": None})
    return buffer.getvalue()


def _line(kind: str, **facts: Any) -> str:
    return json.dumps({"kind": kind, **facts})
