"""The course of the run: one figure a curve, each with what trouble would look like."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from narrows.report.canvas import Picture
from narrows.report.content import History, ReportData, Search
from narrows.report.plots import Curve, curves, is_banded, is_wide_range
from narrows.report.statistics import finite, largest
from narrows.report.words import count, duration, listing, number, plural


@dataclass(frozen=True)
class RunView:
    """The section: sentences, curves, where the time went."""

    summary: tuple[str, ...]
    pictures: tuple[Picture, ...]
    timings: tuple[tuple[str, str], ...]


def run_view(data: ReportData) -> RunView | None:
    """Return the section's content, `None` without a history and a search."""
    if data.history is None and data.search is None:
        return None
    search = data.search or Search()
    timings = tuple((name, duration(seconds)) for name, seconds in search.timings.items())
    pictures = _pictures(data, data.history) if data.history is not None else ()
    empty = [picture.title.lower() for picture in pictures if picture.svg is None]
    summary = _summary(search, data.history)
    if empty:
        summary.append(f"Not drawn, because no finite value was logged: {listing(empty)}.")
    return RunView(tuple(summary), tuple(picture for picture in pictures if picture.svg is not None), timings)


def _summary(search: Search, history: History | None) -> list[str]:
    sentences = [f"The sampler was trained by {search.objective}."] if search.objective else []
    if search.num_steps is not None:
        of = f" of {count(search.planned_steps)} planned" if search.planned_steps else ""
        states = {"finished": "finished", "running": "was still going", "stopped": "was stopped", "unknown": "ended"}
        sentences.append(f"The run {states[search.status]} after {plural(search.num_steps, 'step')}{of}.")
    if search.num_sampled is not None:
        sentences.append(f"The sampler made {plural(search.num_sampled, 'object')}.")
    if search.seconds is not None:
        sentences.append(f"It computed for {duration(search.seconds)}.")
    speed = finite(history.steps_per_second) if history is not None else np.empty(0)
    if speed.size:
        sentences.append(f"Its median speed was {number(float(np.median(speed)))} steps a second.")
    return sentences


def _pictures(data: ReportData, history: History) -> tuple[Picture, ...]:
    drawn = (_loss(history), _scores(data, history), _distinct(history), _distance(data, history), _speed(history))
    return tuple(picture for picture, recorded in drawn if recorded)


def _loss(history: History) -> tuple[Picture, bool]:
    drawing = curves("loss", [Curve("loss", history.step, history.loss)], x="step", y="loss", log_y=True)
    axis = " The axis is logarithmic." if is_wide_range(history.loss) else ""
    band = " A band spans the lowest and the highest value of the steps that share a point." if is_banded(history.loss) else ""
    return Picture(
        "loss",
        "Loss",
        drawing,
        "How far the sampler is from the law it should follow. It should fall quickly and then flatten. Its level means "
        f"nothing by itself: it grows with the square of the inverse temperature.{band}{axis}",
        "A rise or a saw-tooth: the learning rate is too high. Flat from the start: nothing is learned.",
    ), len(history.loss) > 0


def _scores(data: ReportData, history: History) -> tuple[Picture, bool]:
    has_list = finite(history.list_score).size > 0
    lines = [
        Curve("ten best so far", history.step, history.top_score, "plum"),
        Curve("just sampled, mean", history.step, history.mean_score),
        *([Curve("a list of those so far, mean", history.step, history.list_score, "stone")] if has_list else []),
    ]
    best = largest(data.data.scores) if data.data is not None else None
    level, noun = None if best is None else ("best measurement", best), data.guide.noun
    drawing = curves("scores", [line for line in lines if len(line.y)], x="step", y=data.guide.score, level=level)
    return Picture(
        "scores",
        f"{data.guide.score.capitalize()} of what is sampled",
        drawing,
        "The mean should climb and level off below the ten best, which never fall."
        + (" The criterion is a list of what was seen so far; training can end when it moves no more." if has_list else "")
        + ("" if level is None else f" Where they pass the best measurement, the {noun} promises more than was ever measured."),
        "The mean meets the ten best: the sampler repeats a few objects."
        + (
            ""
            if level is None
            else f" Both far above every measurement: it may be exploiting the {noun}'s errors; narrows verify tells."
        ),
    ), len(history.mean_score) > 0 or len(history.top_score) > 0


def _distinct(history: History) -> tuple[Picture, bool]:
    lines = [Curve("distinct", history.step, history.num_distinct)]
    if len(history.num_sampled):
        lines.append(Curve("made, repeats counted", history.step, history.num_sampled, "stone", dashed=True))
    drawing = curves("distinct", lines, x="step", y="distinct objects seen", whole_y=True, from_zero=True)
    return Picture(
        "distinct",
        "Distinct objects",
        drawing,
        "How many different objects have been seen. It should keep climbing; the closer to the dashed line, the fewer repeats.",
        "A plateau: the sampler has collapsed onto a few objects, unless nearly all possible ones have been seen.",
    ), len(history.num_distinct) > 0


def _distance(data: ReportData, history: History) -> tuple[Picture, bool]:
    tested = largest(data.proxy.test_distance) if data.proxy is not None else None
    level = None if tested is None else ("furthest the proxy was tested", tested)
    line = Curve("sampled", history.step, history.distance_to_data)
    drawing = curves(
        "distance", [line], x="step", y=f"{data.distance.unit} to the nearest measurement", level=level, from_zero=True
    )
    return Picture(
        "distance",
        "Distance to the data",
        drawing,
        "How far what is sampled lies from the nearest measured sequence, on average. Higher is more novel"
        + (" and less certain." if data.guide.is_proxy else "."),
        "Falling to 0: it copies the data."
        + ("" if level is None else " Above the dashed line: the proxy was never tested that far out."),
    ), len(history.distance_to_data) > 0


def _speed(history: History) -> tuple[Picture, bool]:
    line = Curve("speed", history.step, history.steps_per_second)
    drawing = curves("speed", [line], x="step", y="steps a second", from_zero=True)
    return Picture(
        "speed",
        "Speed",
        drawing,
        "Training steps a second. The first point includes compiling.",
        "A slow decline: another program shares the machine, or the score is asked ever longer questions.",
    ), len(history.steps_per_second) > 0
