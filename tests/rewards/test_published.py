"""T10 of the specification, the published proxies: the scale from validation outputs, the letters of design-bench."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from narrows.data import space
from narrows.envs import Subsets
from narrows.rewards import PairwiseSubsets
from narrows.rewards.published import DESIGN_BENCH_PROTEIN, Standardised, from_design_bench, to_design_bench

ENV = Subsets(4)
RAW = PairwiseSubsets(ENV)
VALIDATION = ENV.from_text(["0000", "1000", "0110", "1111"])


def test_t10_the_scale_is_that_of_the_validation_outputs():
    scaled = Standardised(RAW, VALIDATION)
    outputs = np.asarray(scaled(VALIDATION))
    assert np.allclose([outputs.mean(), outputs.std()], [0.0, 1.0], atol=1e-6)
    other = ENV.from_text(["0101"])
    raw = np.asarray(RAW(VALIDATION), np.float64)
    assert np.allclose(scaled(other), (np.asarray(RAW(other)) - raw.mean()) / raw.std(), atol=1e-6)


def test_outputs_that_do_not_differ_have_no_scale():
    with pytest.raises(ValueError, match="must be finite and differ"):
        Standardised(RAW, ENV.from_text(["0110", "0110"]))


def test_design_bench_has_all_amino_acids_in_an_order_of_its_own():
    assert sorted(DESIGN_BENCH_PROTEIN) == list(space("protein").alphabet)
    assert DESIGN_BENCH_PROTEIN != space("protein").alphabet
    # alanine, arginine, asparagine, aspartate: by name, where the letters are A, R, N, D
    assert from_design_bench(np.arange(4)[None]) == ["ARND"]


@given(st.lists(st.text(DESIGN_BENCH_PROTEIN, min_size=5, max_size=5), min_size=1, max_size=4))
def test_t10_the_letter_permutation_comes_back(sequences):
    assert from_design_bench(to_design_bench(sequences)) == sequences


def test_numbers_and_letters_out_of_range_are_named():
    with pytest.raises(ValueError, match="from 0 to 19, got 3 to 20"):
        from_design_bench(np.array([[3, 20]]))
    with pytest.raises(ValueError, match="no amino acids: B, Z"):
        to_design_bench(["ABZ"])
    assert jnp.asarray(to_design_bench(["AV"])).tolist() == [[0, 19]]
