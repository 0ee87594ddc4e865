"""The main job through the API: measurements -> proxy -> sampler -> shortlist -> truth."""

import jax
import numpy as np
from make_measurements import measure

from narrows.data import Table, space
from narrows.envs import Sequence
from narrows.objectives import TrajectoryGeneralMellowmax
from narrows.policies import MLP, sizes_of
from narrows.proxies import Proxy
from narrows.proxies.fit import fit
from narrows.proxies.fitted import save
from narrows.rewards import Tempered
from narrows.scorers.rna import RnaBinding
from narrows.selection import select
from narrows.training import adam, objects_of, run, trainer


def main(num_steps: int = 2000, proxy: str = "proxy") -> float:
    sequences, scores = measure(seed=0)
    table = Table("measured", tuple(sequences), scores, tuple(range(2, len(sequences) + 2)))
    fitted = fit(table, space("rna", 14, 14))
    print(fitted.quality.summary())
    save(fitted.proxy, fitted.quality, proxy)

    env = Sequence("ACGU", min_length=14, max_length=14)
    policy = MLP(sizes_of(env), key=jax.random.key(0))
    objective = TrajectoryGeneralMellowmax(omega=4.0, alpha=1.0, q=0.5)
    training = trainer(env, policy, Tempered(Proxy(env, proxy), beta=16.0), objective, adam(1e-3), batch_size=64)
    seen: set[str] = set()
    watch = [lambda chunk: seen.update(objects_of(chunk.info, env)) or {"distinct": len(seen)}]
    _, history = run(training, training.init(jax.random.key(1)), num_steps, observers=watch)
    print(history[-1])

    mean, std = fitted.proxy.predict(sorted(seen))
    chosen = select(sorted(seen), mean, std, k=24, min_distance=4, measured=sequences, measured_scores=scores)
    truth = RnaBinding()([row.sequence for row in chosen.rows])
    print(*(f"{row.sequence} {row.score:.3f} {true:.3f}" for row, true in zip(chosen.rows, truth, strict=True)), sep="\n")
    return float(np.mean(truth))


if __name__ == "__main__":
    print("mean true score", main())
