"""Noise from a file: the law that is written is the law that comes, and every mistake is named with its row."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from narrows.data import DataError
from narrows.envs import BitSequence, Hypergrid, Sequence, perturbed
from narrows.envs.check import ContractError, check_chance
from narrows.noise import Matrix, Table

ENV = Sequence("AC", 1, 3)
GOOD = "asked,came,probability\nA,A,0.9\nA,C,0.1\nC,C,1\n"


def write(tmp_path, text):
    path = tmp_path / "noise.csv"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return str(path)


def state_of(env, text):
    """Return the state in which these letters have been appended."""
    state = env.reset()
    for letter in text:
        state = env.step(state, jnp.asarray(env.alphabet.index(letter), jnp.int32))
    return state


def law_of(kernel, state, num_actions):
    together = np.exp(np.asarray(kernel.all_log_probs(state)))
    apart = [np.exp(np.asarray(kernel.log_probs(state, jnp.asarray(asked)))) for asked in range(num_actions)]
    np.testing.assert_array_equal(together, np.stack(apart))
    return together


@pytest.mark.parametrize("text", ["", "C", "CA"])
def test_one_law_holds_wherever_a_letter_may_be_appended(tmp_path, text):
    law = law_of(Table(ENV, write(tmp_path, GOOD)), state_of(ENV, text), 3)
    np.testing.assert_allclose(law, [[0.9, 0.1, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]], atol=1e-7)


def test_each_position_may_have_a_law_of_its_own(tmp_path):
    rates = {1: 0.0, 2: 0.5, 3: 0.125}
    rows = [
        f"{asked}\t{1 - rate if asked == came else rate}\t{position}\t{came}\tnote"
        for (position, rate), asked, came in itertools.product(rates.items(), "AC", "AC")
    ]
    kernel = Table(ENV, write(tmp_path, "Asked\tprobability\tPosition\tcame \tother\n" + "\n".join(reversed(rows))))
    for position, text in enumerate(["", "A", "CC"], start=1):
        stays, goes = 1 - rates[position], rates[position]
        expected = [[stays, goes, 0.0], [goes, stays, 0.0], [0.0, 0.0, 1.0]]
        np.testing.assert_allclose(law_of(kernel, state_of(ENV, text), 3), expected, atol=1e-7)
    check_chance(perturbed(ENV, kernel))


def test_rows_are_normalised_exactly(tmp_path):
    text = "asked;came;probability\nA;A;0.3333333\nA;C;0.6666666\n\n C ; C ;1\n"
    law = np.asarray(Table(ENV, write(tmp_path, text)).all_log_probs(ENV.reset()), np.float64)
    np.testing.assert_allclose(np.exp(law[0, :2]), [0.3333333 / 0.9999999, 0.6666666 / 0.9999999], atol=2e-8)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            ("A,C,0.1", "A,C,0.03"),
            r"row 2, column 'probability': the probabilities of asked 'A' \(rows 2 and 3\) sum to 0.93",
        ),
        (("C,C,1", "C,C,1.00001"), r"row 4, column 'probability': .* 'C' \(row 4\) sum to 1.00001. Expected 1"),
        (("A,A,0.9", "A,A,-0.9"), r"row 2, column 'probability': '-0.9' is negative"),
        (("A,A,0.9", "A,A,nan"), r"row 2, column 'probability': 'nan' is not finite"),
        (("A,A,0.9", "A,A,1e999"), r"row 2, column 'probability': '1e999' is not finite"),
        (("A,A,0.9", "A,A,most"), r"row 2, column 'probability': 'most' is not a number"),
        (("A,A,0.9", "A,A,"), r"row 2, column 'probability': '' is not a number"),
        (("A,A,0.9", "A,A,0_9"), r"row 2, column 'probability': '0_9' is not a plain number"),
        (("A,C,0.1", "A,G,0.1"), r"row 3, column 'came': 'G' is not a letter of the environment, which has 'AC'"),
        (("C,C,1", "CC,C,1"), r"row 4, column 'asked': 'CC' is not a letter"),
        (("C,C,1", ",C,1"), r"row 4, column 'asked': '' is not a letter"),
        (("A,C,0.1", "A,A,0.1"), r"row 3, column 'came': this pair is on row 2 too"),
        (("C,C,1\n", ""), r"noise.csv: no row has asked 'C'. Add what comes then, or C,C,1 for"),
        (("C,C,1", "C,C"), r"row 4: 2 cells where the header has 3"),
        (("C,C,1", '"C,C,1'), r"row 4: a quote opens here and never closes"),
        (("came", "got"), r"row 1: the first line is 'asked,got,probability'. Expected a header with the columns asked, came"),
        (("came", "asked"), r"row 1: the first line"),
        (("asked,came,probability\n", "asked,came,probability,came\n"), r"row 1: 2 columns are called 'came'. Keep one"),
        ((GOOD, "asked,came,probability\n\n"), r"row 1: there is a header and no row after it"),
        ((GOOD, " \n"), r"the file is empty"),
        ((GOOD, ",,\n"), r"separators and nothing else"),
    ],
)
def test_mistakes_are_named_with_their_row(tmp_path, change, expected):
    with pytest.raises(DataError, match=expected):
        Table(ENV, write(tmp_path, GOOD.replace(*change)))


def test_bytes_that_are_no_text_and_missing_files_are_named(tmp_path):
    with pytest.raises(DataError, match=r"row 3: byte 0xE9 at position 3 of the line is not UTF-8"):
        Table(ENV, write(tmp_path, GOOD.encode().replace(b"A,C", b"A,\xe9")))
    with pytest.raises(DataError, match="none.csv: no such file"):
        Table(ENV, str(tmp_path / "none.csv"))


def test_positions_are_checked_too(tmp_path):
    header, row = "asked,came,probability,position\n", "{0},{0},1,{1}\n"
    rows = [row.format(letter, position) for letter in "AC" for position in (1, 2, 3)]
    Table(ENV, write(tmp_path, header + "".join(rows)))
    with pytest.raises(DataError, match=r"no row has asked 'C' at position 3. Add .* C,C,1,3 for"):
        Table(ENV, write(tmp_path, header + "".join(rows[:-1])))
    for wrong in ("0", "4", "1.0", ""):
        with pytest.raises(DataError, match=f"row 8, column 'position': expected a whole number from 1 to 3.* got '{wrong}'"):
            Table(ENV, write(tmp_path, header + "".join(rows) + f"A,C,0,{wrong}\n"))
    with pytest.raises(DataError, match=r"asked 'C' at position 3 \(row 7\) sum to 0.5"):
        Table(ENV, write(tmp_path, header + "".join(rows[:-1]) + "C,C,0.5,3\n"))


def test_every_mistake_is_listed_up_to_a_bound(tmp_path):
    with pytest.raises(DataError) as error:
        Table(ENV, write(tmp_path, GOOD + "X,Y,2\n" * 30))
    assert len(error.value.findings) == 60
    assert "row 5, column 'asked'" in str(error.value) and str(error.value).endswith("and 55 more of the kind bad_symbol")


def test_a_table_needs_letters():
    with pytest.raises(ValueError, match=r"a Table perturbs the letters of a Sequence environment, got Hypergrid.*Matrix"):
        Table(Hypergrid(), "noise.csv")


# The same law from an array.


def test_a_matrix_gives_its_rows_in_every_state():
    env = BitSequence(4, 2)
    law = np.eye(5)
    law[1] = [0.25, 0.5, 0.25, 0.0, 0.0]
    kernel = Matrix(env, law)
    np.testing.assert_allclose(law_of(kernel, env.reset(), 5), law, atol=1e-7)
    check_chance(perturbed(env, kernel))


@pytest.mark.parametrize(
    ("law", "expected"),
    [
        ([[1.0, 0.0], [0.0, 1.0]], r"probs must have shape \(3, 3\), actions by actions, got \(2, 2\)"),
        ([[1.0, 0.0, 0.0], [0.0, 0.93, 0.0], [0.0, 0.0, 1.0]], r"row 1 of probs sums to 0.93, expected 1"),
        ([[1.1, -0.1, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]], r"probs\[0, 1\] is -0.1. A probability must be finite"),
        ([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, float("nan")]], r"probs\[2, 2\] is nan"),
        ([[1.0, 0.0, 0.0], [0.0, float("inf"), 0.0], [0.0, 0.0, 1.0]], r"probs\[1, 1\] is inf"),
    ],
)
def test_a_wrong_matrix_is_refused(law, expected):
    with pytest.raises(ValueError, match=expected):
        Matrix(ENV, law)


def test_a_matrix_whose_outcomes_are_not_always_legal_is_found_by_the_check():
    env = Hypergrid(2, 3)
    kernel = Matrix(env, [[1.0, 0.0, 0.0], [0.1, 0.9, 0.0], [0.0, 0.0, 1.0]])
    found = r"after asking for action 1, outcome 0 is not legal and has probability 0.1\."
    with pytest.raises(ContractError, match=found) as error:
        check_chance(perturbed(env, kernel))
    state = jax.tree.map(np.asarray, error.value.state)
    assert state.asked == 1 and state.inner.coordinates[0] == 2


def test_a_first_line_that_names_the_separator_is_no_row(tmp_path):
    semicolons = "sep=;\r\n" + GOOD.replace(",", ";").replace("\n", "\r\n")
    np.testing.assert_array_equal(
        Table(ENV, write(tmp_path, semicolons)).log_table, Table(ENV, write(tmp_path, GOOD)).log_table
    )
    with pytest.raises(DataError, match="row 6, column 'asked'"):
        Table(ENV, write(tmp_path, semicolons + "X;A;1\r\n"))
