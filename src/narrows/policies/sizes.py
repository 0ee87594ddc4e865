"""What an environment and an objective decide of a policy: the sizes of its input and outputs, and the heads it has."""

from dataclasses import dataclass

from narrows.envs.base import AbstractEnvironment, AbstractReversibleEnvironment


@dataclass(frozen=True)
class Sizes:
    """The sizes and heads of a policy.

    Args:
        num_features: integers in an observation.
        num_values: values that a feature can take.
        num_actions: length of the action axis.
        num_backward_actions: length of the backward action axis for a learned backward policy; None for the uniform one.
        flow_head: whether there is a head for the log-flow of a state.
        child_flow_head: whether there is a head for the log-flow of the state that each action leads to.

    Raises ValueError for sizes below 1.
    """

    num_features: int
    num_values: int
    num_actions: int
    num_backward_actions: int | None = None
    flow_head: bool = False
    child_flow_head: bool = False

    def __post_init__(self) -> None:
        check_at_least("num_features", self.num_features, 1, "It is the environment's number of integers in an observation.")
        check_at_least("num_values", self.num_values, 1, "It is how many values a feature of the environment can take.")
        check_at_least("num_actions", self.num_actions, 1, "It is the length of the environment's action axis.")
        if self.num_backward_actions is not None:
            hint = "Leave it out (None) for the uniform backward policy."
            check_at_least("num_backward_actions", self.num_backward_actions, 1, hint)


def sizes_of(
    env: AbstractEnvironment, *, learned_backward: bool = False, flow_head: bool = False, child_flow_head: bool = False
) -> Sizes:
    """Return the sizes of a policy for an environment; ValueError for a backward policy where no move can be undone.

    Args:
        env: the rules.
        learned_backward: whether to have a head for a backward policy; else that is the uniform one.
        flow_head, child_flow_head: heads as in `Sizes`; `objective.sizes(env)` gives those that an objective needs.
    """
    if learned_backward and not isinstance(env, AbstractReversibleEnvironment):
        raise ValueError(f"learned_backward needs an environment that can step back; {type(env).__name__} cannot.")
    num_backward = env.num_backward_actions if learned_backward and isinstance(env, AbstractReversibleEnvironment) else None
    return Sizes(env.num_features, env.num_values, env.num_actions, num_backward, flow_head, child_flow_head)


def check_at_least(name: str, value: int, minimum: int, hint: str) -> None:
    """Raise ValueError with a hint unless `value` is a whole number of at least `minimum`.

    >>> check_at_least("depth", 0, 1, "The published network has 2.")
    Traceback (most recent call last):
    ...
    ValueError: depth must be a whole number of at least 1, got 0. The published network has 2.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
        raise ValueError(f"{name} must be a whole number of at least {minimum}, got {value!r}. {hint}")


def check_board(sizes: Sizes, rows: int, columns: int) -> None:
    """Raise ValueError unless the features are so many for each cell of a board."""
    check_at_least("rows", rows, 1, "It is the height of the board.")
    check_at_least("columns", columns, 1, "It is the width of the board.")
    if sizes.num_features % (rows * columns):
        raise ValueError(
            f"num_features must be a multiple of rows * columns = {rows * columns}, got {sizes.num_features}. Give the size of "
            "the environment's board."
        )
