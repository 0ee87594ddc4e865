"""The fused feed-forward with learners, against autograd over plain operations, and what each variant keeps."""

import pytest

zoo = pytest.importorskip("tests.tuning.zoo", reason="PyTorch or transformers is missing: pip install 'narrows[tuning]'")
torch, tuning, F = zoo.torch, zoo.tuning, zoo.F

from narrows.tuning.learners.functions import Path, Recipe, feed_forward  # noqa: E402  the import needs torch
from narrows.tuning.learners.layers import LearnerLinear  # noqa: E402  the import needs torch

MIB = 2**20


def paths(hidden, inner, gate, has_bias=True, r=2):
    torch.manual_seed(0)
    wide = inner if gate == "none" else 2 * inner

    def path(out, into):
        bias = torch.randn(out).double() if has_bias else None
        return Path(torch.randn(out, into).double(), bias, torch.randn(r, into).double(), torch.randn(out, r).double())

    return path(wide, hidden), path(hidden, inner)


def composed(x, first, second, gate, scales):
    """The formula, operation by operation."""
    z = x @ first.weight.t() + scales[0] * (x @ first.down.t()) @ first.up.t()
    z = z if first.bias is None else z + first.bias
    u, v = z.chunk(2, dim=-1) if gate != "none" else (z, None)
    h = F.gelu(u) if v is None else (F.gelu(u) * v if gate == "first" else u * F.gelu(v))
    y = h @ second.weight.t() + scales[1] * (h @ second.down.t()) @ second.up.t()
    return y if second.bias is None else y + second.bias


@pytest.mark.parametrize("gate", ["none", "first", "second"])
@pytest.mark.parametrize("trained", ["learners", "ups", "all", "last"])
def test_gradients_are_autograds_over_the_formula(gate, trained):
    has_bias = gate != "second"
    first, second = paths(5, 7, gate, has_bias)
    wanted = {
        "learners": (first.down, first.up, second.down, second.up),
        "ups": (first.up, second.up),
        "last": (second.down, second.up),
        "all": tuple(item for item in (*first, *second) if item is not None),
    }
    wanted = [item for item in wanted[trained] if item is not None]
    x = torch.randn(3, 4, 5).double().requires_grad_(trained != "last")
    for item in wanted:
        item.requires_grad_()
    inputs = (*wanted, x) if x.requires_grad else wanted
    ours = feed_forward(x, first, second, Recipe("gelu", gate, (0.5, 2.0)))
    theirs = composed(x, first, second, gate, (0.5, 2.0))
    torch.testing.assert_close(ours, theirs)
    g = torch.randn_like(ours)
    for a, b in zip(torch.autograd.grad(ours, inputs, g), torch.autograd.grad(theirs, inputs, g), strict=True):
        torch.testing.assert_close(a, b)


def test_gradcheck():
    first, second = paths(3, 4, "none")
    leaves = [item.requires_grad_() for item in (torch.randn(2, 3).double(), *first, *second) if item is not None]

    def call(x, *rest):
        return feed_forward(x, Path(*rest[:4]), Path(*rest[4:]), Recipe("gelu", "none", (1.0, 0.5)))

    assert torch.autograd.gradcheck(call, leaves)


def test_a_layer_is_its_formula_and_its_gradients_are_those_of_the_formula():
    torch.manual_seed(0)
    layer = LearnerLinear(zoo.nn.Linear(6, 5).double(), 3, scale=0.5)
    layer.initialise("nonzero", torch.Generator().manual_seed(0))
    x, g = torch.randn(7, 6).double().requires_grad_(), torch.randn(7, 5).double()
    layer(x).backward(g)
    a, b, w = layer.learner_down.detach(), layer.learner_up.detach(), layer.weight.detach()
    torch.testing.assert_close(layer(x), x @ (w + 0.5 * b @ a).t() + layer.bias)
    torch.testing.assert_close(layer.learner_up.grad, 0.5 * g.t() @ (x @ a.t()))
    torch.testing.assert_close(layer.learner_down.grad, 0.5 * (g @ b).t() @ x)
    torch.testing.assert_close(x.grad, g @ (w + 0.5 * b @ a))
    torch.testing.assert_close(layer.bias.grad, g.sum(0))


def kept(forward, weights):
    """Bytes of distinct storages that a forward keeps, parameters apart."""
    known, seen = {w.untyped_storage().data_ptr() for w in weights}, {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            seen[storage.data_ptr()] = (storage.nbytes(), tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = forward()
    assert output.requires_grad
    return sum(size for size, _ in seen.values()) / MIB


def test_kept_bytes_of_a_feed_forward():
    # N=512, H=768, F=3072, single precision: NH is 1.5 MiB, NF is 6 MiB, N r for r=64 is 0.125 MiB.
    ffn = zoo.Ffn()
    up, down = LearnerLinear(ffn.up, 64), LearnerLinear(ffn.down, 64)
    for parameter in (up.weight, down.weight):
        parameter.requires_grad_(False)
    x = torch.randn(512, 768)
    weights = [*up.parameters(), *down.parameters()]
    assert kept(lambda: down(F.gelu(up(x))), weights) == pytest.approx(13.5 + 2 * 0.125, rel=0.01)
    assert kept(lambda: F.linear(F.gelu(up(x)), down.weight), weights) == pytest.approx(7.5 + 0.125, rel=0.01)
    up.fuse(down, "gelu", "none")
    assert kept(lambda: down(up(x)), weights) == pytest.approx(7.5, rel=0.01)
    up.learner_down.requires_grad_(False)
    down.learner_down.requires_grad_(False)
    assert kept(lambda: down(up(x)), weights) == pytest.approx(6.0 + 0.125, rel=0.01)


def test_kept_bytes_of_a_whole_model():
    sizes = {"dim": 768, "hidden_dim": 3072, "n_heads": 12, "max_position_embeddings": 64}
    data = zoo.batch(8, 64)
    full = tuning.kept_bytes(zoo.build("distilbert", **sizes).train(), data)

    def share(**settings):
        model = tuning.get_learner_model(zoo.build("distilbert", **sizes), tuning.LearnerConfig(priming_epochs=0, **settings))
        return tuning.kept_bytes(model.train(), data) / full

    # Learners keep more than ordinary fine-tuning does, unless something is computed again or not trained.
    plain, lean, light = share(), share(memory_mode="lean"), share(train_down_projection=False)
    assert 1.0 < plain <= 1.04 and lean <= 0.85 and light <= 0.72
