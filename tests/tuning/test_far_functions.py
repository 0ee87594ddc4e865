"""One feed-forward at a time: gradients against the dense layers, and what is kept for the backward pass."""

import copy

import pytest

zoo = pytest.importorskip("tests.tuning.zoo", reason="PyTorch or transformers is missing: pip install 'narrows[tuning]'")
probe = pytest.importorskip("narrows.tuning.architecture")
inject = pytest.importorskip("narrows.tuning.far.inject")
profile = pytest.importorskip("narrows.tuning.profiling")
torch, nn, F = zoo.torch, zoo.nn, zoo.F

EXACT = ("tier1", "keep", "lean", "recompute")
PLAIN = probe.FfnPair("up", "down", 0, "gelu", "none", True, False, ("act",), None)
MIB = 2**20


class Box(nn.Module):
    """Holds a gated feed-forward, whose shell is the whole of it."""

    def __init__(self, ffn):
        super().__init__()
        self.ffn = ffn

    def forward(self, x):
        return self.ffn(x)


def gradients(module, x, weights):
    """Output, gradient of the input, and those of the parameters, under a fixed gradient of the output."""
    x = x.clone().requires_grad_()
    y = module(x)
    (y * weights).sum().backward()
    return y.detach(), x.grad, {name: value.grad for name, value in module.named_parameters() if value.grad is not None}


def draw(size, k):
    return torch.randperm(size, generator=torch.Generator().manual_seed(1))[:k].sort().values


@pytest.mark.parametrize("mode", EXACT)
@pytest.mark.parametrize("bias", [True, False])
def test_gradients_are_those_of_the_dense_layer(mode, bias):
    torch.manual_seed(0)
    dense = zoo.Ffn(64, 256, bias)
    far, nodes = copy.deepcopy(dense), draw(256, 25)
    inject.reconfigure(far, PLAIN, nodes.tolist(), mode)
    x, weights = torch.randn(4, 24, 64), torch.randn(4, 24, 64)
    y, dx, theirs = gradients(dense, x, weights)
    far_y, far_dx, ours = gradients(far, x, weights)
    assert torch.equal(far_y, y) and torch.equal(far_dx, dx)
    assert torch.equal(ours["up.far_weight"], theirs["up.weight"][nodes])
    assert torch.equal(ours["down.far_weight"], theirs["down.weight"][:, nodes])
    if bias:
        torch.testing.assert_close(ours["up.far_bias"], theirs["up.bias"][nodes], rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(ours["down.bias"], theirs["down.bias"], rtol=1e-6, atol=1e-6)
    assert not {"up.weight", "up.bias", "down.weight"} & set(ours)


@pytest.mark.parametrize("gate", ["first", "second"])
@pytest.mark.parametrize("mode", EXACT)
def test_gated_gradients_are_those_of_the_dense_layer(mode, gate):
    torch.manual_seed(0)
    dense = Box(zoo.GatedFfn(32, 96, gate, bias=True))
    far, nodes = copy.deepcopy(dense), draw(96, 9)
    pair = probe.FfnPair("ffn.up", "ffn.down", 0, "gelu", gate, True, False, (), "ffn")
    inject.reconfigure(far, pair, nodes.tolist(), mode)
    x, weights = torch.randn(5, 11, 32), torch.randn(5, 11, 32)
    y, dx, theirs = gradients(dense, x, weights)
    far_y, far_dx, ours = gradients(far, x, weights)
    rows = torch.cat([nodes, nodes + 96])
    assert torch.equal(far_y, y)
    torch.testing.assert_close(far_dx, dx, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(ours["ffn.up.far_weight"], theirs["ffn.up.weight"][rows], rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(ours["ffn.up.far_bias"], theirs["ffn.up.bias"][rows], rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(ours["ffn.down.far_weight"], theirs["ffn.down.weight"][:, nodes], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", ["gelu", "gelu_tanh", "relu", "silu", "tanh", "gelu_composed", "gelu_tanh_composed"])
@pytest.mark.parametrize("mode", EXACT)
def test_gradients_by_finite_differences(mode, name):
    torch.manual_seed(0)
    ffn = zoo.Ffn(4, 10).double()
    inject.reconfigure(ffn, PLAIN._replace(activation=name), [1, 4, 7], mode)
    if mode == "tier1":
        ffn.act = _Phi(name)
    x = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    trained = [value for value in ffn.parameters() if value.requires_grad]
    originals = [value.detach().clone() for value in trained]

    y = ffn(x)
    weights = torch.randn_like(y)
    analytic = torch.autograd.grad((y * weights).sum(), [x, *trained])
    step = 1e-6
    with torch.no_grad():
        for tensor, gradient in zip([x, *trained], analytic, strict=True):
            flat = tensor.view(-1)
            for i in range(flat.numel()):
                before = flat[i].item()
                flat[i] = before + step
                above = float((ffn(x) * weights).sum())
                flat[i] = before - step
                below = float((ffn(x) * weights).sum())
                flat[i] = before
                assert abs((above - below) / (2 * step) - float(gradient.reshape(-1)[i])) < 1e-6
    assert all(torch.equal(value, original) for value, original in zip(trained, originals, strict=True))


class _Phi(nn.Module):
    def __init__(self, name):
        super().__init__()
        self.phi = pytest.importorskip("narrows.tuning.activations").activation(name)

    def forward(self, z):
        return self.phi.forward(z)


@pytest.mark.parametrize("mode", ["u8", "bf16"])
def test_a_derivative_in_few_bits_is_near_the_exact_one(mode):
    torch.manual_seed(0)
    dense = zoo.Ffn(64, 256)
    far, nodes = copy.deepcopy(dense), draw(256, 25)
    inject.reconfigure(far, PLAIN, nodes.tolist(), mode)
    x, weights = torch.randn(96, 64), torch.randn(96, 64)
    y, dx, theirs = gradients(dense, x, weights)
    far_y, far_dx, ours = gradients(far, x, weights)
    assert torch.equal(far_y, y) and not torch.equal(far_dx, dx)
    for got, expected in ((far_dx, dx), (ours["up.far_weight"], theirs["up.weight"][nodes])):
        assert float((got - expected).abs().max() / expected.abs().max()) <= 5e-3
    assert torch.equal(ours["down.far_weight"], theirs["down.weight"][:, nodes])


def test_a_second_derivative_is_refused():
    ffn = zoo.Ffn(8, 16)
    inject.reconfigure(ffn, PLAIN, [1, 2], "keep")
    x = torch.randn(3, 8, requires_grad=True)
    (dx,) = torch.autograd.grad(ffn(x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable|does not require grad|differentiate twice"):
        dx.sum().backward()


@pytest.mark.parametrize("mode", EXACT)
def test_a_change_between_forward_and_backward_is_refused(mode):
    ffn = zoo.Ffn(8, 16)
    inject.reconfigure(ffn, PLAIN, [1, 2], mode)
    x = torch.randn(3, 8)
    first = ffn(x).sum()
    with torch.no_grad():
        ffn.up.far_weight.add_(1.0)
        ffn.down.far_weight.add_(1.0)
    ffn(x)
    with pytest.raises(RuntimeError, match="changed between its forward and its backward"):
        first.backward()


@pytest.mark.parametrize("mode", EXACT)
def test_two_forwards_before_one_backward(mode):
    torch.manual_seed(0)
    dense = zoo.Ffn(16, 48)
    far, nodes = copy.deepcopy(dense), draw(48, 7)
    inject.reconfigure(far, PLAIN, nodes.tolist(), mode)
    x, z = torch.randn(5, 16), torch.randn(5, 16)
    for module in (dense, far):
        (module(x).square().sum() + module(module(z)).sum()).backward()
    torch.testing.assert_close(far.up.far_weight.grad, dense.up.weight.grad[nodes], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(far.down.far_weight.grad, dense.down.weight.grad[:, nodes], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("mode", [*EXACT, "u8", "bf16"])
def test_under_bfloat16_autocast_it_is_the_dense_layer_in_bfloat16(mode):
    torch.manual_seed(0)
    dense = zoo.Ffn(64, 256)
    far, nodes = copy.deepcopy(dense), draw(256, 25)
    inject.reconfigure(far, PLAIN, nodes.tolist(), mode)
    x, weights = torch.randn(32, 64), torch.randn(32, 64)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        theirs, ours = dense(x.requires_grad_()), far(x)
    assert ours.dtype == torch.bfloat16 and torch.equal(ours, theirs)
    (theirs * weights).sum().backward()
    expected, x.grad = x.grad, None
    (ours * weights).sum().backward()
    assert x.grad is not None and x.grad.dtype == torch.float32
    assert far.up.far_weight.grad.dtype == torch.float32
    torch.testing.assert_close(x.grad, expected, rtol=0.02, atol=0.02 * float(expected.abs().max()))
    torch.testing.assert_close(far.up.far_weight.grad, dense.up.weight.grad[nodes], rtol=0.02, atol=0.05)
    torch.testing.assert_close(far.down.far_weight.grad, dense.down.weight.grad[:, nodes], rtol=0.02, atol=0.05)


def test_autocast_halves_what_is_kept():
    x = torch.randn(64, 768, requires_grad=True)
    ffn = zoo.Ffn()
    inject.reconfigure(ffn, PLAIN, range(307), "keep")
    full = profile.kept_bytes(ffn, x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert profile.kept_bytes(ffn, x) == full / 2


# far 5.3: N = 512, H = 768, F = 3072, fp32, in MiB.
BYTES = {
    (0.1, "tier1"): 8.10,
    (0.1, "keep"): 8.10,
    (0.1, "lean"): 7.50,
    (0.1, "recompute"): 1.50,
    (0.1, "u8"): 3.60,
    (0.1, "bf16"): 5.10,
    (0.4, "tier1"): 9.90,
    (0.4, "keep"): 9.90,
    (0.4, "lean"): 7.50,
    (0.4, "recompute"): 1.50,
}


@pytest.fixture(scope="module")
def tokens():
    return torch.randn(512, 768, requires_grad=True)


@pytest.mark.parametrize(("retention", "mode"), list(BYTES))
def test_kept_bytes_of_a_feed_forward(retention, mode, tokens):
    ffn = zoo.Ffn()
    inject.reconfigure(ffn, PLAIN, range(int(retention * 3072)), mode)
    assert profile.kept_bytes(ffn, tokens) / MIB == pytest.approx(BYTES[retention, mode], rel=0.01)


@pytest.mark.parametrize(("mode", "expected"), [("lean", 7.50), ("recompute", 1.50)])
def test_keeping_less_does_not_depend_on_freezing(mode, expected, tokens):
    ffn = zoo.Ffn()
    inject.reconfigure(ffn, PLAIN, None, mode)
    assert profile.kept_bytes(ffn, tokens) / MIB == pytest.approx(expected, rel=0.01)


def test_kept_bytes_of_a_frozen_feed_forward(tokens):
    ffn = zoo.Ffn()
    ffn.up.weight.requires_grad_(False)
    ffn.down.weight.requires_grad_(False)
    assert profile.kept_bytes(ffn, tokens) / MIB == pytest.approx(6.00, rel=0.01)


class PerLinear(nn.Module):
    """Reading B: output rows of each linear apart, concatenated, and permuted back."""

    def __init__(self, ffn, k):
        super().__init__()
        self.up, self.down, self.k = ffn.up, ffn.down, k

    def split(self, x, linear, order, k):
        weight, bias = linear.weight[order].detach(), linear.bias[order].detach()
        learners = F.linear(x, nn.Parameter(weight[:k].clone()), nn.Parameter(bias[:k].clone()))
        return torch.cat([learners, F.linear(x, weight[k:], bias[k:])], -1)[..., order.argsort()]

    def forward(self, x):
        inner, outer = torch.arange(3072).flip(0), torch.arange(768).flip(0)
        return self.split(F.gelu(self.split(x, self.up, inner, self.k)), self.down, outer, self.k // 4)


class Sliced(nn.Module):
    """The linear that narrows in two parts, fed by views of the learner columns instead of copies."""

    def __init__(self, ffn, k):
        super().__init__()
        self.up, self.k = ffn.up, k
        self.columns = nn.Parameter(ffn.down.weight.detach()[:, :k].clone())
        self.rest = ffn.down.weight.detach()[:, k:].clone()

    def forward(self, x):
        h = F.gelu(self.up(x))
        return F.linear(h[:, : self.k], self.columns) + F.linear(h[:, self.k :], self.rest)


def test_what_saves_nothing(tokens):
    masked = zoo.Ffn()
    for weight in (masked.up.weight, masked.down.weight):
        weight.register_hook(lambda gradient: gradient * 0)
    assert profile.kept_bytes(zoo.Ffn(), tokens) / MIB == pytest.approx(13.5, rel=0.01)
    for module in (masked, PerLinear(zoo.Ffn(), 307), Sliced(zoo.Ffn(), 307)):
        assert profile.kept_bytes(module, tokens) / MIB >= 13.4, type(module).__name__


def test_kept_bytes_count_storages_once():
    x = torch.randn(10, 10, requires_grad=True)
    assert profile.kept_bytes(_Function(lambda x: x[0] * x[1]), x) == 400
    assert profile.kept_bytes(_Function(lambda x: x * x), x) == 400


class _Function(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


FUSED = pytest.mark.slow("compiles again; the optimizer is outside of what is compiled")


@pytest.mark.parametrize("fused", [False, pytest.param(True, marks=FUSED)])
def test_compiled_it_gives_the_same_numbers(fused):
    torch.manual_seed(0)
    plain = zoo.Ffn(16, 32)
    inject.reconfigure(plain, PLAIN, draw(32, 5).tolist(), "keep")
    other = copy.deepcopy(plain)
    results = []
    for module, forward in ((plain, plain), (other, torch.compile(other, backend="aot_eager"))):
        optimizer = torch.optim.SGD([value for value in module.parameters() if value.requires_grad], lr=0.1, fused=fused)
        for step in range(3):
            optimizer.zero_grad()
            forward(torch.randn(4, 16, generator=torch.Generator().manual_seed(step))).square().sum().backward()
            optimizer.step()
        results.append(module.state_dict())
    assert all(torch.equal(value, results[1][name]) for name, value in results[0].items())
