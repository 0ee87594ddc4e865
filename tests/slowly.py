"""Cases of a law that only `make test-all` runs."""

from typing import Any

import pytest


def slowly(why: str, *cases: Any) -> list[Any]:
    """Return cases for `parametrize` that are marked slow; a tuple has a value for each argument."""
    return [pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=pytest.mark.slow(why)) for case in cases]
