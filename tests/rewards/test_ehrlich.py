"""Ehrlich functions against plain loops over whole spaces, their construction's promises, and the authors' program."""

import importlib
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tests.reference import ehrlich as reference

from narrows.config.schema import validate_fields
from narrows.envs import BitSequence, Sequence
from narrows.rewards.ehrlich import Ehrlich, EhrlichFunction

LETTERS = "ACGTNBDEFHIJKLMOPQRSUVWXYZ012345"


def fixed(num_letters, length):
    return Sequence(LETTERS[:num_letters], length, length)


def structure(function):
    return np.asarray(function.is_allowed), np.asarray(function.motifs), np.asarray(function.spacings)


def states_of(env, rows):
    return env.from_text(["".join(env.alphabet[token] for token in row) for row in rows])


def slow(function, rows, quantization, epistasis=0.0, infeasible=0.0):
    parts = structure(function)
    return [reference.value(row, *parts, quantization, epistasis, infeasible) for row in np.asarray(rows).tolist()]


evaluate = jax.jit(lambda reward, states: (reward(states), reward.is_feasible(states)))


MORE = pytest.mark.slow("compiles again; the others have more of everything between them")


@pytest.mark.parametrize(
    ("num_letters", "length", "fields"),
    [
        pytest.param(4, 6, {"num_motifs": 1, "motif_length": 4, "quantization": 4}, marks=MORE),
        (4, 6, {"num_motifs": 2, "motif_length": 3, "quantization": 3, "epistasis": 1.5}),
        pytest.param(4, 6, {"num_motifs": 1, "motif_length": 4, "quantization": 2, "epistasis": 3.7, "seed": 3}, marks=MORE),
        pytest.param(4, 6, {"num_motifs": 2, "motif_length": 3, "quantization": 1, "seed": 1}, marks=MORE),
        (3, 7, {"num_motifs": 3, "motif_length": 2, "quantization": 2, "epistasis": 4.0, "infeasible": -1.0, "seed": 2}),
        (5, 5, {"num_motifs": 4, "motif_length": 1, "quantization": 1, "seed": 4}),
    ],
)
def test_every_object_of_a_small_space_scores_as_the_loops_say(num_letters, length, fields):
    env = fixed(num_letters, length)
    reward = Ehrlich(env, **fields)
    rows = list(itertools.product(range(num_letters), repeat=length))
    states = states_of(env, rows)
    values, is_feasible = map(np.asarray, evaluate(reward, states))
    expected = slow(reward.function, rows, fields["quantization"], fields.get("epistasis", 0.0), fields.get("infeasible", 0.0))
    np.testing.assert_allclose(values, expected, atol=1e-6)
    allowed, motifs, spacings = structure(reward.function)
    np.testing.assert_array_equal(is_feasible, [reference.is_feasible(row, allowed) for row in rows])
    assert 0 < is_feasible.mean() < 1
    assert values.min() >= fields.get("infeasible", 0.0)
    # 1 is the largest value, and only the objects with every motif whole have it.
    pairs = list(zip(motifs.tolist(), spacings.tolist(), strict=True))
    whole = [all(reference.share(row, *pair, len(pair[0])) == 1 for pair in pairs) for row in rows]
    np.testing.assert_array_equal(values == 1.0, is_feasible & np.array(whole))
    assert values.max() == 1.0
    assert values[env.to_text(states).index(reward.optimum())] == 1.0


@pytest.mark.parametrize(
    ("num_letters", "length", "num_motifs", "motif_length"), [(4, 32, 4, 4), (20, 30, 3, 5), (3, 8, 2, 4), (32, 64, 8, 4)]
)
def test_the_construction_keeps_its_promises(num_letters, length, num_motifs, motif_length):
    env = fixed(num_letters, length)
    for seed in range(12):
        reward = Ehrlich(env, num_motifs=num_motifs, motif_length=motif_length, quantization=1, seed=seed)
        allowed, motifs, spacings = structure(reward.function)
        assert reference.is_ergodic(allowed)
        assert allowed.diagonal().all()
        np.testing.assert_array_equal((~allowed).sum(axis=1), max(1, num_letters // 5))
        walk = motifs.ravel()
        assert reference.is_feasible(walk.tolist(), allowed)
        assert (walk[1:] != walk[:-1]).all()
        assert motifs.shape == spacings.shape == (num_motifs, motif_length)
        assert not spacings[:, 0].any()
        assert (np.diff(spacings, axis=1) > 0).all()
        assert (spacings[:, -1] < length // num_motifs).all()
        assert slow(reward.function, [env.from_text([reward.optimum()]).tokens[0]], 1) == [1.0]


def test_spacings_are_uniform_over_those_that_fit():
    # 3 elements within 5 letters: the second and third stand at 2 of 4 places, 6 ways; 600 motifs, 100 each.
    found = [
        tuple(row)
        for seed in range(60)
        for row in structure(Ehrlich(fixed(4, 50), num_motifs=10, motif_length=3, quantization=3, seed=seed).function)[2]
    ]
    counts = [found.count((0, *rest)) for rest in itertools.combinations(range(1, 5), 2)]
    assert sum(counts) == 600
    # The upper 0.1% point of chi-square with 5 degrees of freedom is 20.5.
    assert sum((count - 100) ** 2 / 100 for count in counts) < 20.5


def test_a_seed_repeats_and_another_differs():
    env = fixed(4, 16)
    first, again, other = (structure(Ehrlich(env, seed=seed).function) for seed in (0, 0, 1))
    for left, right in zip(first, again, strict=True):
        np.testing.assert_array_equal(left, right)
    assert any((left != right).any() for left, right in zip(first, other, strict=True))


def test_a_seed_is_the_same_function_for_ever():
    # What the first version drew: a job's landscape must not change under its results.
    assert [Ehrlich(fixed(4, 16), seed=seed).optimum() for seed in (0, 1)] == ["CCTTCCAGGGTGGGCC", "TTTGGTCTTGGGGTGG"]
    assert Ehrlich(fixed(20, 24), num_motifs=3, seed=7).optimum() == "AAAFNNNQPOOOOHHKJJGREEEE"


def test_compiled_values_equal_eager_ones_and_another_seed_compiles_nothing():
    env, traces = fixed(4, 20), []

    @jax.jit
    def compiled(reward, states):
        traces.append(jax.tree.map(jnp.shape, states))
        folded = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf[::-1]]), states)
        return reward(states), jax.vmap(reward)(folded)

    for seed in range(2):
        reward = Ehrlich(env, epistasis=0.5, seed=seed)
        states = env.from_text([*reward.function.sample_feasible(5, seed=seed), reward.optimum(), "ACGTTGCAACGTTGCAACGT"])
        eager = reward(states)
        assert eager.shape == (7,)
        assert eager.dtype == jnp.float32
        assert not eager.weak_type
        for found, expected in zip(compiled(reward, states), (eager, [eager, eager[::-1]]), strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert len(traces) == 1


def test_feasible_walks_are_feasible_and_repeat():
    env = fixed(6, 25)
    function = Ehrlich(env, seed=2).function
    texts = function.sample_feasible(400, seed=3)
    assert texts == function.sample_feasible(400, seed=3)
    assert texts != function.sample_feasible(400, seed=4)
    states = env.from_text(texts)
    assert evaluate(function, states)[1].all()
    # Every allowed transition is met, about as often as the others that leave the same letter.
    tokens = np.asarray(states.tokens)
    steps = np.zeros((6, 6))
    np.add.at(steps, (tokens[:, :-1].ravel(), tokens[:, 1:].ravel()), 1)
    allowed = np.asarray(function.is_allowed)
    shares = steps / steps.sum(axis=1, keepdims=True)
    # Each row has 5 allowed letters and over 800 steps: five standard deviations of a share of 1/5 are below 0.071.
    assert steps.sum(axis=1).min() > 800
    np.testing.assert_allclose(shares, allowed / 5, atol=0.071)


def test_epistasis_punishes_incomplete_motifs_only():
    env = fixed(4, 12)
    plain, punished = Ehrlich(env, seed=5), Ehrlich(env, epistasis=2.0, seed=5)
    states = env.from_text([*plain.function.sample_feasible(300, seed=0), plain.optimum()])
    (before, _), (after, _) = (map(np.asarray, evaluate(reward, states)) for reward in (plain, punished))
    assert (after <= before).all()
    assert (after < before).any()
    assert after[-1] == before[-1] == 1.0


def test_a_job_table_is_the_constructor():
    table = validate_fields("reward", {"num_motifs": 1, "epistasis": 1, "seed": 4}, Ehrlich, ("env",))
    assert table["motif_length"] == table["quantization"] == 4
    reward = Ehrlich(fixed(4, 8), **table)
    assert reward.function.motifs.shape == (1, 4)
    with pytest.raises(ValueError, match="motifs.*unknown|unknown.*motifs"):
        validate_fields("reward", {"motifs": 1}, Ehrlich, ("env",))


HAND = {
    "transitions": [[0.5, 0.5, 0.0], [0.0, 0.9, 0.1], [1.0, 0.0, 1.0]],
    "motifs": [[0, 1], [2, 0]],
    "spacings": [[0, 2], [0, 1]],
    "quantization": 2,
}


def test_a_structure_by_hand():
    env = Sequence("ABC", 5, 5)
    function = EhrlichFunction(env, **HAND, epistasis=1.0, infeasible=-2.0)
    # A.B and CA. Half a motif is worth 1/2 (1 - 1/4) = 3/8.
    assert function.optimum() == "AABCA"
    expected = {"AABCA": 1.0, "CAABB": 1.0, "AAAAA": 0.375**2, "BBBBB": 0.0, "BCAAB": 1.0, "BBBCA": 0.375, "ACAAB": -2.0}
    np.testing.assert_allclose(evaluate(function, env.from_text(list(expected)))[0], list(expected.values()), atol=1e-6)


@pytest.mark.parametrize("num_letters", [2, 3, 7, 32])
def test_a_chain_that_is_ergodic_by_one_long_cycle_is_accepted(num_letters):
    cycle = np.eye(num_letters) + np.roll(np.eye(num_letters), 1, axis=1)
    assert reference.is_ergodic(cycle)
    function = EhrlichFunction(
        fixed(num_letters, 6), transitions=cycle, motifs=[[0, 1]], spacings=[[0, 3]], quantization=1, infeasible=0.0
    )
    assert function.optimum() == LETTERS[0] * 3 + LETTERS[1] * 3


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_motifs": 0}, "num_motifs must be at least 1, got 0"),
        ({"motif_length": 0}, "motif_length must be at least 1, got 0"),
        ({"num_motifs": 3}, "3 motifs of 4 elements need 12 letters, got an environment of 10"),
        ({"quantization": 3}, "must divide the motif length 4, got 3: 1, 2, 4"),
        ({"quantization": 0}, "must divide the motif length 4, got 0"),
        ({"quantization": 8}, "must divide the motif length 4, got 8"),
        ({"epistasis": -0.1}, "epistasis must be 0 to 4, got -0.1"),
        ({"epistasis": 4.1}, "epistasis must be 0 to 4, got 4.1"),
        ({"epistasis": math.nan}, "epistasis must be 0 to 4, got nan"),
        ({"infeasible": 0.1}, "infeasible must be finite and at most 0.*got 0.1"),
        ({"infeasible": -math.inf}, "infeasible must be finite and at most 0.*got -inf"),
        ({"seed": -1}, "seed must be at least 0"),
    ],
)
def test_bad_arguments_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        Ehrlich(fixed(4, 10), **fields)


@pytest.mark.parametrize(
    ("env", "message"),
    [
        (Sequence("ACGT", 5, 10), "one length, got an environment of 5 to 10 letters. Set min_length = max_length"),
        (BitSequence(16, 4), "objects of a Sequence environment, got BitSequence"),
        (Sequence("AC", 10, 10), "3 letters at least, got 2"),
    ],
)
def test_a_misfit_environment_is_refused(env, message):
    with pytest.raises(ValueError, match=message):
        Ehrlich(env)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"transitions": [[1, 1], [1, 1]]}, r"shape \(3, 3\), a row a letter, got \(2, 2\)"),
        ({"transitions": [[1, 1, 0], [0, 1, -1], [1, 0, 1]]}, "finite and at least 0"),
        ({"transitions": [[1, 1, 0], [0, 0, 1], [1, 0, 1]]}, "bans 'B' after itself"),
        ({"transitions": [[1, 1, 0], [1, 1, 0], [1, 0, 1]]}, "never leads from 'A' to 'C'"),
        ({"motifs": [[0, 1], [2, 3]]}, "motifs must hold tokens 0 to 2, got 0 to 3"),
        ({"motifs": [[0.0, 1.0], [2.0, 0.0]]}, "motifs must be whole numbers.*float64"),
        ({"motifs": [0, 1]}, r"motifs must be whole numbers.*shape \(2,\)"),
        ({"motifs": [[0, 1]]}, r"one shape, got \(1, 2\) and \(2, 2\)"),
        ({"motifs": [[0, 1], [0, 1]]}, "have 'A' after 'B', which is banned"),
        ({"motifs": [[0, 2], [0, 1]]}, "have 'C' after 'A', which is banned"),
        ({"spacings": [[0, 2], [1, 2]]}, "start with 0 and rise"),
        ({"spacings": [[0, 2], [0, 0]]}, "start with 0 and rise"),
        ({"spacings": [[0, 2], [0, 2]]}, "need 6 letters one behind the other, got an environment of 5"),
        ({"quantization": 4}, "must divide the motif length 2, got 4: 1, 2"),
    ],
)
def test_a_structure_without_the_promises_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        EhrlichFunction(Sequence("ABC", 5, 5), **{**HAND, **fields})


RECORDED = {
    "BBAFBDDDCCAAAA": 1.0,
    "BBAABDDDCCCAAA": 1.0,
    "BBAAADDDCCCAAA": 0.3125,
    "BBAADDDDCCAAAF": 0.3125,
    "BBAABDDECDCAAA": 0.3125,
    "FFFCCEBAFBECAB": 0.09765625,
    "ADEFBABADEBAAA": 0.09765625,
    "BBBADDDDCACAAA": 0.09765625,
    "ABABABABAABABA": 0.0,
    "BABABABAADABEB": 0.0,
    "BBAABDDDCCBAAA": -1.0,
    "BBBABDBDCCFAAA": -1.0,
    "BBAABDFACCAAAA": -1.0,
}
"""What pytorch-holo 0.0.5 says of `Ehrlich(6, 14, 2, 4, 2, epistasis_factor=1.5, random_seed=3)`; -1 for its -inf."""


def test_what_the_authors_program_said():
    banned = ["AE", "BC", "CB", "DF", "ED", "FA"]
    function = EhrlichFunction(
        Sequence("ABCDEF", 14, 14),
        transitions=[[first + second not in banned for second in "ABCDEF"] for first in "ABCDEF"],
        motifs=[[1, 0, 1, 3], [3, 2, 2, 0]],
        spacings=[[0, 2, 4, 5], [0, 2, 3, 4]],
        quantization=2,
        epistasis=1.5,
        infeasible=-1.0,
    )
    assert function.optimum() == "BBAABDDDCCAAAA"
    states = Sequence("ABCDEF", 14, 14).from_text(list(RECORDED))
    np.testing.assert_allclose(evaluate(function, states)[0], list(RECORDED.values()), atol=1e-6)


@pytest.mark.parametrize(
    ("num_letters", "length", "num_motifs", "motif_length", "quantization", "epistasis"),
    [(4, 16, 2, 4, 4, 0.0), (20, 30, 3, 4, 2, 0.0), (20, 32, 2, 6, 3, 1.3), (32, 64, 4, 4, 4, 3.5), (5, 7, 1, 3, 3, 0.7)],
)
def test_the_authors_program_agrees(num_letters, length, num_motifs, motif_length, quantization, epistasis):
    pytest.importorskip("holo", reason="pytorch-holo, the authors' program, is not installed")
    holo = importlib.import_module("holo.test_functions.closed_form")
    env = fixed(num_letters, length)
    for seed in range(3):
        theirs = holo.Ehrlich(
            num_letters, length, num_motifs, motif_length, quantization, epistasis_factor=epistasis, random_seed=seed
        )
        gaps = np.stack([spacing.numpy() for spacing in theirs.spacings])
        ours = EhrlichFunction(
            env,
            transitions=theirs.transition_matrix.numpy(),
            motifs=np.stack([motif.numpy() for motif in theirs.motifs]),
            spacings=np.pad(np.cumsum(gaps, axis=1), ((0, 0), (1, 0))),
            quantization=quantization,
            epistasis=epistasis,
            infeasible=-1.0,
        )
        rows = objects_to_compare(np.random.default_rng(seed), theirs, env, ours)
        expected = theirs.evaluate_true(theirs.motifs[0].new_tensor(rows)).numpy()
        values, is_feasible = map(np.asarray, evaluate(ours, states_of(env, rows)))
        np.testing.assert_array_equal(is_feasible, np.isfinite(expected))
        np.testing.assert_allclose(values, np.where(np.isfinite(expected), expected, -1.0), atol=1e-6)
        # The two programs' own optima, and many values between: the comparison is not one of zeros.
        assert expected[0] == expected[1] == 1.0
        assert len(np.unique(expected.round(4))) > 2


def objects_to_compare(generator, theirs, env, ours):
    """Return both optima, random objects, feasible walks, and the optimum with up to 4 letters changed to a neighbour's."""
    optima = [theirs.optimal_solution().tolist(), np.asarray(env.from_text([ours.optimum()]).tokens[0]).tolist()]
    random = generator.integers(env.num_tokens, size=(200, env.max_length)).tolist()
    walks = theirs.initial_solution(200).tolist()
    near = []
    for _ in range(600):
        row = list(optima[generator.integers(2)])
        for place in generator.integers(1, env.max_length, generator.integers(1, 5)):
            row[place] = row[place - 1] if generator.random() < 0.8 else int(generator.integers(env.num_tokens))
        near.append(row)
    return [*optima, *random, *walks, *near]
