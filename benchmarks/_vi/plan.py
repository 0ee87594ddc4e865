"""How much each part does, in full and with --quick."""

from typing import NamedTuple

from benchmarks._vi import chain, contests, counterexamples, speed, torus


class Plan(NamedTuple):
    """What one run measures.

    Args:
        minmax: hidden games.
        torus: value prediction with a closed form.
        chain: the linear projected Bellman equation.
        counterexamples: where temporal differences diverge.
        speed: beside loops by hand.
        is_quick: whether the part on MuJoCo, which has plans of its own, takes its quick one.
    """

    minmax: contests.Effort
    torus: torus.Effort
    chain: chain.Effort
    counterexamples: counterexamples.Effort
    speed: speed.Effort
    is_quick: bool


FULL = Plan(contests.FULL, torus.FULL, chain.FULL, counterexamples.FULL, speed.FULL, is_quick=False)
QUICK = Plan(contests.QUICK, torus.QUICK, chain.QUICK, counterexamples.QUICK, speed.QUICK, is_quick=True)
