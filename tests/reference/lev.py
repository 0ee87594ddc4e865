"""Levenshtein distance as everybody learns it, in plain loops."""

from collections.abc import Sequence


def levenshtein(first: Sequence, second: Sequence) -> int:
    """Return the fewest insertions, deletions and substitutions that turn `first` into `second`."""
    previous = list(range(len(second) + 1))
    for row, left in enumerate(first, start=1):
        current = [row]
        for column, right in enumerate(second, start=1):
            current.append(min(previous[column] + 1, current[-1] + 1, previous[column - 1] + (left != right)))
        previous = current
    return previous[-1]
