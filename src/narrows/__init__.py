"""Narrow a combinatorial set too large to list to a small, diverse shortlist that holds up when the score is wrong.

Importing this package loads neither JAX nor PyTorch. `narrows.commands` has what a user does, one function each; the other
modules have the parts.
"""

__version__ = "0.1.0"
