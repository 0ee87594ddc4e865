"""Settings of AlphaZero's play with itself and of what it learns."""

from typing import Self

import equinox as eqx

from narrows.games.alphazero.tree_search import Kind, SearchSettings
from narrows.games.self_play import AbstractSelfPlay, check_at_least


class AlphaZero(AbstractSelfPlay):
    """Settings of AlphaZero. Other arguments are those of `AbstractSelfPlay`.

    Args:
        kind: how positions are searched, see `SearchSettings`.
        num_simulations: of each search.
        c_puct: see `SearchSettings`.
        stretches_values: see `SearchSettings`.
        scale: what the flow head says of a won position: its output is `scale` times the value.
        exploration_plies: number of first moves of a game that are drawn from the search's policy, the others are its best;
            None for all moves.
        greedy_targets: whether the policy learns the move alone where the best one is played, instead of the search's policy.
        max_random: random moves are not learned from; 0 in AlphaZero.
        capacity: positions kept, the oldest are overwritten.
        policy_weight: of the cross-entropy to the search's policy.
        value_weight: of the squared difference between value and outcome.
        average: the latest network plays.
    """

    kind: Kind = eqx.field(default="gumbel", static=True)
    num_simulations: int = eqx.field(default=32, static=True)
    c_puct: float = eqx.field(default=1.0, static=True)
    stretches_values: bool = eqx.field(default=False, static=True)
    scale: float = eqx.field(default=1.0, static=True)
    exploration_plies: int | None = eqx.field(default=None, static=True)
    greedy_targets: bool = eqx.field(default=False, static=True)
    max_random: int = eqx.field(default=0, static=True)
    num_slots: int = eqx.field(default=256, static=True)
    games_per_round: int = eqx.field(default=8, static=True)
    steps_per_round: int = eqx.field(default=1, static=True)
    capacity: int = eqx.field(default=100_000, static=True)
    initial_games: int = eqx.field(default=256, static=True)
    num_rows: int = eqx.field(default=1024, static=True)
    use_symmetries: bool = eqx.field(default=True, static=True)
    policy_weight: float = eqx.field(default=1.0, static=True)
    value_weight: float = eqx.field(default=1.0, static=True)
    average: float = eqx.field(default=0.998, static=True)

    def __check_init__(self) -> None:
        if self.exploration_plies is not None:
            check_at_least(self, exploration_plies=0)
        if not (0.0 <= min(self.policy_weight, self.value_weight) and max(self.policy_weight, self.value_weight) > 0.0):
            raise ValueError(
                f"expected weights >= 0, not both 0, got policy_weight={self.policy_weight}, value_weight={self.value_weight}."
            )
        _ = self.search

    @property
    def search(self) -> SearchSettings:
        """The settings of its search."""
        return SearchSettings(self.num_simulations, self.kind, self.c_puct, self.stretches_values)

    @classmethod
    def reproduction(cls, *, games_per_round: int = 100, num_rows: int = 64, steps_per_round: int = 17_500) -> Self:
        """Return the configuration with 25 simulations of eflow 6.4, as far as a continuous loop can be it.

        The same: PUCT with `c = 1` and no Dirichlet noise; moves in proportion to the visits for 15 plies, greedy afterwards,
        with the greedy move as target; 100 games a round; positions of about the last 20 rounds; batches of 64; mirror images;
        cross-entropy and squared error in equal parts. With Adam at 1e-3 that is what they train.

        Different: steps are counted, not epochs: 17,500 a round are 10 epochs over 20 rounds of 28 positions a game and their
        mirror images, which theirs come to once the buffer is full; theirs are fewer before. Adam keeps its moments from
        round to round, theirs begins anew. Nothing decides whether a new network is taken over: in the code that it comes from
        the rejected network was not put back. The tree is not kept from move to move, which gave theirs more visits than
        25, and a simulation is not spent on the root. A draw counts 0, not 1e-4. Games are played side by side, so that
        a round ends with the longer games under way. The network is the one that is given, without their dropout.
        """
        return cls(
            kind="puct",
            num_simulations=25,
            exploration_plies=15,
            greedy_targets=True,
            num_slots=games_per_round,
            games_per_round=games_per_round,
            steps_per_round=steps_per_round,
            capacity=20 * games_per_round * 28,
            initial_games=0,
            num_rows=num_rows,
            average=0.0,
        )
