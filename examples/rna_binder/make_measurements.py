"""Write measurements.csv: 2,000 RNAs of 14 nt with a noisy binding score, as an assay of weak and mid binders would give.

70 % are weak binders (true score below 0.40) and 30 % mid binders (0.40 to 0.60); nothing stronger was measured, so the
search has to go where no measurement is. Each score is the physics of `narrows.scorers.rna` plus normal noise of standard
deviation 0.02. Everything comes from one seed:

    python make_measurements.py [--out measurements.csv] [--seed 0]
"""

import argparse
from pathlib import Path

import numpy as np

from narrows.data import write_table
from narrows.scorers.rna import RnaBinding

NUM = 2000
SHARE_MID = 0.30
WEAK_BELOW, MID_BELOW = 0.40, 0.60
NOISE_STD = 0.02
LENGTH = 14


def measure(seed: int) -> tuple[list[str], np.ndarray]:
    """Return sequences and noisy scores: random RNAs, kept until both shares are filled."""
    rng = np.random.default_rng(seed)
    score = RnaBinding(length=LENGTH)
    wanted = {"mid": round(SHARE_MID * NUM), "weak": NUM - round(SHARE_MID * NUM)}
    kept: dict[str, float] = {}
    while any(wanted.values()):
        letters = rng.choice(list("ACGU"), size=(500, LENGTH))
        drawn = list(dict.fromkeys("".join(row) for row in letters))
        for sequence, true in zip(drawn, score(drawn), strict=True):
            kind = "weak" if true < WEAK_BELOW else "mid" if true < MID_BELOW else "strong"
            if wanted.get(kind, 0) > 0 and sequence not in kept:
                wanted[kind] -= 1
                kept[sequence] = float(true)
    sequences = list(kept)
    return sequences, np.array([kept[sequence] for sequence in sequences]) + rng.normal(0.0, NOISE_STD, NUM)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("measurements.csv"))
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    sequences, scores = measure(arguments.seed)
    write_table(arguments.out, sequences, scores.round(4))
    print(f"{len(sequences)} measurements written to {arguments.out}")


if __name__ == "__main__":
    main()
