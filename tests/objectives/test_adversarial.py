"""Objectives of two-player games: zero at the solution, slow loops, symmetries, gradients, and tabular training."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tests.reference.cases import case_of, quick_jit
from tests.reference.game_loss import Loop
from tests.reference.game_tree import OfNodes, Tree, TreeGame, random_tree
from tests.reference.small_envs import Hops
from tests.reference.solution_model import random_model, table
from tests.slowly import slowly

from narrows.envs import Sequence, Subsets, TicTacToe, perturbed
from narrows.exact import enumerate_graph, minimax, model_log_policy, optimal_rates, solve_game, solve_unadjusted
from narrows.noise import Substitution
from narrows.objectives import (
    AdversarialDetailedBalance,
    AdversarialFlowMatching,
    AdversarialSubTrajectoryBalance,
    AdversarialTrajectoryBalance,
    AdversarialVarGrad,
    DetailedBalance,
    SubTrajectoryBalance,
    TrajectoryBalance,
    UnadjustedExpectedDetailedBalance,
)
from narrows.objectives.adversarial import adversarial_steps
from narrows.objectives.balance import segment_residual, trajectory_residual, transition_residual
from narrows.objectives.base import NO_CONTEXT, LossContext
from narrows.policies import Sizes, Tabular, sizes_of
from narrows.policies.base import Model
from narrows.rewards import GameResult
from narrows.training import adam, run, trainer
from narrows.trajectories import Trajectory
from narrows.trajectories.behaviour import Behaviour

TURNS = TreeGame(random_tree(np.random.default_rng(5), depth=4))
ANY_ORDER = TreeGame(random_tree(np.random.default_rng(5), depth=4, takes_turns=False))
ADVERSARIAL = (
    AdversarialTrajectoryBalance,
    AdversarialDetailedBalance,
    AdversarialSubTrajectoryBalance,
    AdversarialVarGrad,
    AdversarialFlowMatching,
)
LEARNS_FLOW = {"AdversarialDetailedBalance", "AdversarialSubTrajectoryBalance", "AdversarialFlowMatching"}


class TableOfNodes(eqx.Module):
    """A reference policy by a table, a row a node."""

    log_policy: jax.Array

    def __call__(self, state):
        return self.log_policy[state]


def log_softmax(logits, is_legal):
    masked = np.where(is_legal, logits, -np.inf)
    totals = np.logaddexp.reduce(masked, axis=1, keepdims=True)
    return np.where(is_legal, masked - np.where(np.isfinite(totals), totals, 0.0), -np.inf)


def reference_in(graph, seed=2):
    """Return a random policy, a row a node."""
    logits = np.random.default_rng(seed).normal(size=graph.children.shape)
    by_node = np.empty_like(logits)
    by_node[graph.states] = log_softmax(logits, graph.children >= 0)
    return by_node


def reward_of(case):
    rewards = np.full(case.graph.num_states, np.nan)  # the reward of a game that is not over must not be read
    rewards[case.graph.states[case.graph.terminals]] = case.log_reward
    return OfNodes(jnp.asarray(rewards))


def losses_of(objectives, env):
    def losses(model, batch, reward=None):
        return {type(one).__name__: one.loss(model, model, env, batch, LossContext(reward=reward)) for one in objectives}

    return quick_jit(losses)


def with_heads(like, logits, log_flow, log_z):
    """Return a model with these rows of tables where they are finite, and else the random numbers of another."""
    policy = table(like)
    heads = [
        np.where(np.isfinite(new), new, old) for new, old in ((logits, policy.forward_logits), (log_flow, policy.log_flow))
    ]
    policy = eqx.tree_at(lambda policy: (policy.forward_logits, policy.log_flow), policy, tuple(map(jnp.asarray, heads)))
    return Model(policy, jnp.asarray(log_z))


def solved(case, like, log_policy, log_flow, log_z):
    """Return the model of a solution whose flows are those of whoever moves; what it leaves open stays random."""
    graph, nodes = case.graph, case.graph.states
    logits, flows = np.full(graph.children.shape, np.nan), np.full(graph.num_states, np.nan)
    logits[nodes] = log_policy + np.random.default_rng(8).normal(size=(graph.num_states, 1))  # any constant in a row of logits
    flows[nodes] = np.where(graph.is_terminal, np.nan, log_flow)
    return with_heads(like, logits, flows, log_z)


@pytest.mark.parametrize(
    ("env", "setting"),
    [
        (ANY_ORDER, "reference"),
        *slowly("other references; a random one guards the law", (TURNS, "uniform"), (ANY_ORDER, "branches not counted")),
    ],
    ids=["reference", "uniform", "all"],
)
def test_zero_at_the_solution_and_nowhere_near(env, setting):
    case = case_of(env)
    mu = reference_in(case.graph) if setting == "reference" else None
    is_adjusted = setting != "branches not counted"
    by_state = None if mu is None else mu[case.graph.states]
    solution = solve_game(case.graph, case.log_reward, log_reference=by_state, branch_adjusted=is_adjusted)
    other = solve_game(case.graph, case.log_reward, branch_adjusted=not is_adjusted)
    sign = 1 - 2 * case.graph.turn
    with jax.enable_x64(True):
        reference = None if mu is None else TableOfNodes(jnp.asarray(mu))
        objectives = [make(branch_adjusted=is_adjusted, reference=reference) for make in ADVERSARIAL]
        compiled, reward = losses_of(objectives, env), reward_of(case)
        model, wrong = (
            solved(case, random_model(env, 3), one.log_policy, sign * one.values, one.root_value) for one in (solution, other)
        )

        def losses(model):
            return {name: float(loss) for name, loss in compiled(model, case.batch, reward).items()}

        def moved(part):
            noise = 0.1 * np.random.default_rng(5).normal(size=part(model).shape)
            return losses(eqx.tree_at(part, model, part(model) + noise))

        at_solution, others = losses(model), losses(wrong)
        forward = moved(lambda model: model.policy.forward_logits)
        flow, log_z = moved(lambda model: model.policy.log_flow), moved(lambda model: model.log_z)
    assert all(loss < 1e-24 for loss in at_solution.values()), at_solution
    for name in at_solution:
        assert forward[name] > 1e-5, name
        assert (flow[name] > 1e-5) == (name in LEARNS_FLOW), name
        assert (log_z[name] > 1e-5) == (name == "AdversarialTrajectoryBalance"), name
        assert others[name] > 1e-3, name


def test_unadjusted_is_zero_at_its_own_solution():
    case, objective = case_of(TURNS), UnadjustedExpectedDetailedBalance()
    solution = solve_unadjusted(case.graph, np.stack([case.log_reward, -case.log_reward]))
    mover = np.take_along_axis(solution.log_flows, np.maximum(case.graph.turn, 0)[None], axis=0)[0]
    adjusted = solve_game(case.graph, case.log_reward)
    with jax.enable_x64(True):
        compiled, reward = losses_of([objective], TURNS), reward_of(case)
        like = random_model(TURNS, 3)

        def loss(log_policy, log_flow):
            return compiled(solved(case, like, log_policy, log_flow, 0.0), case.batch, reward)[type(objective).__name__]

        assert loss(solution.log_policy, mover) < 1e-24
        assert loss(solution.log_policy, mover + 0.1 * np.random.default_rng(5).normal(size=mover.shape)) > 1e-4
        assert loss(adjusted.log_policy, mover) > 1e-4
        assert loss(adjusted.log_policy, (1 - 2 * case.graph.turn) * adjusted.values) > 1e-3


@pytest.mark.parametrize("has_reference", [True, *slowly("the loops again; a reference guards them", False)])
def test_t10_losses_are_those_of_loops(has_reference):
    case = case_of(TURNS)
    assert any(len(row) == 1 and not TURNS.tree.children[row[0]] for row in TURNS.tree.children)  # games that must end
    with jax.enable_x64(True):
        mu = reference_in(case.graph) if has_reference else None
        reference = None if mu is None else TableOfNodes(jnp.asarray(mu))
        objectives = [*(make(reference=reference) for make in ADVERSARIAL), UnadjustedExpectedDetailedBalance()]
        model = random_model(TURNS, 7)
        found = losses_of(objectives, TURNS)(model, case.batch, reward_of(case))
        expected = Loop(case, model, mu).losses()
    assert found.keys() == expected.keys()
    for name in expected:
        assert np.isclose(found[name], expected[name], rtol=1e-10), name


LINES = [(0, 1, 2), (3, 4, 5), (6, 7, 8), (0, 3, 6), (1, 4, 7), (2, 5, 8), (0, 4, 8), (2, 4, 6)]


def test_t10_residuals_of_tic_tac_toe_equal_those_of_a_board_played_by_hand():
    env, objective, rng = TicTacToe(), AdversarialTrajectoryBalance(), np.random.default_rng(1)
    model = Model(Tabular(Sizes(9, 3, 9), 1.0, key=jax.random.key(2)), jnp.asarray(0.3))
    logits = np.asarray(table(model).forward_logits, np.float64)
    games, rewards, totals = np.full((40, 9), -1, np.int32), np.zeros(40), np.full(40, 0.3)
    for game in range(40):
        board: list[int | None] = [None] * 9
        for time in range(9):
            row = sum((0 if cell is None else 1 if cell == time % 2 else 2) * 3**place for place, cell in enumerate(board))
            empty = [place for place in range(9) if board[place] is None]
            action = int(rng.choice(empty))
            log_pi = logits[row, action] - np.log(sum(np.exp(logits[row, place]) for place in empty))
            totals[game] += (-1) ** time * (log_pi + np.log(len(empty)))
            games[game, time], board[action] = action, time % 2
            if any(all(board[cell] == time % 2 for cell in line) for line in LINES):
                rewards[game] = 10.0 * (-1) ** time
                break
    assert set((games >= 0).sum(axis=1)) == {5, 6, 7, 8, 9}
    batch = Trajectory(None, jnp.asarray(games), jnp.asarray(rewards, jnp.float32))
    found = quick_jit(lambda model, batch: objective.residuals(model, env, batch).error[:, 0])(model, batch)
    assert np.allclose(found, totals - rewards, atol=1e-5)
    ends = jax.jit(jax.vmap(lambda actions: jax.tree.map(lambda leaf: leaf[-1], env.states_along(actions))))(batch.actions)
    assert GameResult(env)(ends).tolist() == rewards.tolist()


@functools.cache
def total_of_all():
    """Return a compiled function to the sum of all losses on a tree and its gradient."""
    objectives = [*(make() for make in ADVERSARIAL), UnadjustedExpectedDetailedBalance()]

    @quick_jit
    @jax.value_and_grad
    def total(model, batch, reward):
        return sum(one.loss(model, model, TURNS, batch, LossContext(reward=reward)) for one in objectives)

    return total


def test_t10_what_stands_after_the_end_and_illegal_logits_count_for_nothing():
    case, total = case_of(TURNS), total_of_all()
    is_legal, is_inner = np.zeros(case.graph.children.shape, bool), np.zeros(case.graph.num_states, bool)
    is_legal[case.graph.states] = case.graph.children >= 0
    is_inner[case.graph.states] = ~case.graph.is_terminal
    with jax.enable_x64(True):
        model, reward = random_model(TURNS, 2), reward_of(case)
        loss, gradient = total(model, case.batch, reward)
        other = np.random.default_rng(0).normal(scale=100.0, size=is_legal.shape)
        changed = with_heads(
            model,
            np.where(is_legal, np.nan, other),
            np.where(is_inner, np.nan, other[:, 0]),
            model.log_z,
        )
        shuffled = case.batch._replace(terminal=case.batch.terminal[::-1])
        again = total(changed, case.batch, reward), total(model, shuffled, reward)
    assert loss > 0.0
    logits, flow = gradient.policy.forward_logits, gradient.policy.log_flow
    assert np.all(logits[~is_legal] == 0.0) and np.all(flow[~is_inner] == 0.0)
    is_choice = is_legal & (is_legal.sum(axis=1, keepdims=True) > 1)
    assert np.all(logits[is_choice] != 0.0) and np.all(flow[is_inner] != 0.0)
    for loss_again, gradient_again in again:
        assert loss_again == loss
        assert all(map(np.array_equal, jax.tree.leaves(gradient_again), jax.tree.leaves(gradient)))


def test_steps_after_the_end_count_for_nothing_whatever_their_numbers():
    turn, is_valid = jnp.arange(6, dtype=jnp.int32) % 2, jnp.arange(6) < 4

    @quick_jit
    def errors_and_slope(pi, mu, flow):
        steps, reward = adversarial_steps(turn, pi, mu, flow, is_valid), jnp.asarray(0.5)
        errors = trajectory_residual(steps, reward), transition_residual(steps, reward), segment_residual(steps, reward, 0.9)
        return errors, jax.grad(lambda pi: jnp.sum(adversarial_steps(turn, pi, mu, None, is_valid).terms))(pi)

    numbers = np.random.default_rng(0).normal(size=(3, 6)).astype(np.float32)
    expected, slope = errors_and_slope(*numbers)
    assert slope.tolist() == [1.0, -1.0, 1.0, -1.0, 0.0, 0.0]
    for junk in (np.nan, np.inf, 7.0):
        found, slope = errors_and_slope(*np.where(is_valid, numbers, np.float32(junk)))
        assert slope.tolist() == [1.0, -1.0, 1.0, -1.0, 0.0, 0.0]
        assert all(map(np.array_equal, jax.tree.leaves(found), jax.tree.leaves(expected)))


def test_t10_colours_swapped_and_rewards_negated_give_the_same_losses():
    env, case = TURNS, case_of(TURNS)
    swapped = TreeGame(Tree(env.tree.children, tuple(1 - turn for turn in env.tree.turn)))
    objectives = [*(make() for make in ADVERSARIAL), UnadjustedExpectedDetailedBalance()]
    with jax.enable_x64(True):
        model, reward = random_model(env, 7), reward_of(case)
        mirrored = eqx.tree_at(lambda model: model.log_z, model, -model.log_z)
        other_batch = case.batch._replace(log_reward=-case.batch.log_reward)
        losses = losses_of(objectives, env)(model, case.batch, reward)
        others = losses_of(objectives, swapped)(mirrored, other_batch, jax.tree.map(jnp.negative, reward))
    for name, loss in losses.items():
        assert loss > 1e-3 and np.isclose(others[name], loss, rtol=1e-12), name


def test_a_single_player_has_the_balance_of_mellowmax():
    case = case_of(Hops(4))
    pairs = [
        (AdversarialTrajectoryBalance(), TrajectoryBalance(1.0, 0.0, 1.0, dag_correction=False)),
        (AdversarialDetailedBalance(), DetailedBalance(1.0, 0.0, 1.0, dag_correction=False)),
        (AdversarialSubTrajectoryBalance(0.7), SubTrajectoryBalance(0.7, 1.0, 0.0, 1.0, dag_correction=False)),
    ]
    with jax.enable_x64(True):
        losses = losses_of([one for pair in pairs for one in pair], case.env)(random_model(case.env, 1), case.batch)
    for ours, theirs in pairs:
        assert ours.operator == theirs.operator
        assert np.isclose(losses[type(ours).__name__], losses[type(theirs).__name__], rtol=1e-12)


def test_missing_rewards_count_for_nothing():
    case, total = case_of(TURNS), total_of_all()
    num = len(case.walks)
    assert num % 2 == 0
    is_kept = np.arange(num) % 2 == 0
    with jax.enable_x64(True):
        model, reward = random_model(TURNS, 2), reward_of(case)
        missing = np.where(np.arange(num) % 4 == 1, np.nan, np.inf)
        poisoned = total(model, case.batch._replace(log_reward=jnp.where(is_kept, case.batch.log_reward, missing)), reward)
        twice_the_kept = jax.tree.map(lambda leaf: jnp.concatenate([leaf[is_kept]] * 2), case.batch)
        kept = total(model, twice_the_kept, reward)
        nothing = total(model, case.batch._replace(log_reward=jnp.full(num, jnp.nan, jnp.float64)), reward)
    assert kept[0] > 0.0
    for one, two in zip(jax.tree.leaves(poisoned), jax.tree.leaves(kept), strict=True):
        assert np.allclose(one, two, atol=1e-12)
    assert all(np.all(leaf == 0.0) for leaf in jax.tree.leaves(nothing))


@pytest.mark.slow("1,500 steps of six; the losses at the solution and against loops guard what is trained")
def test_every_objective_trained_on_a_small_tree_reaches_its_closed_form():
    """Adam on every game of the tree at once: the policies, the flows and log Z are those of backward induction."""
    case = case_of(TURNS)
    graph = case.graph
    objectives = [*(make() for make in ADVERSARIAL), UnadjustedExpectedDetailedBalance()]
    adjusted = solve_game(graph, case.log_reward)
    unadjusted = solve_unadjusted(graph, np.stack([case.log_reward, -case.log_reward]))
    num_steps = 1500
    optimizer = optax.adam(optax.cosine_decay_schedule(0.1, num_steps))
    with jax.enable_x64(True):
        context = LossContext(reward=reward_of(case))

        def total(models):
            return sum(one.loss(m, m, TURNS, case.batch, context) for one, m in zip(objectives, models, strict=True))

        @jax.jit
        def train(models):
            def step(carry, _):
                models, state = carry
                updates, state = optimizer.update(jax.grad(total)(models), state)
                return (optax.apply_updates(models, updates), state), None

            return jax.lax.scan(step, (models, optimizer.init(models)), length=num_steps)[0][0]

        models = train([random_model(TURNS, seed) for seed in range(len(objectives))])
        policies = [model_log_policy(model, TURNS, graph) for model in models]
    inner, sign = ~graph.is_terminal, 1 - 2 * graph.turn
    mover = np.where(graph.turn == 0, *unadjusted.log_flows)
    for objective, model, policy in zip(objectives, models, policies, strict=True):
        name, is_unadjusted = type(objective).__name__, isinstance(objective, UnadjustedExpectedDetailedBalance)
        expected = unadjusted.log_policy if is_unadjusted else adjusted.log_policy
        assert np.max(np.abs(np.exp(policy) - np.exp(expected))) < 1e-4, name
        if is_unadjusted or name in LEARNS_FLOW:
            flow = np.asarray(table(model).log_flow)[graph.states]
            assert np.max(np.abs(flow - (mover if is_unadjusted else sign * adjusted.values))[inner]) < 1e-4, name
    assert abs(float(models[0].log_z) - adjusted.root_value) < 1e-4


@pytest.mark.slow("307,000 games; residuals of a board played by hand and losses at the solution guard what is trained")
def test_self_play_on_tic_tac_toe_comes_close_to_the_closed_form():
    env = TicTacToe()
    graph = enumerate_graph(env)
    outcome = np.asarray(jax.vmap(env.outcome)(graph.terminal_states)).astype(float)
    solution = solve_game(graph, 5.0 * outcome)
    policy = Tabular(Sizes(9, 3, 9), key=jax.random.key(0))
    behaviour = Behaviour(temperature=2.0)
    train = trainer(
        env,
        policy,
        GameResult(env, scale=5.0),
        AdversarialTrajectoryBalance(),
        adam(0.1, 0.05, clip=float("inf")),
        batch_size=512,
        behaviour=behaviour,
    )
    start = train.init(jax.random.key(0))
    state, _ = run(train, jax.tree.map(jnp.copy, start), 600, every=600)
    is_optimal = minimax(graph, outcome).is_optimal
    log_policy = model_log_policy(state.model, env, graph)
    rates, before = optimal_rates(log_policy, is_optimal), optimal_rates(model_log_policy(start.model, env, graph), is_optimal)
    assert before.argmax < 0.7 and rates.argmax > 0.99 and rates.mass > 0.97
    assert abs(float(state.model.log_z) - solution.root_value) < 0.05
    assert np.max(np.abs(np.exp(log_policy[0]) - np.exp(solution.log_policy[0]))) < 0.05


def test_whose_turns_are_accounted_for():
    noisy = perturbed(Sequence("AB", 1, 2), Substitution(Sequence("AB", 1, 2), 0.3))
    envs = TicTacToe(), TURNS, Subsets(3), noisy, Hops(5, coin=True)
    policy = Tabular(sizes_of(noisy, flow_head=True), key=jax.random.key(0))
    for objective in [*(make() for make in ADVERSARIAL), UnadjustedExpectedDetailedBalance()]:
        accounts = [objective.accounts_for(env) for env in envs]
        assert accounts == [True, True, True, False, False]
        with pytest.raises(ValueError, match="does not account for"):
            trainer(noisy, policy, OfNodes(jnp.zeros(1)), objective, adam())


def test_refusals():
    with pytest.raises(ValueError, match="lambda_ must be positive"):
        AdversarialSubTrajectoryBalance(0.0)
    for make in ADVERSARIAL:
        with pytest.raises(ValueError, match="no meaning with branch_adjusted=False"):
            make(branch_adjusted=False, reference=lambda state: jnp.zeros(2))
    case = case_of(TURNS)
    model = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), random_model(TURNS, 0))
    headless = Model(Tabular(Sizes(1, TURNS.num_values, TURNS.num_actions), key=jax.random.key(0)), jnp.zeros(()))
    batch = case.batch._replace(log_reward=np.zeros(len(case.walks), np.float32))
    for objective in (AdversarialFlowMatching(), UnadjustedExpectedDetailedBalance()):
        for wrong, context, message in (
            (model, NO_CONTEXT, "needs one in JAX"),
            (headless, LossContext(reward=OfNodes(jnp.zeros(9))), "flow_head=True"),
        ):
            with pytest.raises(ValueError, match=message):
                jax.eval_shape(lambda b, m=wrong, a=context, one=objective: one.loss(m, m, TURNS, b, a), batch)
