"""The compiler of the solver: numba, which the extra `games` brings."""

from collections.abc import Callable
from typing import Any

try:
    import numba
except ImportError as missing:
    raise ImportError("the Connect-4 solver is compiled with numba. Install it with: pip install 'narrows[games]'") from missing


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function compiled at its first call, once for all processes where a folder to keep that in can be written."""
    try:
        return numba.njit(cache=True, nogil=True)(function)
    except RuntimeError:  # numba has found no folder that it can write
        return numba.njit(nogil=True)(function)
