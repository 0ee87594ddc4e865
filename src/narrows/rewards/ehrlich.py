"""Ehrlich functions (Stanton et al. 2024, arXiv:2407.00236): closed-form landscapes of sequences with motifs and bans."""

import math
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from narrows.envs.base import AbstractEnvironment
from narrows.envs.sequence import Sequence, SequenceState
from narrows.rewards.base import AbstractReward
from narrows.sizes import Seed

MAX_EPISTASIS = 4.0
"""Above it, half a motif would score below 0: `4 h (1 - h)` is at most 1."""


class EhrlichFunction(AbstractReward):
    """The Ehrlich function of a given structure: how much of every motif is there, and 0 where a transition is banned.

        Phi(x) = prod_i g(max_l h(x, i, l)),    h(x, i, l) = floor(q / k #{j : x[l + s_ij] = a_ij}) / q
        g(h) = h (1 - epistasis h (1 - h))

    over the motifs `i` and the places `l` where motif `i` fits. An object with two neighbours that must not follow one
    another is infeasible. The largest value is 1, taken where all motifs are there whole, and some object has it: the motifs
    fit one behind the other, and the gaps are filled by repeating the letter before.

    `Ehrlich` draws such a structure from a seed. This class is for one that comes from elsewhere. `pytorch-holo` keeps the
    distances between neighbouring elements; their running sum from 0 is a row of `spacings`.

    Args:
        env: the `Sequence` environment, of one length.
        transitions: `[token, token]`, 0 or False where the second letter must not follow the first; probabilities or
            truth values. No repeat is banned, and every letter can be reached from every other: the chain is ergodic.
        motifs: `[motif, element]`, the tokens `a_ij`. Each may follow the one before, across the motifs too.
        spacings: `[motif, element]`, the distances `s_ij` from the motif's first element: 0 first, then rising.
        quantization: levels `q` that a motif's share is rounded down to, a divisor of the motif length `k`.
        epistasis: 0 to 4; how much less the elements of an incomplete motif are worth together than each for itself. Above 3
            a further element may lower the score.
        infeasible: the score of an infeasible object, at most 0.

    Raises ValueError for whatever of this does not hold.
    """

    is_allowed: Bool[Array, "token token"]
    motifs: Int[Array, "motif element"]
    spacings: Int[Array, "motif element"]
    levels: Float[Array, " count"]
    alphabet: str = eqx.field(static=True)
    length: int = eqx.field(static=True)
    infeasible: float = eqx.field(static=True)

    def __init__(
        self,
        env: AbstractEnvironment,
        *,
        transitions: Any,
        motifs: Any,
        spacings: Any,
        quantization: int,
        epistasis: float = 0.0,
        infeasible: float = 0.0,
    ) -> None:
        self.alphabet, self.length = _letters_and_length(env)
        structure = _Structure(np.asarray(transitions), np.asarray(motifs), np.asarray(spacings))
        _check_structure(structure, self.alphabet, self.length)
        if not -math.inf < infeasible <= 0.0:
            raise ValueError(
                f"infeasible must be finite and at most 0, the least score of a feasible object, got {infeasible}."
            )
        self.infeasible = float(infeasible)
        self.is_allowed = jnp.asarray(structure.transitions > 0)
        self.motifs, self.spacings = jnp.asarray(motifs, jnp.int32), jnp.asarray(spacings, jnp.int32)
        self.levels = jnp.asarray(_levels(structure.motifs.shape[1], quantization, epistasis), jnp.float32)

    def __call__(self, states: SequenceState) -> Float[Array, " batch"]:
        start = jnp.arange(self.length, dtype=jnp.int32)
        place = start[None, :, None] + self.spacings[:, None, :]
        # A motif that would reach past the end counts nowhere there, so what is read instead does not matter.
        fits, read = place[..., -1] < self.length, jnp.minimum(place, self.length - 1)

        def value(tokens: Int[Array, " length"]) -> Float[Array, ""]:
            count = jnp.sum(tokens[read] == self.motifs[:, None, :], axis=-1, dtype=jnp.int32)
            return jnp.prod(self.levels[jnp.max(jnp.where(fits, count, 0), axis=-1)])

        return jnp.where(self.is_feasible(states), jax.vmap(value)(states.tokens), self.infeasible)

    def is_feasible(self, states: SequenceState) -> Bool[Array, " batch"]:
        """Return whether no letter of each object follows one that it must not follow."""
        return jnp.all(self.is_allowed[states.tokens[:, :-1], states.tokens[:, 1:]], axis=-1)

    def optimum(self) -> str:
        """Return one object of value 1: the motifs in their order, each letter repeated up to the next element's place."""
        motifs, spacings = np.asarray(self.motifs), np.asarray(self.spacings)
        repeats = np.diff(spacings, axis=1, append=spacings[:, -1:] + 1)
        tokens = np.repeat(motifs.ravel(), repeats.ravel())
        tokens = np.pad(tokens, (0, self.length - len(tokens)), mode="edge")
        whole = SequenceState(jnp.asarray(tokens[None]), jnp.full(1, self.length), jnp.ones(1, bool))
        assert float(eqx.filter_jit(self)(whole)[0]) == 1.0, "the structure's checks let an unattainable optimum pass"
        return self._text(tokens)

    def sample_feasible(self, num: int, *, seed: int) -> list[str]:
        """Return `num` random feasible objects: walks from a uniform letter on, uniform over what may come next.

        Uniform objects are hopeless for this: of those with 32 letters out of 4, one in 7 500 is feasible by default.
        """
        generator, is_allowed = _generator(seed), np.asarray(self.is_allowed)
        tokens = generator.randint(len(self.alphabet), size=(num, 1))
        for _ in range(self.length - 1):
            tokens = np.append(tokens, _followers(generator, is_allowed, tokens[:, -1])[:, None], axis=1)
        return [self._text(row) for row in tokens]

    def _text(self, tokens: Int[np.ndarray, " length"]) -> str:
        return "".join(self.alphabet[token] for token in tokens)


class Ehrlich(AbstractReward):
    """An Ehrlich function (Stanton et al. 2024, arXiv:2407.00236) drawn from a seed: the truth to judge methods by.

    The value is the product over the motifs of how much of each is there, in steps of `1 / quantization`, and `infeasible`
    where a letter follows one that it must not follow; the largest value is 1 and attained (see `EhrlichFunction`, which is
    `function`). Phi is the value itself.

    The draw: a fifth of the letters, at least one, must not follow a letter; neither repeats nor a random cycle through all
    letters are among the banned. The motifs are one walk over allowed transitions without repeats, cut into pieces. Their
    spacings are uniform over all that fit into the length divided by the number of motifs. It is the authors' construction
    with other random numbers; theirs bans a band of letters, lets motifs repeat a letter and draws spacings otherwise.

    Args:
        env: the `Sequence` environment, of one length and with 3 letters at least.
        num_motifs: how many motifs there are, >= 1. More are harder.
        motif_length: elements of a motif, >= 1; all motifs together must fit into the length.
        quantization: levels of a motif's share, a divisor of `motif_length`. Fewer are harder: nothing shows progress between.
        epistasis: 0 to 4; how much less the elements of an incomplete motif are worth together than each for itself. Above 3
            a further element may lower the score.
        infeasible: the score of an infeasible object, at most 0.
        seed: seed of the draw; the same function on every machine and with every NumPy.

    >>> env = Sequence("ACGT", min_length=12, max_length=12)
    >>> reward = Ehrlich(env, motif_length=3, quantization=3)
    >>> reward.optimum()
    'CCCTTCAAGGGT'
    >>> texts = ["CCCTTCAAGGGT", "AAGCAGCAAAGC", "ATTGGGTTGTTG", "ACTTCAAGGGTT"]
    >>> print(np.asarray(reward(env.from_text(texts))).round(3))
    [1.    0.444 0.222 0.   ]
    """

    function: EhrlichFunction

    def __init__(
        self,
        env: AbstractEnvironment,
        *,
        num_motifs: int = 2,
        motif_length: int = 4,
        quantization: int = 4,
        epistasis: float = 0.0,
        infeasible: float = 0.0,
        seed: Seed = 0,
    ) -> None:
        alphabet, length = _letters_and_length(env)
        structure = _draw(_generator(seed), len(alphabet), length, num_motifs, motif_length)
        self.function = EhrlichFunction(
            env, **structure._asdict(), quantization=quantization, epistasis=epistasis, infeasible=infeasible
        )

    def __call__(self, states: SequenceState) -> Float[Array, " batch"]:
        return self.function(states)

    def is_feasible(self, states: SequenceState) -> Bool[Array, " batch"]:
        """Return whether no letter of each object follows one that it must not follow."""
        return self.function.is_feasible(states)

    def optimum(self) -> str:
        """Return one object of value 1; there may be others."""
        return self.function.optimum()


class _Structure(NamedTuple):
    """The structure of one function of the family: see the arguments of `EhrlichFunction`."""

    transitions: np.ndarray
    motifs: np.ndarray
    spacings: np.ndarray


def _letters_and_length(env: AbstractEnvironment) -> tuple[str, int]:
    if not isinstance(env, Sequence):
        raise ValueError(f"an Ehrlich function scores the objects of a Sequence environment, got {type(env).__name__}.")
    if env.min_length != env.max_length:
        raise ValueError(
            "an Ehrlich function scores sequences of one length, got an environment of "
            f"{env.min_length} to {env.max_length} letters. Set min_length = max_length."
        )
    return env.alphabet, env.max_length


def _generator(seed: int) -> np.random.RandomState:
    if not 0 <= seed < 2**32:
        raise ValueError(f"seed must be at least 0 and below 2**32, got {seed}.")
    # RandomState's stream is frozen for good, default_rng's is not.
    return np.random.RandomState(seed)


def _levels(motif_length: int, quantization: int, epistasis: float) -> Float[np.ndarray, " count"]:
    """Return what a motif contributes with 0, 1, .., `motif_length` elements in place."""
    if quantization < 1 or motif_length % quantization:
        # Rounding down to levels of unequal width is read in two ways; with the authors' program 1 is then out of reach.
        divisors = [str(number) for number in range(1, motif_length + 1) if motif_length % number == 0]
        raise ValueError(
            f"quantization must divide the motif length {motif_length}, got {quantization}: {', '.join(divisors)}."
        )
    if not 0.0 <= epistasis <= MAX_EPISTASIS:
        raise ValueError(f"epistasis must be 0 to {MAX_EPISTASIS:g}, got {epistasis}. A value below 0 or above 1 would follow.")
    share = np.arange(motif_length + 1) * quantization // motif_length / quantization
    return share * (1.0 - epistasis * share * (1.0 - share))


def _draw(generator: np.random.RandomState, num_tokens: int, length: int, num_motifs: int, motif_length: int) -> _Structure:
    for name, value in (("num_motifs", num_motifs), ("motif_length", motif_length)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}.")
    if num_motifs * motif_length > length:
        raise ValueError(
            f"{num_motifs} motifs of {motif_length} elements need {num_motifs * motif_length} letters, "
            f"got an environment of {length}. Lower num_motifs or motif_length, or lengthen the sequences."
        )
    if num_tokens < 3:
        raise ValueError(
            f"the alphabet must have 3 letters at least, got {num_tokens}: with fewer, no transition can be banned."
        )
    is_allowed = _draw_transitions(generator, num_tokens)
    walk = [generator.randint(num_tokens)]
    while len(walk) < num_motifs * motif_length:
        walk.extend(_followers(generator, is_allowed & ~np.eye(num_tokens, dtype=bool), np.array(walk[-1:])))
    room = length // num_motifs
    spacings = [np.sort(generator.permutation(room - 1)[: motif_length - 1]) + 1 for _ in range(num_motifs)]
    return _Structure(is_allowed, np.reshape(walk, (num_motifs, motif_length)), np.pad(spacings, ((0, 0), (1, 0))))


def _draw_transitions(generator: np.random.RandomState, num_tokens: int) -> Bool[np.ndarray, "token token"]:
    """Return which letter may follow which; repeats and one cycle through all letters always may, so the chain is ergodic."""
    order = generator.permutation(num_tokens)
    successor = np.empty(num_tokens, int)
    successor[order] = np.roll(order, -1)
    is_allowed = np.ones((num_tokens, num_tokens), bool)
    for token in range(num_tokens):
        others = np.setdiff1d(np.arange(num_tokens), (token, successor[token]))
        is_allowed[token, generator.permutation(others)[: max(1, num_tokens // 5)]] = False
    return is_allowed


def _followers(
    generator: np.random.RandomState, is_allowed: Bool[np.ndarray, "token token"], tokens: Int[np.ndarray, " walk"]
) -> Int[np.ndarray, " walk"]:
    """Return for each of some letters one that may follow it, each with the same probability."""
    # A draw of exactly 0 could make a banned letter the largest.
    draws = 1.0 - generator.random_sample((len(tokens), len(is_allowed)))
    return np.argmax(draws * is_allowed[tokens], axis=1)


def _check_structure(structure: _Structure, alphabet: str, length: int) -> None:
    _check_transitions(structure.transitions, alphabet)
    motifs, spacings = structure.motifs, structure.spacings
    for name, array in (("motifs", motifs), ("spacings", spacings)):
        if array.ndim != 2 or 0 in array.shape or not np.issubdtype(array.dtype, np.integer):
            raise ValueError(f"{name} must be whole numbers [motif, element], got {array.dtype} of shape {array.shape}.")
    if motifs.shape != spacings.shape:
        raise ValueError(f"motifs and spacings must have one shape, got {motifs.shape} and {spacings.shape}.")
    if motifs.min() < 0 or motifs.max() >= len(alphabet):
        raise ValueError(f"motifs must hold tokens 0 to {len(alphabet) - 1}, got {motifs.min()} to {motifs.max()}.")
    if (spacings[:, 0] != 0).any() or (np.diff(spacings, axis=1) < 1).any():
        raise ValueError(
            "each row of spacings must start with 0 and rise: the distances from the motif's first element, not from the one "
            f"before. Got {spacings.tolist()}."
        )
    needed = int((spacings[:, -1] + 1).sum())
    if needed > length:
        raise ValueError(f"the spaced motifs need {needed} letters one behind the other, got an environment of {length}.")
    walk = motifs.ravel()
    for first, second in zip(walk[:-1], walk[1:], strict=True):
        if not structure.transitions[first, second]:
            raise ValueError(
                f"the motifs, read one after the other, have {alphabet[second]!r} after {alphabet[first]!r}, which is banned: "
                "the optimum would be infeasible. Reorder or change the motifs, or allow that transition."
            )


def _check_transitions(transitions: np.ndarray, alphabet: str) -> None:
    num_tokens = len(alphabet)
    if transitions.shape != (num_tokens, num_tokens):
        raise ValueError(f"transitions must have shape {(num_tokens, num_tokens)}, a row a letter, got {transitions.shape}.")
    if not (np.isfinite(transitions).all() and (transitions >= 0).all()):
        raise ValueError("transitions must be finite and at least 0: probabilities or truth values.")
    is_allowed = transitions > 0
    if not is_allowed.diagonal().all():
        letter = alphabet[int(np.argmin(is_allowed.diagonal()))]
        raise ValueError(f"transitions bans {letter!r} after itself. Repeats fill the gaps of the optimum; allow them.")
    is_reached = is_allowed
    for _ in range(num_tokens.bit_length()):
        is_reached = is_reached @ is_reached
    if not is_reached.all():
        first, second = np.argwhere(~is_reached)[0]
        raise ValueError(
            f"transitions never leads from {alphabet[first]!r} to {alphabet[second]!r}; the chain must be ergodic."
        )
