"""The losses where nature has turns, written out in loops over trajectories, turns, actions and outcomes (eflow 2)."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from tests.reference.solution_model import table, table_rows

from narrows.envs.base import CHANCE, NO_ACTION
from narrows.envs.perturbation import AbstractPerturbed


class Loop:
    """One model on one environment, state by state."""

    def __init__(self, env, graph, log_reward, model, knows_reward=True):
        self.env, self.graph, self.model = env, graph, model
        self.heads = table(model)
        self.rows = table_rows(env, graph, np.arange(graph.num_states))
        self.reward = np.full(graph.num_states, np.nan)
        self.reward[graph.terminals] = log_reward
        self.knows_reward = knows_reward
        self.is_alternating = isinstance(env, AbstractPerturbed)

    def log_pi(self, state, action):
        legal = np.flatnonzero(self.graph.children[state] >= 0)
        logits = np.asarray(self.heads.forward_logits)[self.rows[state]]
        return logits[action] - np.logaddexp.reduce(logits[legal])

    def known(self, state):
        """Return the log-reward of a state that is an object or must become one by forced moves, else None."""
        while not self.graph.is_terminal[state]:
            choices = np.flatnonzero(self.graph.children[state] >= 0)
            if len(choices) != 1 or (not self.is_alternating and not self.is_one_away(state)):
                return None
            state = self.graph.children[state, choices[0]]
        return self.reward[state]

    def is_one_away(self, state):
        children = self.graph.children[state]
        return all(self.graph.is_terminal[child] for child in children[children >= 0])

    def child_flow(self, state, action, own_end):
        """Return the log-flow of what a turn at a state leads to; `own_end` is the object that the trajectory ended in."""
        child = self.graph.children[state, action]
        if child == own_end:
            return self.reward[child]
        if self.knows_reward and (known := self.known(child)) is not None:
            return known
        return float(np.asarray(self.heads.child_log_flow)[self.rows[state], action])

    def outcomes(self, state):
        log_probs = self.graph.chance_log_probs[state]
        return [(outcome, log_probs[outcome]) for outcome in np.flatnonzero(log_probs > -np.inf)]

    def walk(self, actions):
        """Return the states of a trajectory and its actions."""
        states = [0]
        played = [int(action) for action in actions if action != NO_ACTION]
        for action in played:
            states.append(int(self.graph.children[states[-1], action]))
        return states, played

    def answer(self, method, state, came, own_end, log_pb):
        flows = {outcome: self.child_flow(state, outcome, own_end) for outcome, _ in self.outcomes(state)}
        if method == "expected":
            return np.logaddexp.reduce([log_prob + flows[outcome] for outcome, log_prob in self.outcomes(state)])
        if method == "soft":
            return sum(np.exp(log_prob) * flows[outcome] for outcome, log_prob in self.outcomes(state))
        if method == "naive":
            return flows[came]
        return flows[came] - self.graph.chance_log_probs[state, came] + log_pb

    def errors(self, method, actions, log_pb=lambda state, came: 0.0):
        """Return the violation of every player's turn, and of nature's where they follow on none, along one trajectory."""
        states, played = self.walk(actions)
        own_end, turns, errors = states[-1], self.graph.turn, []
        for time, action in enumerate(played):
            state = states[time]
            before = float(self.model.log_z) if time == 0 else self.child_flow(states[time - 1], played[time - 1], own_end)
            if turns[state] == CHANCE:
                if time == 0 or turns[states[time - 1]] == CHANCE:
                    errors.append(before - self.answer(method, state, action, own_end, log_pb(state, action)))
                continue
            child = states[time + 1]
            if not self.graph.is_terminal[child] and turns[child] == CHANCE:
                came = played[time + 1]
                after = self.answer(method, child, came, own_end, log_pb(child, came))
            else:
                after = self.child_flow(state, action, own_end)
            errors.append(before + self.log_pi(state, action) - after)
        return errors

    def all_actions(self, actions):
        """Return, at each player's turn, the flow before it and for every legal action log pi and nature's expected flow."""
        states, played = self.walk(actions)
        own_end, rows = states[-1], []
        for time in range(0, len(played), 2):
            state = states[time]
            before = float(self.model.log_z) if time == 0 else self.child_flow(states[time - 1], played[time - 1], own_end)
            choices = []
            for action in np.flatnonzero(self.graph.children[state] >= 0):
                answer = self.answer("expected", self.graph.children[state, action], 0, own_end, 0.0)
                choices.append((self.log_pi(state, action), answer))
            rows.append((before, choices))
        return rows

    def end_errors(self, actions):
        """Return the head's error at the object that a trajectory ended in."""
        states, played = self.walk(actions)
        return [float(np.asarray(self.heads.child_log_flow)[self.rows[states[-2]], played[-1]]) - self.reward[states[-1]]]


def solution_child_flows(env, graph, solution, model):
    """Return a model whose policy, child flows and `log_z` solve a graph with chance turns."""
    policy = table(model)
    rows = table_rows(env, graph, np.arange(graph.num_states))
    logits, flows = np.array(policy.forward_logits), np.array(policy.child_log_flow)
    for state in np.flatnonzero(~graph.is_terminal):
        legal = np.flatnonzero(graph.children[state] >= 0)
        is_natures = graph.turn[state] == CHANCE
        if not is_natures:
            logits[rows[state], legal] = solution.log_policy[state, legal]
        if is_natures or not isinstance(env, AbstractPerturbed):
            flows[rows[state], legal] = solution.values[graph.children[state, legal]]
    heads = (jnp.asarray(logits), jnp.asarray(flows))
    solved = eqx.tree_at(lambda table: (table.forward_logits, table.child_log_flow), policy, heads)
    return eqx.tree_at(lambda model: (model.policy, model.log_z), model, (solved, jnp.asarray(solution.root_value)))
