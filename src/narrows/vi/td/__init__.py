"""Value prediction: surrogate TD(0), a drop-in for semi-gradient TD(0) with the same value function and the same data.

learner = vi.td.surrogate_td0(value, optax.adam(1e-3), inner_steps=5, discount=0.99)
state = learner.init(params)
params, state, info = learner.step(params, state, batch)
"""

from narrows.vi.td import rollout_files, rollouts, simulators, torus
from narrows.vi.td.learners import Learner, semi_gradient_td0, streamed_td0, surrogate_td0
from narrows.vi.td.network import mlp_params, mlp_value
from narrows.vi.td.transitions import Transitions, Value, of_chain, td_error

__all__ = [
    "Learner",
    "Transitions",
    "Value",
    "mlp_params",
    "mlp_value",
    "of_chain",
    "rollout_files",
    "rollouts",
    "semi_gradient_td0",
    "simulators",
    "streamed_td0",
    "surrogate_td0",
    "td_error",
    "torus",
]
