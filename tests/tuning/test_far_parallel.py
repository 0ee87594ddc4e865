"""Two processes over gloo: the same training as one, and nothing of ours among the buffers that are broadcast."""

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
model = zoo.tuning.get_far_model(zoo.build("distilbert"), zoo.tuning.FarConfig(retention=0.1, score="random"))
parallel = DistributedDataParallel(model)
buffers = [name for name, _ in model.named_buffers() if "ffn" in name]
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
    model = tuning.get_far_model(zoo.build("distilbert"), tuning.FarConfig(retention=0.1, score="random"))
    optimizer = torch.optim.AdamW([value for value in model.parameters() if value.requires_grad], 1e-3)
    for step in range(3):
        optimizer.zero_grad()
        model(**zoo.batch(8, seed=step)).loss.backward()
        optimizer.step()
    for name, value in model.state_dict().items():
        assert torch.equal(first[name], second[name]), name
        torch.testing.assert_close(first[name], value, rtol=0, atol=1e-6, msg=name)
