"""Balance objectives: zero at the solution, slow loops, reductions, gradients and the specification's figures."""

from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
from tests.reference.cases import case_of, quick_jit
from tests.reference.huber import weighted_mean_huber
from tests.reference.small_envs import HandTree
from tests.reference.solution_model import random_model, solution_model, table
from tests.reference.trees import letter_count_phi
from tests.slowly import slowly

from narrows import objectives
from narrows.config import JobError, build, parse_job
from narrows.envs import BitSequence, Hypergrid, Sequence, Subsets
from narrows.exact import model_distribution, model_log_backward, solve
from narrows.objectives import (
    BellmanGeneralMellowmax,
    DetailedBalance,
    SubTrajectoryBalance,
    TrajectoryBalance,
    TrajectoryGeneralMellowmax,
    VarGrad,
)
from narrows.operators import GeneralMellowmax
from narrows.policies import Tabular, sizes_of
from narrows.policies.base import Model
from narrows.trajectories import Trajectory

GFN, TGM, SMM = GeneralMellowmax(1.0, 1.0, 0.0), GeneralMellowmax(4.0, 1.0, 0.5), GeneralMellowmax(0.5, 3.0, 1.0)


def _objectives(operator, correction):
    """Return every objective whose solution is this operator's."""
    setting = {"omega": operator.omega, "alpha": operator.alpha, "q": operator.q, "dag_correction": correction}
    objectives = [
        TrajectoryBalance(**setting),
        DetailedBalance(**setting),
        SubTrajectoryBalance(lambda_=0.8, **setting),
        TrajectoryGeneralMellowmax(**setting),
        BellmanGeneralMellowmax(**setting),
    ]
    if operator.q == 0.0 and operator.omega == 1.0:
        objectives.append(VarGrad(dag_correction=correction))
    return objectives


def _losses_of(objectives, env):
    """Return a compiled function from a model and a batch to every objective's loss, by name."""

    def losses(model, batch):
        return {type(objective).__name__: objective.loss(model, model, env, batch) for objective in objectives}

    return quick_jit(losses)


def _moved(model, part):
    """Return the model with one of its parts moved by random numbers."""
    return eqx.tree_at(part, model, part(model) + 0.1 * np.random.default_rng(5).normal(size=part(model).shape))


@pytest.mark.parametrize(
    ("env", "operator", "correction"),
    [
        (Hypergrid(2, 4), GFN, "learned"),
        *slowly(
            "the same law for other rules and operators, each a program of seconds; every objective and a learned backward "
            "policy on a grid guard it quickly, and loops guard the other operators",
            (Sequence("AB", 0, 2), GFN, "none"),
            (Sequence("AB", 0, 2), TGM, "uniform"),
            (BitSequence(num_bits=4, word_bits=2), GFN, "none"),
            (Hypergrid(2, 4), GFN, "none"),
            (Hypergrid(2, 4), TGM, "uniform"),
            (Hypergrid(2, 4), SMM, "learned"),
            (Subsets(4), SMM, "none"),
            (Subsets(4), GFN, "uniform"),
            (Subsets(4), GFN, "learned"),
            (Subsets(4), TGM, "learned"),
        ),
    ],
    ids=repr,
)
def test_zero_at_the_solution_and_nowhere_near(env, operator, correction):
    case = case_of(env)
    with jax.enable_x64(True):
        like = random_model(env, seed=3, backward=correction == "learned")
        log_backward = model_log_backward(like, env, case.graph) if correction == "learned" else None
        solution = solve(case.graph, case.log_reward, operator, dag_correction=correction != "none", log_backward=log_backward)
        compiled = _losses_of(_objectives(operator, correction != "none"), env)

        def losses(model):
            return {name: float(loss) for name, loss in compiled(model, case.batch).items()}

        model = solution_model(env, case.graph, solution, operator, like=like)
        at_solution = losses(model)
        unshifted = losses(solution_model(env, case.graph, solution, operator, like=like, shift=False))
        forward = losses(_moved(model, lambda model: model.policy.forward_logits))
        flow = losses(_moved(model, lambda model: model.policy.log_flow))
        log_z = losses(_moved(model, lambda model: model.log_z))
        backward = losses(_moved(model, lambda model: model.policy.backward_logits)) if correction == "learned" else None
    # Q is identified up to a constant a state, except by Bellman errors, which compare it with values.
    assert at_solution.pop("BellmanGeneralMellowmax") > 1e-3
    assert all(loss < 1e-24 for loss in at_solution.values()), at_solution
    assert all(loss < 1e-24 for loss in unshifted.values()), unshifted
    for name in at_solution:
        assert forward[name] > 1e-5, name
        assert (flow[name] > 1e-5) == (name in ("DetailedBalance", "SubTrajectoryBalance")), name
        assert (log_z[name] > 1e-5) == (name == "TrajectoryBalance"), name
        if backward is not None:
            assert backward[name] > 1e-5, name


# tgm T5, every row: residuals of the four trajectories and their population variance.
@pytest.mark.parametrize(
    ("omega", "alpha", "q", "residuals", "variance"),
    [
        (1, 1, 0, [-2.513015, -3.212691, -2.512691, -1.512691], 0.366887),
        (4, 0.5, 0.25, [-2.006535, -1.986669, -1.286669, -0.286669], 0.491034),
        *slowly(
            "other rows of the table; two guard the law",
            (1, 1, 0.5, [-2.180980, -2.380192, -1.680192, -0.680192], 0.432677),
            (2, 1, 1, [-1.875134, -1.652747, -0.952747, 0.047253], 0.560989),
        ),
    ],
)
def test_t5_loss_on_fixed_logits(omega, alpha, q, residuals, variance):
    objective = TrajectoryGeneralMellowmax(omega, alpha, q)
    with jax.enable_x64(True):
        q_values = np.full((6, 3), 7.0)  # rows and entries never read: illegal, or a finished object's
        q_values[0, :2], q_values[1] = [0.3, -0.1], [0.5, 0.0, -0.4]
        logits = jnp.asarray(objective.operator.policy_scale * q_values)
        model = eqx.tree_at(lambda model: model.policy.forward_logits, random_model(HandTree(), 0), logits)
        actions = jnp.array([[0, -1], [1, 0], [1, 1], [1, 2]], jnp.int32)
        batch = Trajectory(jnp.array([2, 3, 4, 5], jnp.int32), actions, 2.0 * jnp.array([1.0, 0.8, 0.2, -0.5]))
        found, loss = _residuals_and_loss_of(objective, HandTree())(model, batch)
    assert np.allclose(found, residuals, atol=1e-6)
    assert abs(loss - variance) < 1e-6
    if q == 0:  # independent trajectory balance: log pi written out by hand
        child = np.array([0.5, 0.0, -0.4])
        log_p = np.array([0.3, -0.1, -0.1, -0.1]) - np.logaddexp(0.3, -0.1)
        log_p[1:] += child - np.log(np.sum(np.exp(child)))
        assert np.allclose(found, log_p - np.asarray(batch.log_reward), atol=1e-12)


def _residuals_and_loss_of(objective, env):
    def compute(model, batch):
        error = objective.residuals(model, env, batch).error[:, 0]
        return error, objective.loss(model, model, env, batch)

    return quick_jit(compute)


def _log_soft(values, scale, mask):
    weights = np.where(mask, np.exp(scale * values), 0.0)
    with np.errstate(divide="ignore"):
        return np.log(weights / np.sum(weights))


def _slow_terms(case, model, operator, correction):
    """Return, for each walk, its per-step terms and the values of its states, in plain loops."""
    env, policy = case.env, model.policy
    logits = np.asarray(policy.forward_logits) / operator.policy_scale
    for walk, log_reward in zip(case.walks, np.asarray(case.batch.log_reward), strict=True):
        terms, values = [], []
        for state, action, child in zip(walk.states, walk.actions, [*walk.states[1:], walk.terminal], strict=True):
            row, mask = _row(env, state), np.asarray(env.action_mask(state))
            term = _log_soft(logits[row], operator.policy_scale, mask)[action]
            term -= operator.q * _log_soft(logits[row], operator.alpha, mask)[action]
            if correction:
                heads = np.zeros(env.num_backward_actions)
                if policy.backward_logits is not None:
                    heads = np.asarray(policy.backward_logits)[_row(env, child)]
                back = int(env.backward_action(state, jnp.asarray(action)))
                term -= _log_soft(heads, 1.0, np.asarray(env.backward_mask(child)))[back]
            terms.append(term / operator.omega)
            values.append(float(policy.log_flow[row]))
        yield np.array(terms), np.array([*values, log_reward])


def _row(env, state):
    digits = np.asarray(getattr(env.observe(state), "tokens", env.observe(state))).tolist()
    return sum(digit * env.num_values**place for place, digit in enumerate(digits))


@pytest.mark.parametrize(
    ("operator", "correction"),
    [
        (TGM, "learned"),
        *slowly(
            "the same loops for other operators; the most general one guards them quickly",
            *((GFN, "learned"), (TGM, "uniform"), (GeneralMellowmax(2.0, 0.0, 1.0), "none")),
        ),
    ],
    ids=repr,
)
def test_against_slow_loops(operator, correction):
    case = case_of(Subsets(3))
    with jax.enable_x64(True):
        model = random_model(case.env, seed=1, backward=correction == "learned")
        found = _losses_of(_objectives(operator, correction != "none"), case.env)(model, case.batch)
        walks = list(_slow_terms(case, model, operator, correction != "none"))
        log_z = float(model.log_z)
    residuals = np.array([np.sum(terms) - values[-1] for terms, values in walks])
    assert np.allclose(found["TrajectoryBalance"], np.mean((residuals + log_z / operator.omega) ** 2), rtol=1e-10)
    assert np.allclose(found["TrajectoryGeneralMellowmax"], np.var(residuals), rtol=1e-10)
    if "VarGrad" in found:
        assert np.allclose(found["VarGrad"], np.var(residuals), rtol=1e-10)
    steps = [values[t] + terms[t] - values[t + 1] for terms, values in walks for t in range(len(terms))]
    assert np.allclose(found["DetailedBalance"], np.mean(np.square(steps)), rtol=1e-10)
    assert np.allclose(found["SubTrajectoryBalance"], np.mean([_slow_segments(*walk, 0.8) for walk in walks]), rtol=1e-10)


def _slow_segments(terms, values, lambda_):
    """Return the lambda-weighted mean of squared violations of every segment of one trajectory (Madan et al. 2023, eq. 12)."""
    total = weights = 0.0
    for start in range(len(terms)):
        for stop in range(start + 1, len(terms) + 1):
            violation = values[start] + sum(terms[start:stop]) - values[stop]
            total += lambda_ ** (stop - start) * violation**2
            weights += lambda_ ** (stop - start)
    return total / weights


def test_a_robust_regression_against_slow_loops():
    case, threshold = case_of(Subsets(3)), 0.8
    objectives = [make(huber=threshold) for make in (TrajectoryBalance, DetailedBalance, SubTrajectoryBalance)]
    with jax.enable_x64(True):
        model = random_model(case.env, seed=1, backward=True)
        found = _losses_of(objectives, case.env)(model, case.batch)
        walks = list(_slow_terms(case, model, GFN, True))
        log_z = float(model.log_z)
    whole = [log_z + np.sum(terms) - values[-1] for terms, values in walks]
    steps = [values[t] + terms[t] - values[t + 1] for terms, values in walks for t in range(len(terms))]
    segments, weights = [], []
    for terms, values in walks:
        pairs = [(start, stop) for start in range(len(terms)) for stop in range(start + 1, len(terms) + 1)]
        total = sum(0.9 ** (stop - start) for start, stop in pairs)
        segments += [values[start] + sum(terms[start:stop]) - values[stop] for start, stop in pairs]
        weights += [0.9 ** (stop - start) / total for start, stop in pairs]
    for name, errors, own in (
        ("TrajectoryBalance", whole, np.ones(len(whole))),
        ("DetailedBalance", steps, np.ones(len(steps))),
        ("SubTrajectoryBalance", segments, weights),
    ):
        sizes = np.abs(errors)
        assert np.any(sizes < threshold) and np.any(sizes > threshold)
        assert np.allclose(found[name], weighted_mean_huber(errors, own, threshold), rtol=1e-10), name


def test_a_job_asks_for_a_robust_regression():
    document = {"env": {"name": "Hypergrid"}, "reward": {"name": "HypergridReward"}}
    for name in ("TrajectoryBalance", "AdversarialTrajectoryBalance", "BellmanGeneralMellowmax"):
        job = parse_job(document | {"objective": {"name": name, "huber": 0.5}}, Path())
        assert build(job).objective == getattr(objectives, name)(huber=0.5)
    with pytest.raises(JobError, match=r"\[objective\] huber must be positive, got 0.0"):
        build(parse_job(document | {"objective": {"name": "DetailedBalance", "huber": 0.0}}, Path()))


def test_gflownet_reductions():
    """q = 0 is log-partition variance; at any omega, the same at inverse temperature omega over omega squared."""
    case = case_of(Subsets(3))
    with jax.enable_x64(True):
        model = random_model(case.env, seed=2)
        plain = _losses_of([VarGrad(), TrajectoryGeneralMellowmax(1.0, 1.0, 0.0)], case.env)
        sharp = _losses_of([TrajectoryGeneralMellowmax(3.0, 1.0, 0.0)], case.env)(model, case.batch)
        found = plain(model, case.batch)
        tempered = plain(model, case.batch._replace(log_reward=3.0 * case.batch.log_reward))
    assert np.allclose(found["TrajectoryGeneralMellowmax"], found["VarGrad"], rtol=1e-14)
    assert np.allclose(sharp["TrajectoryGeneralMellowmax"], float(tempered["VarGrad"]) / 9.0, rtol=1e-12)


def test_vargrad_gradient_is_that_of_trajectory_balance_at_the_best_log_z():
    case = case_of(Subsets(3))
    with jax.enable_x64(True):

        @quick_jit
        def gradients(model, batch):
            residuals = VarGrad().residuals(model, case.env, batch).error[:, 0]
            model = eqx.tree_at(lambda model: model.log_z, model, -jnp.mean(residuals))
            return [jax.grad(objective.loss)(model, model, case.env, batch) for objective in (VarGrad(), TrajectoryBalance())]

        one, two = gradients(random_model(case.env, seed=2, backward=True), case.batch)
    assert np.max(np.abs(one.policy.forward_logits)) > 1e-3 and np.max(np.abs(one.policy.backward_logits)) > 1e-3
    for leaf, other in zip(jax.tree.leaves(one.policy), jax.tree.leaves(two.policy), strict=True):
        assert np.allclose(leaf, other, atol=1e-13)
    assert abs(two.log_z) < 1e-13


def test_expected_on_policy_gradient_is_that_of_the_divergence():
    """Over batches of two drawn from the policy, E[grad loss] = (1 - 1/2) 2 grad KL(P || e^Phi / Z) (tgm 6.3)."""
    case = case_of(Sequence("AB", 1, 2))
    objective = TrajectoryGeneralMellowmax(omega=1.0, alpha=1.0, q=0.0)

    def log_probs(model, batch):
        residual = objective.residuals(model, case.env, batch).error[:, 0]
        return residual + batch.log_reward

    def divergence(model, batch):
        log_p = log_probs(model, batch)
        return jnp.sum(jnp.exp(log_p) * (log_p - jax.nn.log_softmax(batch.log_reward)))

    @quick_jit
    def gradients(model, batch):
        num = len(case.walks)
        pairs = jnp.stack(jnp.meshgrid(jnp.arange(num), jnp.arange(num)), axis=-1).reshape(-1, 2)

        def of_pair(pair):
            return jax.grad(objective.loss)(model, model, case.env, jax.tree.map(lambda leaf: leaf[pair], batch))

        p = jnp.exp(log_probs(model, batch))
        expected = jnp.einsum("p,p...->...", p[pairs[:, 0]] * p[pairs[:, 1]], table(jax.vmap(of_pair)(pairs)).forward_logits)
        return expected, table(jax.grad(divergence)(model, batch)).forward_logits, jnp.sum(p)

    with jax.enable_x64(True):
        expected, exact, total = gradients(random_model(case.env, seed=4), case.batch)
    assert abs(total - 1.0) < 1e-12 and np.max(np.abs(exact)) > 1e-2
    assert np.allclose(expected, exact, atol=1e-12)


# tgm T6, training on full enumeration.
@pytest.mark.parametrize(
    ("omega", "alpha", "q"),
    [(1, 1, 0), (4, 1, 0.5), *slowly("other operators; two guard the law quickly", (1, 1, 0.5), (1, 1, 1), (1, 3, 0.5))],
)
def test_t6_minimised_variance_is_the_solution(omega, alpha, q):
    env, objective = Sequence("AB", 1, 3), TrajectoryGeneralMellowmax(omega, alpha, q)
    case = case_of(env)
    log_reward = 2.0 * np.array([letter_count_phi(text) for text in env.to_text(case.graph.terminal_states)])
    solution = solve(case.graph, log_reward, objective.operator)
    walk_reward = 2.0 * np.array([letter_count_phi(text) for text in env.to_text(case.batch.terminal)])
    with jax.enable_x64(True):
        start = random_model(env, seed=omega + alpha)

        def with_table(q_values):
            logits = objective.operator.policy_scale * q_values.reshape(table(start).forward_logits.shape)
            return eqx.tree_at(lambda model: model.policy.forward_logits, start, logits)

        @quick_jit
        @jax.value_and_grad
        def loss(q_values):
            model = with_table(q_values)
            return objective.loss(model, model, env, case.batch._replace(log_reward=jnp.asarray(walk_reward)))

        run = scipy.optimize.minimize(
            loss,
            np.asarray(table(start).forward_logits).ravel(),
            jac=True,
            method="L-BFGS-B",
            options={"maxiter": 20_000, "maxfun": 20_000, "ftol": 0.0, "gtol": 1e-13, "maxcor": 50},
        )
        assert run.fun < 1e-15
        law = model_distribution(with_table(run.x), env, case.graph)
    assert np.max(np.abs(np.exp(law) - np.exp(solution.log_probs))) < 1e-8


@pytest.mark.parametrize(
    "objectives",
    [
        [SubTrajectoryBalance(0.8), TrajectoryGeneralMellowmax(4.0, 0.0, 1.0)],
        *slowly(
            "gradients of all objectives; one of segments and one of whole trajectories guard the law quickly",
            *(_objectives(GFN, True), [BellmanGeneralMellowmax(4.0, 0.0, 1.0)]),
        ),
    ],
    ids=lambda objectives: f"{len(objectives)} objectives",
)
def test_t11_finished_steps_and_missing_rewards_stay_finite_and_count_for_nothing(objectives):
    case = case_of(Subsets(3))
    num = len(case.walks)
    assert num == 16 and np.any(np.asarray(case.batch.actions) < 0)  # finished steps occur
    is_kept = np.arange(num) % 2 == 0

    @quick_jit
    @jax.value_and_grad
    def total(model, batch):
        return sum(objective.loss(model, model, case.env, batch) for objective in objectives)

    with jax.enable_x64(True):
        model = random_model(case.env, seed=2, backward=True)
        missing = np.where(np.arange(num) % 4 == 1, np.nan, np.inf)
        poisoned = total(model, case.batch._replace(log_reward=jnp.where(is_kept, case.batch.log_reward, missing)))
        twice_the_kept = total(model, jax.tree.map(lambda leaf: jnp.concatenate([leaf[is_kept]] * 2), case.batch))
        nothing = total(model, case.batch._replace(log_reward=jnp.full(num, jnp.nan)))
        everything = total(model, case.batch)
    assert everything[0] > 0.0 and everything[0] != poisoned[0]
    for one, two in zip(jax.tree.leaves(poisoned), jax.tree.leaves(twice_the_kept), strict=True):
        assert np.allclose(one, two, atol=1e-12)
    assert all(np.all(leaf == 0.0) for leaf in jax.tree.leaves(nothing))
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(everything))


@pytest.mark.parametrize("operator", [TGM, *slowly("another operator", GeneralMellowmax(16.0, 2.0, 1.0))], ids=repr)
def test_t11_first_loss_on_fixed_length_is_the_variance_of_the_rewards(operator):
    case = case_of(BitSequence(num_bits=4, word_bits=2))
    objective = TrajectoryGeneralMellowmax(operator.omega, operator.alpha, operator.q)
    with jax.enable_x64(True):
        batch = case.batch._replace(log_reward=64.0 * case.batch.log_reward)
        _, loss = _residuals_and_loss_of(objective, case.env)(random_model(case.env, seed=0, scale=0.0), batch)
    assert np.allclose(loss, 64.0**2 * np.var(np.asarray(case.batch.log_reward)), rtol=1e-12)


@pytest.mark.parametrize(("env", "is_choice"), [(Sequence("AB", 2, 2), False), (Sequence("AB", 1, 2), True)], ids=repr)
def test_t11_the_end_counts_where_it_is_a_choice(env, is_choice):
    """A forced end adds exactly nothing; where the length is free its logit is one of a choice."""
    case, objective = case_of(env), TrajectoryGeneralMellowmax(4.0, 1.0, 0.5)
    with jax.enable_x64(True):
        residuals = _residuals_and_loss_of(objective, env)
        model = random_model(env, seed=0)
        end_logits = table(model).forward_logits.at[:, env.num_actions - 1].add(1.0)
        changed = eqx.tree_at(lambda model: model.policy.forward_logits, model, end_logits)
        before, after = residuals(model, case.batch)[0], residuals(changed, case.batch)[0]
    assert np.all(np.abs(after - before) > 1e-3) if is_choice else np.array_equal(after, before)


def test_flow_objectives_ask_for_the_head():
    case = case_of(Subsets(3))
    policy = Tabular(sizes_of(case.env), key=jax.random.key(0))
    model, batch = Model(policy, jnp.zeros(())), jax.tree.map(lambda leaf: leaf[:1], case.batch)
    for objective in (DetailedBalance(), SubTrajectoryBalance()):
        with jax.enable_x64(True), pytest.raises(ValueError, match="flow_head=True"):
            jax.eval_shape(lambda batch, objective=objective: objective.loss(model, model, case.env, batch), batch)


@pytest.mark.parametrize("make", [TrajectoryBalance, DetailedBalance, SubTrajectoryBalance, TrajectoryGeneralMellowmax])
def test_parameters_are_checked(make):
    for setting, message in [({"omega": 0.0}, "omega must be"), ({"alpha": -1.0}, "alpha must be"), ({"q": 1.5}, "q must lie")]:
        with pytest.raises(ValueError, match=message):
            make(**setting)


def test_lambda_is_checked():
    with pytest.raises(ValueError, match="lambda_ must be positive"):
        SubTrajectoryBalance(lambda_=0.0)
