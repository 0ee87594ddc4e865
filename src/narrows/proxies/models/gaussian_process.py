"""Gaussian processes over sequences: a sum over letters or words, and what is alike scores alike."""

from typing import Any, NamedTuple, Self, final

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from narrows.data import Space
from narrows.proxies.features import AbstractFeatures, describe_all, described, read_features
from narrows.proxies.models.base import AbstractModel, Lesson
from narrows.proxies.warps import AbstractWarp, Identity, candidates, read_warp

_MOST_ROWS = 2_500
"""Rows that a prediction compares with; of more, some are drawn."""
_MOST_FOR_STD = 512
"""Rows that the standard deviation knows of: fewer make it larger, and calibration finds by how much."""
_MOST_FOR_STRENGTHS = 384
"""Rows on which the strengths are found."""
_SMALL = 1_000
"""Rows whose matrices are done sooner by one thread than by several that wait for one another."""
_JITTER = 1e-6


class Strengths(NamedTuple):
    """The hyperparameters of a Gaussian process, natural logarithms, and the scale of its scores.

    k(x, y) = sum_g e^{linear_g} <f_g, f'_g> + e^{local} exp(-1/2 sum_g e^{near_g} |f_g - f'_g|^2) + e^{noise} [x is y]
    """

    linear: Float[np.ndarray, " group"]
    local: float
    near: Float[np.ndarray, " group"]
    noise: float
    warp: AbstractWarp


@final
class GaussianProcess(AbstractModel):
    """Predict by a Gaussian process whose kernel is a sum of linear ones and, unless it is plain regression, one local one.

    Args:
        features: numbers that describe a sequence.
        warp: from the standardised score to the scale on which it is Gaussian.
        centre: mean of the numbers; `offset` the mean of the warped scores.
        linear: factor of each number in the linear part, and `weights` what it counts there.
        near: factor of each number in the local part, whose amplitude is `amplitude`.
        anchors: numbers of the rows, and `alpha` what each counts in the local part; `whiten` whitens the first rows of them.
        noise: variance of the error of measurement.
    """

    features: AbstractFeatures
    warp: AbstractWarp
    centre: Float[Array, " feature"]
    offset: Float[Array, ""]
    linear: Float[Array, " feature"]
    weights: Float[Array, " feature"]
    near: Float[Array, " feature"]
    amplitude: Float[Array, ""]
    anchors: Float[Array, "row feature"]
    alpha: Float[Array, " row"]
    whiten: Float[Array, "some some"]
    noise: Float[Array, ""]
    is_local: bool = eqx.field(static=True)

    def __call__(self, tokens: Int[Array, "batch length"]) -> tuple[Float[Array, " batch"], Float[Array, " batch"]]:
        numbers = self.features(tokens) - self.centre
        mean = self.offset + numbers @ self.weights
        if self.is_local:
            mean = mean + self._local(numbers, self.anchors) @ self.alpha
        return self.warp.back(mean, self._std(numbers))

    def _local(self, numbers: Float[Array, "batch feature"], rows: Float[Array, "row feature"]) -> Float[Array, "batch row"]:
        here, there = numbers * self.near, rows * self.near
        squares = jnp.sum(here**2, axis=1)[:, None] + jnp.sum(there**2, axis=1) - 2.0 * here @ there.T
        return self.amplitude * jnp.exp(-0.5 * jnp.maximum(squares, 0.0))

    def _std(self, numbers: Float[Array, "batch feature"]) -> Float[Array, " batch"]:
        rows = self.anchors[: len(self.whiten)]
        scaled = numbers * self.linear
        known = scaled @ (rows * self.linear).T
        total = jnp.sum(scaled**2, axis=1)
        if self.is_local:
            known, total = known + self._local(numbers, rows), total + self.amplitude
        explained = jnp.sum((known @ self.whiten.T) ** 2, axis=1)
        return jnp.sqrt(jnp.maximum(total - explained, 0.0) + self.noise)

    def described(self) -> dict[str, Any]:
        return {
            "features": described(self.features),
            "warp": self.warp.described(),
            "rows": len(self.anchors),
            "rows_for_std": len(self.whiten),
            "is_local": self.is_local,
        }

    @classmethod
    def blank(cls, plain: dict[str, Any], space: Space) -> Self:
        match plain:
            case {
                "features": dict(one),
                "warp": dict(warp),
                "rows": int(rows),
                "rows_for_std": int(some),
                "is_local": bool(local),
            }:
                features = read_features(one, len(space.alphabet), space.max_length)
            case _:
                raise ValueError("this is no Gaussian process")
        if not 0 < some <= rows <= _MOST_ROWS or not isinstance(local, bool):
            raise ValueError(f"a Gaussian process has 1 to {_MOST_ROWS} rows")
        one, each, row = jnp.zeros(()), jnp.zeros(features.num), jnp.zeros(rows)
        anchors, whiten = jnp.zeros((rows, features.num)), jnp.zeros((some, some))
        return cls(features, read_warp(warp), each, one, each, each, each, one, anchors, row, whiten, one, local)


def find_strengths(features: AbstractFeatures, lesson: Lesson, *, is_local: bool, is_warped: bool) -> Strengths:
    """Return the hyperparameters and the scale of scores under which the rows are likeliest, with weak priors.

    Scales are compared under one strength for all groups, by the likelihood of the scores as they are.
    """
    from threadpoolctl import threadpool_limits

    rows = np.random.default_rng(lesson.seed).permutation(len(lesson.scores))[:_MOST_FOR_STRENGTHS]
    some = lesson.at(rows)
    warps = candidates(some.scores) if is_warped else [Identity()]
    with threadpool_limits(1):
        parts = _Parts.of(features, some, is_local)
        found = []
        for warp in warps:
            warped, log_slope = warp.there(some.scores)
            strengths, log_likelihood = parts.ascend(warped, warp, is_shared=len(warps) > 1)
            found.append((log_likelihood + log_slope.sum(), -len(found), strengths))
        best = max(found, key=lambda one: one[:2])[2]
        if len(warps) == 1 or not is_local:
            return best
        return parts.ascend(best.warp.there(some.scores)[0], best.warp, start=best)[0]


def regress(
    features: AbstractFeatures, lesson: Lesson, strengths: Strengths, is_local: bool, num_rows: int | None = None
) -> GaussianProcess:
    """Return the Gaussian process of given hyperparameters that has seen some rows.

    Its arrays are filled up with zeros, which change nothing, as if there were `num_rows`.
    """
    from threadpoolctl import threadpool_limits

    rows = np.random.default_rng(lesson.seed).permutation(len(lesson.scores))[:_MOST_ROWS]
    seen = lesson.at(rows)
    numbers = describe_all(features, seen.tokens)
    centre = numbers.mean(axis=0)
    numbers = numbers - centre
    linear = np.exp(0.5 * strengths.linear)[features.groups]
    near = np.exp(0.5 * strengths.near)[features.groups] if is_local else np.zeros(features.num)
    amplitude = float(np.exp(strengths.local)) if is_local else 0.0
    scaled = numbers * linear
    kernel = scaled @ scaled.T
    if is_local:
        kernel += amplitude * np.exp(-0.5 * _squares(numbers * near))
    noise = float(np.exp(strengths.noise))
    kernel[np.diag_indices_from(kernel)] += noise * seen.noise + _JITTER
    targets = strengths.warp.there(seen.scores)[0]
    some = min(len(targets), _MOST_FOR_STD)
    with threadpool_limits(1 if len(targets) <= _SMALL else None):
        lower = np.linalg.cholesky(kernel)
        # A constant that nothing is known of: generalised least squares.
        ones = np.linalg.solve(kernel, np.ones(len(targets)))
        offset = float(ones @ targets / ones.sum())
        alpha = np.linalg.solve(kernel, targets - offset)
        whiten = np.linalg.inv(lower[:some, :some])
    room = min(max(num_rows or 0, len(targets)), _MOST_ROWS)
    numbers, alpha = np.pad(numbers, ((0, room - len(targets)), (0, 0))), np.pad(alpha, (0, room - len(targets)))
    whiten = np.pad(whiten, (0, min(room, _MOST_FOR_STD) - some))
    weights = linear**2 * (numbers.T @ alpha)

    def single(part: Any) -> Array:
        return jnp.asarray(part, jnp.float32)

    return GaussianProcess(
        features=features,
        warp=strengths.warp,
        centre=single(centre),
        offset=single(offset),
        linear=single(linear),
        weights=single(weights),
        near=single(near),
        amplitude=single(amplitude),
        anchors=single(numbers),
        alpha=single(alpha),
        whiten=single(whiten),
        noise=single(noise),
        is_local=is_local,
    )


def _squares(numbers: Float[np.ndarray, "row feature"]) -> Float[np.ndarray, "row row"]:
    norms = (numbers**2).sum(axis=1)
    return np.maximum(norms[:, None] + norms - 2.0 * numbers @ numbers.T, 0.0)


class _Parts(NamedTuple):
    """The matrices that a kernel of some rows is made of."""

    products: Float[np.ndarray, "group row row"]
    squares: Float[np.ndarray, "group row row"] | None
    noise: Float[np.ndarray, " row"]
    usual: Float[np.ndarray, " group"]
    usual_near: Float[np.ndarray, " group"]

    @classmethod
    def of(cls, features: AbstractFeatures, lesson: Lesson, is_local: bool) -> "_Parts":
        numbers = describe_all(features, lesson.tokens)
        numbers = numbers - numbers.mean(axis=0)
        groups = range(int(features.groups.max()) + 1)
        each = [numbers[:, features.groups == group] for group in groups]
        products = np.stack([part @ part.T for part in each])
        traces = np.maximum([np.trace(product) / len(numbers) for product in products], 1e-9)
        squares = np.stack([_squares(part) for part in each]) if is_local else None
        # Before anything is known a third of the variance is each part's, and rows are a unit apart.
        usual = np.log(1.0 / (3.0 * len(traces) * traces))
        return cls(products, squares, lesson.noise, usual, np.log(0.5 / (len(traces) * traces)))

    def ascend(
        self, targets: Float[np.ndarray, " row"], warp: AbstractWarp, *, is_shared: bool = False, start: Strengths | None = None
    ) -> tuple[Strengths, float]:
        """Return the strengths of the highest posterior density, and the log-likelihood there; shared: one for all groups."""
        from scipy.linalg import lapack
        from scipy.optimize import minimize

        num, spread = len(self.products), float(targets.var()) or 1.0
        centred = (targets - targets.mean()) / spread**0.5
        local = self.squares is not None
        # What is free: a shift of all linear strengths or each, the local amplitude, the same of nearness, the noise.
        width = 1 if is_shared else num
        middle = np.concatenate([np.zeros(width), [-1.1] if local else [], np.zeros(width) if local else [], [-1.1]])
        wide = np.concatenate([np.full(width, 2.0), [1.5] if local else [], np.full(width, 1.5) if local else [], [1.5]])
        first = middle
        if start is not None:
            parts = [start.linear - np.log(spread) - self.usual, [start.local - np.log(spread)], start.near - self.usual_near]
            first = np.concatenate([*parts, [start.noise - np.log(spread)]])

        def unpack(free: np.ndarray) -> tuple[np.ndarray, float, np.ndarray, float]:
            if not local:
                return self.usual + free[:width], -np.inf, self.usual_near, free[-1]
            return self.usual + free[:width], free[width], self.usual_near + free[width + 1 : -1], free[-1]

        def cost(free: np.ndarray) -> tuple[float, np.ndarray]:
            linear, amplitude, near, noise = unpack(free)
            pieces = np.exp(linear)[:, None, None] * self.products
            kernel = pieces.sum(axis=0)
            scaled = None if self.squares is None else np.exp(near)[:, None, None] * self.squares
            gauss = None if scaled is None else np.exp(amplitude - 0.5 * scaled.sum(axis=0))
            if gauss is not None:
                kernel = kernel + gauss
            error = np.exp(noise) * self.noise
            kernel[np.diag_indices_from(kernel)] += error + _JITTER
            factor, failed = lapack.dpotrf(kernel, lower=True, overwrite_a=True)  # pyright: ignore[reportAttributeAccessIssue] (made when it is loaded)
            if failed:
                return 1e10, np.zeros_like(free)
            log_det = 2.0 * np.log(np.diag(factor)).sum()
            half = np.tril(lapack.dpotri(factor, lower=True, overwrite_c=True)[0])  # pyright: ignore[reportAttributeAccessIssue]
            inverse = half + np.tril(half, -1).T
            alpha = inverse @ centred
            pull = inverse - np.outer(alpha, alpha)
            by_group = 0.5 * np.einsum("gij,ij->g", pieces, pull)
            slopes = [np.array([by_group.sum()]) if is_shared else by_group]
            if scaled is not None and gauss is not None:
                slopes.append(np.array([0.5 * (pull * gauss).sum()]))
                by_near = -0.25 * np.einsum("gij,ij->g", scaled, pull * gauss)
                slopes.append(np.array([by_near.sum()]) if is_shared else by_near)
            slopes.append(np.array([0.5 * (np.diag(pull) * error).sum()]))
            value = 0.5 * float(centred @ alpha + log_det)
            return value + 0.5 * float((((free - middle) / wide) ** 2).sum()), np.concatenate(slopes) + (
                free - middle
            ) / wide**2

        bounds = list(zip(middle - 6.0, middle + 6.0, strict=True))
        best = minimize(cost, first, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 40})
        linear, amplitude, near, noise = unpack(best.x)
        log_spread = np.log(spread)
        all_near = np.broadcast_to(near, num).copy()
        strengths = Strengths(
            np.broadcast_to(linear, num) + log_spread, amplitude + log_spread, all_near, noise + log_spread, warp
        )
        size = len(targets)
        return strengths, -float(best.fun) - 0.5 * size * (np.log(2.0 * np.pi) + log_spread)
