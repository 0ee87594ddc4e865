"""The small trees of tgm 9, as `children` and `phi` of `tests.reference.tgm.solve_tree`."""

import itertools


def hand_size_tree():
    """Return the tree of tgm T4: the root stops (Phi = 1) or goes to a child with objects (0.8, 0.2, -0.5), and its objects."""
    children = {
        "": [("stop", "s"), ("go", "g")],
        "s": [("end", None)],
        "g": [("x", "x"), ("y", "y"), ("z", "z")],
        "x": [("end", None)],
        "y": [("end", None)],
        "z": [("end", None)],
    }
    return children, {"s": 1.0, "x": 0.8, "y": 0.2, "z": -0.5}


def letter_tree(alphabet: str, min_length: int, max_length: int):
    """Return the tree of strings with an explicit end, actions in the order of `Sequence`: the letters, then the end."""
    children = {}
    for length in range(max_length + 1):
        for letters in itertools.product(alphabet, repeat=length):
            text = "".join(letters)
            appended = [(letter, text + letter) for letter in alphabet] if length < max_length else []
            children[text] = appended + ([("end", None)] if length >= min_length else [])
    return children


def letter_count_phi(text: str) -> float:
    """Return the score of tgm T6, `0.3 #A - 0.1 length + [text is AB]`."""
    return 0.3 * text.count("A") - 0.1 * len(text) + (text == "AB")
