"""The main job through the API: measurements -> proxy -> sampler -> shortlist."""

import jax
import numpy as np
from make_measurements import measure

from narrows.data import Table, space
from narrows.envs import Sequence
from narrows.objectives import TrajectoryGeneralMellowmax
from narrows.policies import MLP
from narrows.rewards import Proxy, Tempered
from narrows.rewards.fit import fit
from narrows.rewards.rna import RnaBinding
from narrows.shortlist import select
from narrows.training import adam, objects_of, run, trainer


def main(num_steps: int = 2000) -> None:
    sequences, scores = measure(seed=0)
    table = Table("measured", tuple(sequences), scores, tuple(range(2, len(sequences) + 2)))
    fitted = fit(table, space("rna", 14, 14), members=5, seed=0)
    print(fitted.quality.summary())

    env = Sequence("ACGU", min_length=14, max_length=14)
    policy = MLP(env.num_features, env.num_values, env.num_actions, key=jax.random.key(0))
    reward = Tempered(Proxy.of(fitted.ensemble), beta=16.0)
    objective = TrajectoryGeneralMellowmax(omega=4.0, alpha=1.0, q=0.5)
    training = trainer(env, policy, reward, objective, adam(1e-3), batch_size=64)
    seen: set[str] = set()
    state, history = run(
        training,
        training.init(jax.random.key(1)),
        num_steps,
        observers=[lambda chunk: {"distinct": seen.update(objects_of(chunk.info, env)) or len(seen)}],
    )
    objects = sorted(seen)
    mean, std = fitted.ensemble.predict(objects)
    shortlist = select(objects, mean, std, k=24, min_distance=4, measured=sequences, measured_scores=scores)
    true = RnaBinding()([row.sequence for row in shortlist.rows])
    print(*(f"{row.sequence} {row.proxy_mean:.3f} {score:.3f}" for row, score in zip(shortlist.rows, true, strict=True)), sep="\n")
    print(f"mean true score {np.mean(true):.3f}, best measured {np.mean(np.sort(scores)[-24:]):.3f}")


if __name__ == "__main__":
    main()
