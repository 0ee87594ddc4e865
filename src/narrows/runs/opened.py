"""A run, opened: its folder and everything that its job names, each made once and only when it is asked for."""

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from narrows.config import (
    Job,
    Parts,
    RewardKind,
    assemble,
    build_env,
    build_kernel,
    build_reward,
    measurements,
)
from narrows.data import Table
from narrows.envs import AbstractEnvironment, AbstractKernel
from narrows.envs import Sequence as Sequences
from narrows.envs.sequence import AbstractSequence
from narrows.exact import enumerate_graph, solve
from narrows.files import read_record
from narrows.metrics.likelihood import is_tree, log_likelihood
from narrows.outcomes import ExpectedOutcomes, outcomes_under_noise
from narrows.outcomes.scoring import scores_of_texts
from narrows.policies.base import Model
from narrows.proxies import AbstractProxy
from narrows.rewards import AbstractReward, UnwrapPerturbed
from narrows.runs.folder import RunError, RunFolder
from narrows.runs.records import VerificationRecord
from narrows.search import Found, Problem, Space, genetic_algorithm, hill_climb, num_edits
from narrows.selection import SelectionRecord, ShortlistRow, read_selection
from narrows.selection.rankings import RankedRun
from narrows.storage import checkpoint
from narrows.storage.archive import Archive
from narrows.training import restore

LIST = "list of all objects there are"
CLIMB = "hill climb from the best measured rows"
EVOLUTION = "genetic algorithm from the best measured rows"
"""What a shortlist names in place of a run for an object that no sampler has seen."""
_MOST_STARTS = 1000
"""Best measured rows from which a search of the proxy begins."""
_MOST_LISTED = 1 << 20
"""Objects of a space that are all asked for: a minute's work of a proxy."""
_CLIMBERS = 128
"""Best measured rows from which a run's hill climb begins."""
_CLIMB_CALLS, _CLIMB_STEPS = 16_384, 32
"""Objects that it asks the proxy for at most: so many, or all single edits so many times where there are more."""


class OpenRun(RankedRun):
    """A run folder with what its job names.

    Args:
        folder: the run folder, or its path.
        score: the user's score, texts in and numbers out, where a run that it guides is to be trained or scored with.
        job: the job, where it is at hand already.
    """

    def __init__(self, folder: RunFolder | Path, score: Callable[[Any], Any] | None = None, job: Job | None = None) -> None:
        self.folder = folder if isinstance(folder, RunFolder) else RunFolder.open(folder)
        self.score = score
        if job is not None:
            self.job = job

    @cached_property
    def job(self) -> Job:
        return self.folder.job()

    @cached_property
    def env(self) -> AbstractEnvironment:
        """The rules, without noise."""
        return build_env(self.job)

    @cached_property
    def kernel(self) -> AbstractKernel | None:
        return build_kernel(self.job, self.env)

    @cached_property
    def reward(self) -> AbstractReward | None:
        """The score of finished objects as the job names it, None for a function of the user's."""
        return None if self.is_user_score else build_reward(self.job, self.env)

    @property
    def proxy(self) -> AbstractProxy | None:
        return self.reward if isinstance(self.reward, AbstractProxy) else None

    @cached_property
    def table(self) -> Table | None:
        """The measurements that the job names."""
        return measurements(self.job)

    @cached_property
    def parts(self) -> Parts:
        """The objects that a trainer takes; JobError for a job that needs a score of the user's and has none."""
        return self._parts(self.score)

    @cached_property
    def newest(self) -> checkpoint.Found:
        """The newest checkpoint that verifies, as it was when it was first asked for."""
        return checkpoint.latest(self.folder.checkpoints)

    @cached_property
    def model(self) -> Model:
        """The model of the newest checkpoint; RunError where there is none yet."""
        found = self.newest.path
        if found is None:
            path = self.folder.path
            if self.is_untrained:
                raise RunError(f"{path} trains nothing, so it has no policy. Run its job anew with --set train.num_steps=2000.")
            raise RunError(f"{path} has no checkpoint yet. Wait for its first one, or `narrows resume {path}`.")
        # The policy alone speaks: a score that is not there is not asked.
        parts = self._parts(unasked) if self.is_user_score and self.score is None else self.parts
        state, _ = restore(found, jax.eval_shape(parts.trainer(self.job).init, jax.random.key(self.job.seed)))
        return state.model

    @cached_property
    def selection(self) -> tuple[tuple[ShortlistRow, ...], SelectionRecord | None] | None:
        """The rows of the run's shortlist and how they were chosen, None without one."""
        return read_selection(self.folder.shortlist) if self.folder.shortlist.exists() else None

    @cached_property
    def verification(self) -> VerificationRecord | None:
        """The true scores of the run's shortlist, None without them and where the shortlist was replaced since."""
        path = self.folder.verification
        if self.selection is None or not path.exists():
            return None
        truth = read_record(path, VerificationRecord, f"Make it again: narrows verify {self.folder.path} SCORE")
        verified = [name for group in truth.groups if group.role == "shortlist" for name in group.objects]
        return truth if verified == [row.sequence for row in self.selection[0]] else None

    @cached_property
    def outcomes(self) -> ExpectedOutcomes | None:
        """The outcomes of the run's objects, as far as they are known; None for a run without noise."""
        if self.job.noise is None or self.kernel is None:
            return None
        name, settings = self.job.noise["name"], {key: value for key, value in self.job.noise.items() if key != "name"}
        shown = ", ".join(f"{key} {value}" for key, value in settings.items() if value is not None)
        score = self.reward if self.proxy is None else self.proxy.predicted_mean()
        return outcomes_under_noise(f"{name} ({shown})" if shown else name, self.env, self.kernel, score)

    @property
    def num_seen(self) -> int:
        """The number of distinct objects that the run has seen."""
        if not self.folder.archive.exists():
            return 0
        with Archive.open(self.folder.archive, read_only=True) as archive:
            return archive.count()

    @property
    def num_asked(self) -> int:
        """Objects that a rival may ask for: what the run has seen and its searches have asked, a list of all left aside."""
        if self.can_be_listed:
            return max(self.num_seen, _CLIMB_CALLS)
        return self.num_seen + sum(len(found.objects) for found in self.searched.values())

    @property
    def is_user_score(self) -> bool:
        return self.job.reward_kind is RewardKind.USER

    @property
    def is_untrained(self) -> bool:
        """Whether the job trains nothing: its list comes from plain searches."""
        return self.job.train.num_steps == 0

    @property
    def is_fitted(self) -> bool:
        return self.job.reward_kind is RewardKind.FITTED

    @property
    def is_noisy(self) -> bool:
        return self.job.noise is not None

    @property
    def is_sequence(self) -> bool:
        return isinstance(self.env, AbstractSequence)

    @property
    def letters(self) -> str | None:
        """The letters of the objects, None where they are not sequences of letters."""
        return self.env.alphabet if isinstance(self.env, Sequences) else None

    @property
    def is_tree(self) -> bool:
        """Whether every object can be made in one way only."""
        return is_tree(self.env)

    @property
    def env_name(self) -> str:
        return type(self.env).__name__

    @property
    def missing_model(self) -> str | None:
        """Why there is no policy to ask, None where there is one."""
        if self.newest.path is not None or (self.is_untrained and self.can_be_listed):
            return None
        if self.is_untrained:
            return f"{self.folder.path} trains none ([train] num_steps = 0)"
        return f"{self.folder.path} has no checkpoint" + "".join(f"; {line}" for line in self.newest.skipped)

    def scored_by(self, score: Callable[[Any], Any] | None) -> "OpenRun":
        """Return the run with a score of the user's."""
        return OpenRun(self.folder, score, self.job)

    @property
    def kappa_of_score(self) -> float:
        """Standard deviations that come off what a score of the user's says; 0 where the reward sees to it itself."""
        return self.job.reward["kappa"] if self.is_user_score else 0.0

    def log_likelihoods(self, objects: Sequence[str]) -> Float[np.ndarray, " object"]:
        """Return the log-probability of each object under the model, in nats; only where an object is made in one way.

        A run that trains nothing has the exact solution of its objective instead.
        """
        if self.is_untrained and self.newest.path is None:
            return np.array([self._solved[text] for text in objects])
        return log_likelihood(self.model, self.env, self.env.from_text(objects))

    @cached_property
    def _solved(self) -> dict[str, float]:
        """The log-probability of every object under the policy that the job's objective would learn."""
        graph, reward = enumerate_graph(self.env), self.parts.reward
        assert isinstance(reward, AbstractReward), "a score of the user's is not listed"
        texts = self.env.to_text(graph.terminal_states)
        found = solve(graph, reward.in_double(graph.terminal_states), self.parts.objective.operator)
        return dict(zip(texts, found.log_probs.tolist(), strict=True))

    def predict(self, objects: Sequence[str]) -> Float[np.ndarray, " object"]:
        """Return the score that guided the run for any objects; NaN for a run guided by a function of the user's."""
        if self.reward is None:
            return np.full(len(objects), np.nan)
        if self.proxy is not None:
            return self.proxy.predict(objects)[0]
        parts = self.parts
        assert isinstance(parts.reward, AbstractReward), "a score of the user's is not asked"
        return parts.reward.in_double(parts.env.from_text(objects)) / parts.beta

    def counted(self, objects: Sequence[str]) -> Float[np.ndarray, " object"]:
        """Return the score of any objects as it guides the run, less what caution and distance take off; not a user's own."""
        reward = self.parts.reward
        reward = reward.reward if isinstance(reward, UnwrapPerturbed) else reward
        assert isinstance(reward, AbstractReward), "a score of the user's is not asked"
        return (reward.reference + scores_of_texts(reward.centred(), self.env, objects)) / self.parts.beta

    @cached_property
    def problem(self) -> Problem | None:
        """The search of the run's proxy from the best measured rows, None where there is no proxy or nothing measured."""
        if self._searched is None:
            return None
        space, starts = self._searched
        return Problem(self.counted, space, starts, self.counted(starts))

    @property
    def can_be_listed(self) -> bool:
        """Whether every object there is is scored by the proxy, so that all are candidates."""
        return self._searched is not None and self._searched[0].num_objects <= _MOST_LISTED

    @cached_property
    def _searched(self) -> tuple[Space, tuple[str, ...]] | None:
        """Where the proxy is searched and from which measured rows, the best first; None without a proxy or such rows."""
        if self.proxy is None or self.table is None or not isinstance(self.env, Sequences):
            return None
        space = Space(self.env.alphabet, self.env.min_length, self.env.max_length)
        table, held = self.table, space.holds(self.table.sequences)
        order = [place for place in np.argsort(-table.scores, kind="stable").tolist() if held[place]]
        starts = tuple(dict.fromkeys(table.sequences[place] for place in order))[:_MOST_STARTS]
        return (space, starts) if starts else None

    @cached_property
    def listed(self) -> Found | None:
        """Every object there is with its score as it guides the run, None where they are too many or nothing is searched."""
        if self.problem is None or not self.can_be_listed:
            return None
        everything = tuple(self.problem.space.write(self.problem.space.listed()))
        return Found(everything, self.counted(everything))

    @cached_property
    def climbed(self) -> Found | None:
        """Everything that a hill climb from the best measured rows asked the proxy for, None where there is no such search."""
        if self.problem is None:
            return None
        calls = max(_CLIMB_CALLS, _CLIMB_STEPS * num_edits(self.problem.space))
        return hill_climb(self.problem.first(_CLIMBERS), calls)

    @cached_property
    def evolved(self) -> Found | None:
        """Everything that a genetic algorithm from the best measured rows asked the proxy for, None without such a search."""
        return None if self.problem is None else genetic_algorithm(self.problem, _CLIMB_CALLS, self.job.seed)

    @property
    def searched(self) -> dict[str, Found]:
        """The objects that plain searches of the proxy find, by what a list calls them; nothing where nothing is searched.

        All there are where they can be listed; else those of a hill climb and of a genetic algorithm.
        """
        if self.listed is not None:
            return {LIST: self.listed}
        found = {CLIMB: self.climbed, EVOLUTION: self.evolved}
        return {name: one for name, one in found.items() if one is not None}

    def _parts(self, score: Callable[[Any], Any] | None) -> Parts:
        def reward() -> AbstractReward:
            assert self.reward is not None, "the reward of a job without a score of the user's"
            return self.reward

        return assemble(self.job, self.env, self.kernel, reward, lambda: self.table, score)


def unasked(objects: Sequence[str]) -> np.ndarray:
    """Stand in for a score of the user's where a job is only checked or its policy read."""
    raise AssertionError(f"the score of {len(objects)} objects was asked for, though nothing is trained.")
