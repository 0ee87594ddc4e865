"""Small variants of the published tasks, and sequences for them."""

import dataclasses

import numpy as np
from benchmarks._paper.tasks.data import AMP, UTR

SMALL = {"embed": 8, "layers": 2, "heads": 2, "batch": 32, "learning_rate": 1e-2}
SMALL_AMP = dataclasses.replace(AMP, min_length=4, max_length=9, published_rows=None, **SMALL)
SMALL_UTR = dataclasses.replace(UTR, min_length=8, max_length=8, **SMALL)


def random_texts(task, num, seed=0):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(task.min_length, task.max_length + 1, num)
    return ["".join(rng.choice(list(task.alphabet), length)) for length in lengths]
