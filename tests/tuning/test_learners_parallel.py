"""Learners in two processes over gloo, and compiled: the same numbers as in one, and as they stand."""

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

rank, meeting, out = int(sys.argv[1]), sys.argv[2], sys.argv[3]
torch.set_num_threads(1)
dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
config = zoo.tuning.LearnerConfig(r=4, priming_epochs=0, memory_mode="lean")
model = zoo.tuning.get_learner_model(zoo.build("distilbert"), config)
parallel = DistributedDataParallel(model)
buffers = [name for name, _ in model.named_buffers() if "layer" in name]
assert not buffers, buffers
optimizer = torch.optim.AdamW([value for value in model.parameters() if value.requires_grad], 1e-3)
for step in range(3):
    whole = zoo.batch(8, seed=step)
    half = {name: value[4 * rank : 4 * rank + 4] for name, value in whole.items()}
    optimizer.zero_grad()
    parallel(**half).loss.backward()
    optimizer.step()
save_file({name: value.detach().clone() for name, value in model.state_dict().items()}, f"{out}.{rank}")
dist.destroy_process_group()
"""


def learners(**settings):
    return tuning.get_learner_model(
        zoo.build("distilbert"), tuning.LearnerConfig(r=4, priming_epochs=0, memory_mode="lean", **settings)
    )


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
    first, second = load(f"{out}.0"), load(f"{out}.1")
    model = learners()
    start = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = torch.optim.AdamW([value for value in model.parameters() if value.requires_grad], 1e-3)
    for step in range(3):
        optimizer.zero_grad()
        model(**zoo.batch(8, seed=step)).loss.backward()
        optimizer.step()
    assert sum(not torch.equal(value, start[name]) for name, value in model.state_dict().items()) > 40
    for name, value in model.state_dict().items():
        assert torch.equal(first[name], second[name]), name
        if "k_lin.bias" not in name:
            # The gradient of a key's bias is rounding alone, which Adam scales up to whole steps.
            torch.testing.assert_close(first[name], value, rtol=0, atol=1e-6, msg=name)


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
