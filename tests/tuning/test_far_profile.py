"""The table of costs, on a model small enough to count by hand."""

import gc
import importlib
import weakref

import pytest

zoo = pytest.importorskip("tests.tuning.zoo", reason="PyTorch or transformers is missing: pip install 'narrows[tuning]'")
torch, tuning = zoo.torch, zoo.tuning


def far(**settings):
    return tuning.get_far_model(zoo.build(), tuning.FarConfig(retention=0.1, score="random", **settings))


@pytest.mark.parametrize("mode", ["tier1", "keep", "lean", "recompute", "u8"])
def test_kept_bytes_differ_from_full_by_the_formula(mode):
    batch = zoo.batch(8, 16)
    full = tuning.kept_bytes(zoo.build().train(), batch)
    ours = tuning.kept_bytes(far(memory_mode=mode).train(), batch)
    # Per feed-forward, N = 128, H = 32, F = 64, k = 6, four bytes a number; ordinary fine-tuning keeps NH + 2NF.
    n, f, k = 128, 64, 6
    saved = {"tier1": f - k, "keep": f - k, "lean": f, "recompute": 2 * f, "u8": 2 * f - f / 4 - k}[mode]
    assert full - ours == 2 * 4 * n * saved


def test_counting_lets_go_of_the_model():
    kept = []

    class Saves(torch.nn.Module):
        """A softmax saves its own output for the backward pass."""

        def __init__(self):
            super().__init__()
            self.inner = torch.nn.Linear(8, 8)

        def forward(self, x):
            output = torch.softmax(self.inner(x), -1)
            kept.append(weakref.ref(output))
            return output

    count = importlib.import_module("narrows.tuning.profiling").kept_bytes  # `tuning.profile` is a function
    assert count(Saves().train(), torch.ones(4, 8)) == 2 * 4 * 8 * 4  # input and output
    gc.collect()
    assert kept[0]() is None, "else every model that is profiled stays in memory"


def test_profile_compares_with_full_fine_tuning_and_changes_nothing(capsys):
    model = far(train_embeddings=False)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    table = tuning.profile(model, zoo.batch(8, 16), rounds=1)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items()) and tuning.is_tuned(model)
    assert all(value.grad is None for value in model.parameters())
    ours, full = table.rows
    assert (ours.name, full.name) == ("far", "full")
    assert (ours.trained, full.trained) == (model.get_nb_trainable_parameters()[0], full.parameters)
    assert ours.gradient_bytes == 4 * ours.trained and ours.optimizer_bytes == 8 * ours.trained
    assert ours.kept_bytes < full.kept_bytes
    assert all(value >= 0 for row in table.rows for value in row.seconds) and full.seconds.total > 0
    lines = str(table).splitlines()
    assert [line.split()[0] for line in lines] == ["method", "far", "full", "ratio"] and len(set(map(len, lines))) == 1
    assert f"{ours.trained:,}" in lines[1]


def test_profile_of_a_plain_model_has_one_row():
    (row,) = tuning.profile(zoo.build(), zoo.batch(4, 8), rounds=1).rows
    assert row.name == "as it is" and row.trained == row.parameters


def test_profile_says_what_it_needs():
    unlabelled = {name: value for name, value in zoo.batch().items() if name != "labels"}
    with pytest.raises(ValueError, match="Pass labels"):
        tuning.profile(zoo.build(), unlabelled)
    frozen = zoo.build()
    for value in frozen.parameters():
        value.requires_grad_(False)
    with pytest.raises(ValueError, match="trains nothing"):
        tuning.profile(frozen, zoo.batch())


def test_moments_are_what_the_optimiser_holds():
    model = far(train_embeddings=False)
    optimizer = torch.optim.AdamW([value for value in model.parameters() if value.requires_grad])
    model(**zoo.batch()).loss.backward()
    optimizer.step()
    assert tuning.optimizer_bytes(optimizer) == 8 * model.get_nb_trainable_parameters()[0]
