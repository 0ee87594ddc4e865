"""Two processes over gloo, and two halves of a batch in one, train as the whole does; and compiled, numbers are the same."""

import copy
import subprocess
import sys
from pathlib import Path

import pytest

zoo = pytest.importorskip("tests.tuning.zoo", reason="PyTorch or transformers is missing: pip install 'narrows[tuning]'")
torch, tuning = zoo.torch, zoo.tuning

ROOT = Path(__file__).parents[2]
WORKER = """
import sys
import torch
import torch.distributed as dist
from safetensors.torch import save_file
from torch.nn.parallel import DistributedDataParallel
from tests.tuning import zoo
from tests.tuning.test_parallel import METHODS, STEPS, optimizer_of

rank, meeting, out = int(sys.argv[1]), sys.argv[2], sys.argv[3]
torch.set_num_threads(1)
dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
for method, build in METHODS.items():
    model = build()
    parallel, optimizer = DistributedDataParallel(model), optimizer_of(model)
    for step in range(STEPS):
        half = {name: value[4 * rank : 4 * rank + 4] for name, value in zoo.batch(8, seed=step).items()}
        optimizer.zero_grad()
        parallel(**half).loss.backward()
        optimizer.step()
    save_file({name: value.detach().clone() for name, value in model.state_dict().items()}, f"{out}.{method}.{rank}")
dist.destroy_process_group()
"""
STEPS = 3


def learners(**settings):
    return tuning.get_learner_model(
        zoo.build("distilbert"), tuning.LearnerConfig(r=4, priming_epochs=0, memory_mode="lean", **settings)
    )


METHODS = {
    "far": lambda: tuning.get_far_model(zoo.build("distilbert"), tuning.FarConfig(retention=0.1, score="random")),
    "learners": learners,
}


def optimizer_of(model):
    return torch.optim.AdamW([value for value in model.parameters() if value.requires_grad], 1e-3)


def trained_whole(method):
    model = METHODS[method]()
    optimizer = optimizer_of(model)
    for step in range(STEPS):
        optimizer.zero_grad()
        model(**zoo.batch(8, seed=step)).loss.backward()
        optimizer.step()
    return model.state_dict()


def assert_same_training(found, method):
    start, moved = METHODS[method]().state_dict(), 0
    for name, value in trained_whole(method).items():
        moved += not torch.equal(value, start[name])
        # The gradient of a key's bias is rounding alone, which Adam scales up to whole steps.
        if method == "far" or "k_lin.bias" not in name:
            torch.testing.assert_close(found[name], value, rtol=0, atol=1e-6, msg=name)
    assert moved > 30


@pytest.mark.parametrize("method", METHODS)
def test_the_mean_gradient_of_two_halves_trains_as_the_whole(method):
    """What data-parallel training computes, without its processes; and it would broadcast buffers, of which we add none."""
    first = METHODS[method]()
    assert {name for name, _ in first.named_buffers()} == {name for name, _ in zoo.build("distilbert").named_buffers()}
    second, optimizer = copy.deepcopy(first), optimizer_of(first)
    for step in range(STEPS):
        batch = zoo.batch(8, seed=step)
        for half, model in enumerate((first, second)):
            model.zero_grad()
            model(**{name: value[4 * half : 4 * half + 4] for name, value in batch.items()}).loss.backward()
        for one, other in zip(first.parameters(), second.parameters(), strict=True):
            if one.grad is not None and other.grad is not None:
                one.grad = (one.grad + other.grad) / 2
        optimizer.step()
        with torch.no_grad():
            for one, other in zip(first.parameters(), second.parameters(), strict=True):
                other.copy_(one)
    assert_same_training(first.state_dict(), method)


@pytest.mark.slow("starts two processes with PyTorch; the mean gradient of two halves is compared in one, above")
def test_two_processes_train_as_one(tmp_path):
    meeting, out = tmp_path / "meeting", tmp_path / "state"
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, str(rank), str(meeting), str(out)], stderr=subprocess.PIPE, text=True, cwd=ROOT
        )
        for rank in range(2)
    ]
    for worker in workers:
        _, errors = worker.communicate(timeout=170)
        assert worker.returncode == 0, errors
    load = pytest.importorskip("safetensors.torch").load_file
    for method in METHODS:
        first, second = load(f"{out}.{method}.0"), load(f"{out}.{method}.1")
        assert all(torch.equal(first[name], second[name]) for name in first)
        assert_same_training(first, method)


def test_compiled_it_gives_the_same_numbers():
    torch.manual_seed(0)
    model = learners(init="nonzero")
    layer = model.distilbert.transformer.layer[0].ffn
    compiled = torch.compile(layer, backend="aot_eager")
    x = torch.randn(2, 5, zoo.HIDDEN, requires_grad=True)
    parameters = [x, *(value for value in layer.parameters() if value.requires_grad)]
    plain, other = layer(x), compiled(x)
    torch.testing.assert_close(other, plain)
    wanted = torch.autograd.grad(plain.square().sum(), parameters)
    for a, b in zip(torch.autograd.grad(other.square().sum(), parameters), wanted, strict=True):
        torch.testing.assert_close(a, b)
