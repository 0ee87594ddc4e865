"""Transitions and returns in files, .npz without pickles, which any process may read."""

import zipfile
from os import PathLike, replace
from pathlib import Path
from uuid import uuid4

import numpy as np

from narrows.vi.td.rollouts import Returns
from narrows.vi.td.transitions import Transitions


def save_transitions(path: str | PathLike[str], data: Transitions) -> None:
    """Write transitions with arrays as observations, as an .npz file; the whole file or nothing."""
    arrays = {name: np.asarray(value) for name, value in data._asdict().items() if value is not None}
    if any(value.dtype == object for value in arrays.values()):
        raise ValueError("transitions are saved only with arrays as observations, got another pytree.")
    _save(Path(path), arrays)


def load_transitions(path: str | PathLike[str]) -> Transitions:
    """Read transitions; ValueError for a file that holds none."""
    arrays = _load(Path(path), {"observation", "reward", "next_observation", "is_terminal"}, {"weight"})
    sizes = {value.shape[:1] for value in arrays.values()}
    if len(sizes) != 1 or sizes == {()} or arrays["observation"].shape != arrays["next_observation"].shape:
        shapes = {name: value.shape for name, value in arrays.items()}
        raise ValueError(f"{path}: the arrays of transitions must have one first axis, the batch, got {shapes}.")
    return Transitions(**arrays)


def save_returns(path: str | PathLike[str], found: Returns) -> None:
    """Write returns as an .npz file; the whole file or nothing."""
    _save(Path(path), found._asdict())


def load_returns(path: str | PathLike[str]) -> Returns:
    """Read returns; ValueError for a file that holds none."""
    arrays = _load(Path(path), {"observation", "returns"}, set())
    if arrays["returns"].ndim != 2 or arrays["observation"].shape[:1] != arrays["returns"].shape[:1]:
        raise ValueError(f"{path}: expected returns of shape [start, rollout], got {arrays['returns'].shape}.")
    return Returns(**arrays)


def _save(path: Path, arrays: dict[str, np.ndarray]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{uuid4().hex}.tmp")
    try:
        with draft.open("xb") as stream:
            np.savez(stream, allow_pickle=False, **arrays)
        replace(draft, path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def _load(path: Path, needed: set[str], optional: set[str]) -> dict[str, np.ndarray]:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as found:  # closed also where it is no archive
            arrays = {name: found[name] for name in found.files}
    except (ValueError, EOFError, zipfile.BadZipFile, AttributeError) as error:
        raise ValueError(f"{path}: not an .npz file of arrays ({error}). Collect it again.") from None
    if not needed <= set(arrays) <= needed | optional:
        raise ValueError(f"{path}: expected the arrays {sorted(needed)}, got {sorted(arrays)}. Collect it again.")
    return arrays
