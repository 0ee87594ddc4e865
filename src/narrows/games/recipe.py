"""Recipes of training runs by self-play, as plain data: presets, and from data to a training step."""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias, get_args

import jax
import optax

from narrows import objectives, policies
from narrows.envs.connect_four import ConnectFour
from narrows.envs.game import AbstractGame
from narrows.games.losses import BALANCES, BalanceLoss, FlowMatching, Loss
from narrows.games.names import game_named
from narrows.games.players import MANY_ACTIONS, Acts
from narrows.games.self_play import SelfPlay, SelfPlayTrainer, self_play_trainer
from narrows.policies import AbstractPolicy
from narrows.printing import printable, quote
from narrows.training.optimizers import adam

Algorithm: TypeAlias = Literal["aflownet", "alphazero"]
Preset: TypeAlias = Literal["cpu", "gpu", "faithful"]

FLOW_MATCHING: Final = "FlowMatching"

_BOARD_NETWORKS: Final = ("ColumnNet", "ConvNet", "FaithfulConvNet")


@dataclass(frozen=True)
class Recipe:
    """A training run by self-play. Every table names a class and its fields: the constructor is the schema.

    Args:
        game: a name that `game_named` knows.
        network: `name` of a policy and its sizes.
        loss: `FlowMatching` or the `name` of an adversarial balance objective, and its fields; for AlphaZero empty.
        self_play: fields of `SelfPlay`, or of `alphazero.AlphaZero`.
        optimizer: fields of `training.adam`.
        num_steps: steps of the optimiser.
        every: steps in one compiled chunk, after each of which progress is shown.
        algorithm: which family trains.
        preset: where the recipe came from, for the reader.
        shows_threats: Connect-4 only: whether observations say which cells complete four.
        seed: of everything random.
    """

    game: str
    network: Mapping[str, Any]
    loss: Mapping[str, Any]
    self_play: Mapping[str, Any]
    optimizer: Mapping[str, Any]
    num_steps: int
    every: int
    algorithm: Algorithm = "aflownet"
    preset: str = "cpu"
    shows_threats: bool = True
    seed: int = 0

    def env(self) -> AbstractGame:
        """Return the rules, with observations as the recipe wants them."""
        env = game_named(self.game)
        return ConnectFour(env.width, env.height, self.shows_threats) if isinstance(env, ConnectFour) else env

    def make_policy(self, key: jax.Array) -> AbstractPolicy:
        """Return the network with its initial weights."""
        env, fields = self.env(), dict(self.network)
        name = fields.pop("name")
        if name not in policies.__all__:
            raise ValueError(f"network: unknown name {quote(name)}. Known: {', '.join(policies.__all__)}.")
        if name in _BOARD_NETWORKS:
            fields |= {"rows": env.board[0], "columns": env.board[1]}
        sizes = policies.sizes_of(env, flow_head=True)
        return _construct(f"network {name}", getattr(policies, name), sizes, **fields, key=key)

    def make_loss(self) -> Loss:
        """Return the loss on packed games."""
        fields = dict(self.loss)
        name = fields.pop("name")
        if name == FLOW_MATCHING:
            return _construct("loss FlowMatching", FlowMatching, **fields)
        if name not in BALANCES:
            raise ValueError(f"loss: unknown name {quote(name)}. Known: {FLOW_MATCHING}, {', '.join(BALANCES)}.")
        return BalanceLoss(_construct(f"loss {name}", getattr(objectives, name), **fields))

    def make_optimizer(self) -> optax.GradientTransformation:
        """Return the optimiser; its rates fall to zero along a cosine over the run."""
        return _construct("optimizer", adam, **{"decay_steps": self.num_steps, **self.optimizer})

    @property
    def scale(self) -> float:
        """Log-reward of a win that the flow head is read in; 1 for AlphaZero, whose head is a value."""
        return float(self.self_play.get("scale", 1.0 if self.algorithm == "alphazero" else SelfPlay().scale))

    @property
    def acts(self) -> Acts:
        """Whether the trained network chooses its moves by its policy head or by the flows of their children."""
        default: Acts = "head" if self.algorithm == "alphazero" else SelfPlay().acts
        return self.self_play.get("acts", default)

    def trainer(self) -> SelfPlayTrainer:
        """Return the training step; ValueError where parts do not fit together."""
        if self.algorithm == "alphazero":
            from narrows.games.alphazero import AlphaZero, alphazero_trainer  # an optional library

            settings = _construct("self_play", AlphaZero, **self.self_play)
            return alphazero_trainer(self.env(), self.make_policy, self.make_optimizer(), settings)
        settings = _construct("self_play", SelfPlay, **self.self_play)
        return self_play_trainer(self.env(), self.make_policy, self.make_loss(), self.make_optimizer(), settings)

    def as_data(self) -> dict[str, Any]:
        """Return the recipe as plain JSON data."""
        fields = {item.name: getattr(self, item.name) for item in dataclasses.fields(self)}
        return {name: dict(value) if isinstance(value, Mapping) else value for name, value in fields.items()}

    @classmethod
    def from_data(cls, data: Any, place: str) -> "Recipe":
        """Return the recipe that `as_data` wrote; ValueError naming the place and what is wrong with it."""
        known = {item.name: item for item in dataclasses.fields(cls)}
        if not isinstance(data, dict) or set(data) != set(known):
            came = sorted(data) if isinstance(data, dict) else type(data).__name__
            raise ValueError(f"{place}: expected a recipe with the fields {', '.join(known)}, got {printable(came)}.")
        kinds: dict[str, type] = {name: str for name in ("game", "preset", "algorithm")}
        kinds |= {"num_steps": int, "every": int, "seed": int, "shows_threats": bool}
        for name, value in data.items():
            if not isinstance(value, kinds.get(name, dict)):
                raise ValueError(f"{place}: {name} must be a {kinds.get(name, dict).__name__}, got {quote(value)}.")
        algorithm = data["algorithm"]
        if algorithm not in get_args(Algorithm):
            raise ValueError(f"{place}: algorithm must be one of {', '.join(get_args(Algorithm))}, got {quote(algorithm)}.")
        return cls(**data)


@dataclass(frozen=True)
class _Size:
    """The size of the network and the length of the run that a game is worth, and more settings of self-play."""

    hidden: int
    blocks: int
    num_steps: int
    extra: Mapping[str, Any] = field(default_factory=dict)


def preset(game: str, name: Preset = "cpu", algorithm: Algorithm = "aflownet", seed: int = 0) -> Recipe:
    """Return the recipe of a preset for a game.

    `cpu` is for two cores, `gpu` for an accelerator, `faithful` is the authors' (eflow 5.1).

    Raises ValueError for an unknown game or preset.
    """
    if name not in get_args(Preset):
        raise ValueError(f"there is no preset {name!r}. Known: {', '.join(get_args(Preset))}.")
    env = game_named(game)
    if algorithm == "alphazero":
        return _alphazero(game, env, name, seed)
    if name == "faithful":
        return _faithful(game, env, seed)
    size = _size(env, name)
    if env.num_actions > MANY_ACTIONS:
        return _by_head(game, env, name, size, seed)
    return Recipe(
        game=game,
        network=_network(env, size),
        loss={"name": FLOW_MATCHING},
        self_play={"max_random": env.max_steps - 6 if env.max_steps > 12 else env.max_steps - 3, **size.extra},
        optimizer={"learning_rate": 2e-3},
        num_steps=size.num_steps,
        every=20 if name == "cpu" else 100,
        preset=name,
        seed=seed,
    )


def _by_head(game: str, env: AbstractGame, name: Preset, size: _Size, seed: int) -> Recipe:
    """Return a recipe that looks at the positions played alone, a few long games at a time."""
    many = {"num_slots": 1024, "games_per_round": 128, "num_rows": 32_768, "games_per_batch": 256, "initial_games": 2048}
    few = {"num_slots": 64, "games_per_round": 8, "num_rows": 2048, "games_per_batch": 32, "initial_games": 64}
    return Recipe(
        game=game,
        network=_network(env, size),
        loss={"name": "AdversarialSubTrajectoryBalance"},
        self_play={"acts": "head", "capacity": 10_000, "average": 0.995} | (many if name == "gpu" else few),
        optimizer={"learning_rate": 1e-3},
        num_steps=size.num_steps,
        every=5 if name == "cpu" else 100,
        preset=name,
        seed=seed,
    )


def _network(env: AbstractGame, size: _Size) -> dict[str, Any]:
    # What reads columns alike learns Connect-4 from about half as many positions as a dense network of its cost.
    name = "ColumnNet" if isinstance(env, ConnectFour) else "ResidualMLP"
    return {"name": name, "hidden": size.hidden, "blocks": size.blocks, "precision": "bf16"}


def _size(env: AbstractGame, name: Preset) -> _Size:
    if name == "gpu":
        many = {"num_slots": 4096, "games_per_round": 512, "num_rows": 16_384, "games_per_batch": 2048, "capacity": 500_000}
        return _Size(1024, 4, 20_000, many | {"initial_games": 20_000, "prefers_late": True})
    late = {"prefers_late": True, "average": 0.995}
    if env.max_steps <= 9:
        small = {"num_slots": 128, "games_per_round": 32, "num_rows": 512, "games_per_batch": 80, "capacity": 10_000}
        return _Size(128, 1, 1500, small)
    if env.max_steps <= 30:
        return _Size(128, 2, 8000 if env.max_steps <= 20 else 25_000, late)
    return _Size(256, 2, 100_000, late)


def _alphazero(game: str, env: AbstractGame, name: Preset, seed: int) -> Recipe:
    """Return Gumbel AlphaZero on the same network, or for `faithful` the configuration of eflow 6.4."""
    from narrows.games.alphazero import AlphaZero  # an optional library

    is_wide = env.num_actions > MANY_ACTIONS  # what a search says of a position then takes kilobytes
    few = AlphaZero(num_slots=32, games_per_round=4, capacity=20_000, initial_games=32) if is_wide else AlphaZero()
    slots, capacity = (256, 100_000) if is_wide else (1024, 500_000)
    many = AlphaZero(num_slots=slots, initial_games=slots, games_per_round=64, num_rows=4096, capacity=capacity)
    settings = {"cpu": few, "gpu": many, "faithful": AlphaZero.reproduction()}[name]
    size = _size(env, "cpu" if name == "faithful" else name)
    return Recipe(
        game=game,
        network=_network(env, size),
        loss={},
        self_play={item.name: getattr(settings, item.name) for item in dataclasses.fields(settings)},
        optimizer={"learning_rate": 1e-3},
        num_steps=size.num_steps,
        every=100 if name == "gpu" else 20,
        algorithm="alphazero",
        preset=name,
        seed=seed,
    )


def _faithful(game: str, env: AbstractGame, seed: int) -> Recipe:
    """Return the authors' configuration; the numbers are those of eflow 5.1, of which tic-tac-toe has a column."""
    is_small = env.max_steps <= 9
    channels, blocks, batch = (32, 3, 512) if is_small else (128, 10, 1024)
    play = {
        "acts": "head",
        "num_slots": 1000 if is_small else 1024,
        "initial_games": 6000 if is_small else 250_880,
        "games_per_round": 3000 if is_small else 10_240,
        "steps_per_round": 100 if is_small else 500,
        "capacity": 25_000 if is_small else 250_000,
        "games_per_batch": batch,
        "num_rows": batch * env.max_steps,
        "use_symmetries": False,
        "average": 0.0,
    }
    return Recipe(
        game=game,
        network={"name": "FaithfulConvNet", "channels": channels, "blocks": blocks},
        loss={"name": "AdversarialTrajectoryBalance"},
        self_play=play,
        optimizer={"learning_rate": 1e-3, "log_z_learning_rate": 5e-2, "clip": float("inf"), "decay_steps": None},
        num_steps=1000 if is_small else 25_000,
        every=10,
        preset="faithful",
        shows_threats=False,
        seed=seed,
    )


def _construct(what: str, make: Callable[..., Any], *arguments: Any, **fields: Any) -> Any:
    """Return what a constructor makes of fields; one that it does not know is a ValueError that names the thing."""
    try:
        return make(*arguments, **fields)
    except TypeError as error:
        raise ValueError(f"{what}: {error}. Its fields are those of {make.__name__}.") from error
