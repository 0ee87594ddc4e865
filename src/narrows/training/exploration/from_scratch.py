"""The usual exploration: every object is drawn from the root."""

from jaxtyping import PRNGKeyArray

from narrows.training.exploration.base import AbstractExploration, Scene


class FromScratch(AbstractExploration):
    """Draw every object from its first step on."""

    def plan(self, key: PRNGKeyArray, scene: Scene) -> None:
        return None
