"""A problem ready to use: the operator, where to begin, and what is known of its solution."""

from collections.abc import Callable
from typing import NamedTuple

from narrows.vi.base import Params, Z
from narrows.vi.projections import Projection, everywhere
from narrows.vi.surrogate_loss import Predict


class Problem(NamedTuple):
    """A variational inequality in prediction space.

    Attributes:
        operator: F.
        start: predictions to begin at.
        solution: z*; None where it is not known.
        strength: mu with `<F(x) - F(y), x - y> >= mu ||x - y||^2`; 0 for an operator that is only monotone.
        lipschitz: L with `||F(x) - F(y)|| <= L ||x - y||`.
        project: on the set.
    """

    operator: Callable[[Z], Z]
    start: Z
    solution: Z | None
    strength: float
    lipschitz: float
    project: Projection = everywhere

    @property
    def safe_step_size(self) -> float:
        """`mu / L^2`, at which a forward step contracts by `sqrt(1 - mu^2 / L^2)` (surrogate 1)."""
        if not self.strength > 0:
            raise ValueError(
                "the operator is only monotone: no forward step is safe. Take extragradient or optimistic below 1 / lipschitz."
            )
        return self.strength / self.lipschitz**2


class HiddenProblem(NamedTuple):
    """A problem whose predictions come from a model: monotone in them, not in the parameters.

    Attributes:
        predict: parameters to predictions.
        params: to begin at.
        problem: in prediction space; its start is what `params` predict.
    """

    predict: Predict
    params: Params
    problem: Problem
