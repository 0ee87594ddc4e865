"""Files of rollouts, and what is said where their simulators are missing; none of it needs a simulator."""

import sys

import numpy as np
import pytest

from narrows.vi import td
from narrows.vi.td import rollout_files, rollouts, simulators


def test_without_the_library_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "gymnasium", None)
    for work in (
        lambda: rollouts.collect("CartPole-v1", lambda seen, _: np.zeros(len(seen)), 3, seed=0),
        lambda: rollouts.visited("CartPole-v1", lambda seen, _: np.zeros(len(seen)), 3, seed=0),
    ):
        with pytest.raises(ImportError, match=r"pip install 'narrows\[mujoco\]'"):
            work()


def test_without_mujoco_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "mujoco", None)
    with pytest.raises(ImportError, match=r"pip install 'narrows\[mujoco\]'"):
        simulators.mujoco_access()


def test_values_are_means_with_their_standard_errors():
    found = rollouts.Returns(np.zeros((2, 1)), np.array([[1.0, 2.0, 3.0, 6.0], [5.0, 5.0, 5.0, 5.0]]))
    np.testing.assert_allclose(found.value, [3.0, 5.0])
    # Squared deviations 4, 1, 0, 9 over three, its root over that of four.
    np.testing.assert_allclose(found.standard_error, [(14.0 / 3.0) ** 0.5 / 2.0, 0.0])


def test_files_hold_what_was_saved_and_nothing_else_is_read(tmp_path):
    rng = np.random.default_rng(0)
    first, after = rng.normal(size=(2, 20, 3)).astype(np.float32)
    data = td.Transitions(first, rng.normal(size=20).astype(np.float32), after, rng.random(20) < 0.5)
    for name, saved in (("plain", data), ("weighted", data._replace(weight=np.arange(20.0)))):
        path = tmp_path / "new" / f"{name}.npz"
        rollout_files.save_transitions(path, saved)
        loaded = rollout_files.load_transitions(path)
        assert (loaded.weight is None) == (saved.weight is None)
        for left, right in zip(loaded, saved, strict=True):
            if right is not None:
                np.testing.assert_array_equal(left, right)
                assert np.asarray(left).dtype == right.dtype
    found = rollouts.Returns(np.ones((3, 2)), np.arange(12.0).reshape(3, 4))
    rollout_files.save_returns(tmp_path / "returns.npz", found)
    np.testing.assert_array_equal(rollout_files.load_returns(tmp_path / "returns.npz").returns, found.returns)
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["plain.npz", "weighted.npz"]

    with pytest.raises(ValueError, match="expected the arrays"):
        rollout_files.load_transitions(tmp_path / "returns.npz")
    with pytest.raises(ValueError, match="expected the arrays"):
        rollout_files.load_returns(tmp_path / "new" / "plain.npz")
    (tmp_path / "torn.npz").write_bytes((tmp_path / "returns.npz").read_bytes()[:100])
    with pytest.raises(ValueError, match="not an .npz file"):
        rollout_files.load_returns(tmp_path / "torn.npz")
    np.savez(tmp_path / "pickled.npz", observation=np.ones(2), returns=np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="not an .npz file"):
        rollout_files.load_returns(tmp_path / "pickled.npz")
    np.savez(tmp_path / "short.npz", observation=np.ones((3, 2)), returns=np.ones(3))
    with pytest.raises(ValueError, match=r"shape \[start, rollout\], got \(3,\)"):
        rollout_files.load_returns(tmp_path / "short.npz")
    np.savez(
        tmp_path / "odd.npz",
        observation=np.ones((3, 2)),
        next_observation=np.ones((3, 2)),
        reward=np.ones(2),
        is_terminal=np.ones(3, bool),
    )
    with pytest.raises(ValueError, match="one first axis, the batch"):
        rollout_files.load_transitions(tmp_path / "odd.npz")
    with pytest.raises(ValueError, match="only with arrays as observations"):
        rollout_files.save_transitions(tmp_path / "tree.npz", data._replace(observation={"a": np.ones(20)}))
    assert not list(tmp_path.glob(".*"))


def test_a_file_is_whole_or_not_there(tmp_path, monkeypatch):
    found = rollouts.Returns(np.ones((3, 2)), np.ones((3, 4)))
    path = tmp_path / "returns.npz"
    rollout_files.save_returns(path, found)
    before = path.read_bytes()

    def full(stream, **arrays):
        stream.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OSError, match="disk full"):
        rollout_files.save_returns(path, found)
    assert path.read_bytes() == before and [one.name for one in tmp_path.iterdir()] == ["returns.npz"]
