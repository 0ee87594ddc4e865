"""Numbers of a column as they are shown."""

import numpy as np
import pytest

from narrows.selection.digits import digits, rounded, spread_of


@pytest.mark.parametrize("offset", [0.0, 1000.0, -1e7])
def test_a_column_is_rounded_number_by_number(offset):
    rng = np.random.default_rng(0)
    values = offset + np.concatenate([rng.normal(size=200) * 10.0 ** rng.integers(-6, 4, 200), [0.0, np.nan, 1.0, 999.9999]])
    slow = [float(f"{value:.{digits(value, spread_of(values))}g}") for value in values]
    np.testing.assert_array_equal(rounded(values), slow)
