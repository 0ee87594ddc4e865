"""The losses of two-player games by plain loops over the paths of a tree."""

import numpy as np
from tests.reference.solution_model import table


class Loop:
    """A model on a tree, node by node."""

    def __init__(self, case, model, mu):
        self.tree, policy = case.env.tree, table(model)
        self.reward = dict(zip(case.graph.states[case.graph.terminals].tolist(), case.log_reward, strict=True))
        self.logits, self.head = np.asarray(policy.forward_logits), np.asarray(policy.log_flow)
        self.log_z, self.mu = float(model.log_z), mu
        self.walks = [[*map(int, walk.states), int(walk.terminal)] for walk in case.walks]

    def sign(self, node):
        return 1 - 2 * self.tree.turn[node]

    def log_pi(self, node, child):
        place = self.tree.children[node].index(child)
        legal = self.logits[node, : len(self.tree.children[node])]
        return legal[place] - np.logaddexp.reduce(legal)

    def log_mu(self, node, child):
        if self.mu is None:
            return -np.log(len(self.tree.children[node]))
        return self.mu[node, self.tree.children[node].index(child)]

    def term(self, node, child):
        return self.sign(node) * (self.log_pi(node, child) - self.log_mu(node, child))

    def end(self, node):
        """Return the reward of a node where the game ends, or must end with the next move, else None."""
        onward = self.tree.children[node]
        if len(onward) == 1 and not self.tree.children[onward[0]]:
            node = onward[0]
        return self.reward.get(node)

    def value(self, node):
        return self.reward[node] if node in self.reward else self.sign(node) * self.head[node]

    def child_value(self, node):
        end = self.end(node)
        return self.value(node) if end is None else end

    def trajectory(self, walk):
        return sum(self.term(*move) for move in zip(walk[:-1], walk[1:], strict=True)) - self.reward[walk[-1]]

    def segments(self, walk, lambda_):
        total = weights = 0.0
        for start in range(len(walk)):
            for stop in range(start + 1, len(walk)):
                moves = zip(walk[start:stop], walk[start + 1 : stop + 1], strict=True)
                violation = self.value(walk[start]) + sum(self.term(*move) for move in moves) - self.value(walk[stop])
                total += lambda_ ** (stop - start) * violation**2
                weights += lambda_ ** (stop - start)
        return total / weights

    def matching(self, node):
        children = self.tree.children[node]
        inflow = [self.log_mu(node, child) + self.sign(node) * self.child_value(child) for child in children]
        total = np.logaddexp.reduce(inflow)
        misfit = sum(np.exp(x - total) * (self.log_pi(node, c) - x + total) ** 2 for x, c in zip(inflow, children, strict=True))
        return (self.head[node] - total) ** 2 + misfit

    def unadjusted(self, node, child):
        """Return the violation of a move and the other's reply to it, by the flow of whoever makes the move."""
        sign, flow = self.sign(node), self.head[node] + self.log_pi(node, child)
        if child in self.reward:
            return flow - sign * self.reward[child]
        replies = []
        for reply in self.tree.children[child]:
            end = self.end(reply)
            replies.append(self.log_pi(child, reply) + (self.head[reply] if end is None else sign * end))
        return flow - np.logaddexp.reduce(replies)

    def losses(self):
        residuals = np.array([self.trajectory(walk) for walk in self.walks])
        moves = [move for walk in self.walks for move in zip(walk[:-1], walk[1:], strict=True)]
        return {
            "AdversarialTrajectoryBalance": np.mean((self.log_z + residuals) ** 2),
            "AdversarialDetailedBalance": np.mean([(self.value(s) + self.term(s, c) - self.value(c)) ** 2 for s, c in moves]),
            "AdversarialSubTrajectoryBalance": np.mean([self.segments(walk, 0.9) for walk in self.walks]),
            "AdversarialVarGrad": np.var(residuals),
            "AdversarialFlowMatching": np.mean([self.matching(node) for node, _ in moves]),
            "UnadjustedExpectedDetailedBalance": np.mean([self.unadjusted(*move) ** 2 for move in moves]),
        }
