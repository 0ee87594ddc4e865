"""A fitted proxy against plain loops, and its files against every way of damaging them."""

import hashlib
import json
import re
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from tests.rewards.proxies import make_quality

from narrows.data import Space
from narrows.proxies import fitted as module
from narrows.proxies.files import save_tree
from narrows.proxies.fitted import FIRST_KIND, MANIFEST, FittedProxy, encode, load, read_quality, save
from narrows.proxies.models.base import Lesson
from narrows.proxies.models.learners import LEARNERS
from narrows.proxies.models.networks import Networks, make_networks, sizes
from narrows.storage.pytree import tree_hash

SPACE = Space("rna", "ACGU", 0, 9)


def make_proxy(seed=0, space=SPACE, members=3):
    one = jnp.float32
    networks = Networks(make_networks(space, members, jax.random.key(seed)))
    return FittedProxy((networks,), jnp.ones(1), 2.0, one(0.5), one(1.5), space)


def networks_of(proxy):
    (networks,) = proxy.models
    assert isinstance(networks, Networks)
    return networks.networks


def texts(num, space=SPACE, seed=0):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(space.min_length, space.max_length + 1, num)
    return ["".join(rng.choice(list(space.alphabet), length)) for length in lengths]


# --- predictions ---


def gelu(x):
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def network_in_loops(member, text, alphabet):
    """The formula of `Network`, one position at a time, in float64."""
    rows = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), member)

    def slide(layer, states, window):
        out = []
        for i in range(len(states)):
            around = [states[j] if 0 <= j < len(states) else 0 * states[0] for j in range(i - window // 2, i + window // 2 + 1)]
            out.append(gelu(layer.weight @ np.concatenate(around) + layer.bias))
        return out

    letters = [np.eye(len(alphabet))[alphabet.index(letter)] for letter in text]
    states = slide(rows.first, letters, 5)
    for layer in rows.residual:
        states = [old + new for old, new in zip(states, slide(layer, states, 3), strict=True)]
    placed = sum(rows.positions[i, alphabet.index(letter)] for i, letter in enumerate(text))
    features = np.concatenate([np.sum(states, 0) / np.sqrt(len(text)), np.max(states, 0), placed])
    return (rows.head.weight @ gelu(rows.hidden.weight @ features + rows.hidden.bias) + rows.head.bias)[0]


def test_mean_and_std_are_those_of_the_members_in_plain_loops():
    proxy = make_proxy()
    objects = [text for text in texts(12) if text]
    members = [jax.tree.map(lambda leaf, k=k: np.asarray(leaf)[k], networks_of(proxy)) for k in range(3)]
    outputs = np.array([[network_in_loops(member, text, "ACGU") for text in objects] for member in members])
    mean, std = proxy.predict(objects)
    np.testing.assert_allclose(mean, 2.0 + 0.5 * outputs.mean(0), rtol=1e-4)
    np.testing.assert_allclose(std, 1.5 * 0.5 * outputs.std(0), rtol=1e-3)


def test_padding_changes_nothing():
    proxy = make_proxy()
    tokens = jnp.asarray(encode([text for text in texts(20) if len(text) <= 6], SPACE))
    predict = eqx.filter_jit(lambda tokens: proxy(tokens))
    mean, std = predict(tokens)
    for changed in (tokens[:, :6], jnp.pad(tokens, ((0, 0), (0, 5)), constant_values=4)):
        other_mean, other_std = predict(changed)
        np.testing.assert_allclose(other_mean, mean, rtol=1e-5)
        np.testing.assert_allclose(other_std, std, rtol=1e-4, atol=1e-6)


def test_letters_and_their_places_both_count():
    mean, _ = make_proxy().predict(["ACGU", "ACGUA", "AACGU", "UGCA", "A", ""])
    assert len(np.unique(mean.round(6))) == 6
    assert np.isfinite(mean).all()


def test_it_runs_inside_a_compiled_program_and_agrees_with_the_host():
    proxy, objects = make_proxy(), texts(5)

    @jax.jit
    def lower_bound(tokens):
        mean, std = proxy(tokens)
        return mean - 2.0 * std

    mean, std = proxy.predict(objects)
    bound = lower_bound(jnp.asarray(encode(objects, SPACE)))
    assert bound.dtype == jnp.float32
    np.testing.assert_allclose(bound, mean - 2.0 * std, rtol=1e-4)


def test_predict_compiles_once_for_any_number_of_objects(monkeypatch):
    monkeypatch.setattr(module, "BATCH", 8)
    shapes = []

    @eqx.filter_jit
    def counted(proxy, tokens):
        shapes.append(tokens.shape)  # runs when traced, that is compiled
        return proxy(tokens)

    monkeypatch.setattr(module, "_evaluate", counted)
    proxy, objects = make_proxy(), texts(21)
    mean, std = proxy.predict(objects)
    one_by_one = [proxy.predict([text]) for text in objects]
    np.testing.assert_allclose(mean, np.concatenate([pair[0] for pair in one_by_one]), rtol=1e-5)
    np.testing.assert_allclose(std, np.concatenate([pair[1] for pair in one_by_one]), rtol=1e-4, atol=1e-6)
    assert shapes == [(8, 9)]
    assert (mean.dtype, std.dtype, mean.shape) == (np.float64, np.float64, (21,))
    assert [array.shape for array in proxy.predict([])] == [(0,), (0,)]


@pytest.mark.parametrize(
    ("bad", "match"),
    [
        ("ACGT", r"object 1 \('ACGT'\): letter 'T' at position 4 is not in the alphabet 'ACGU'"),
        ("acgu", "letter 'a' at position 1"),
        ("A" * 10, "object 1 .*expected a text of 0 to 9 letters"),
        (None, "object 1"),
    ],
)
def test_an_object_out_of_the_space_is_named(bad, match):
    with pytest.raises(ValueError, match=match):
        make_proxy().predict(["ACGU", bad])


def test_one_text_is_no_list():
    with pytest.raises(ValueError, match="Put it in a list"):
        make_proxy().predict("ACGU")


# --- files ---


def test_what_was_saved_comes_back_bit_for_bit(tmp_path):
    proxy, quality = make_proxy(), make_quality()
    assert save(proxy, quality, tmp_path / "deep" / "proxy") == tmp_path / "deep" / "proxy"
    loaded, manifest = load(tmp_path / "deep" / "proxy")
    assert tree_hash(loaded) == tree_hash(proxy)
    assert loaded.space == SPACE
    assert manifest["statistics"] == {"offset": 2.0, "scale": 0.5, "std_scale": 1.5}
    found = read_quality(tmp_path / "deep" / "proxy")
    assert found.to_dict() == quality.to_dict()
    np.testing.assert_array_equal(found.test_distance, [np.nan, 3.0])


def test_a_proxy_is_replaced_as_a_whole(tmp_path):
    save(make_proxy(0), make_quality(), tmp_path)
    save(make_proxy(1), make_quality(num_train=9), tmp_path)
    assert tree_hash(load(tmp_path)[0]) == tree_hash(make_proxy(1))
    assert read_quality(tmp_path).num_train == 9
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("step", ["proxies.files.write_atomically", "files.writing.os.replace", "files.writing.os.fsync"])
def test_a_save_that_breaks_off_leaves_the_old_proxy(tmp_path, monkeypatch, step):
    save(make_proxy(0), make_quality(), tmp_path)

    def broken(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(f"narrows.{step}", broken)
        save(make_proxy(1), make_quality(), tmp_path)
    assert tree_hash(load(tmp_path)[0]) == tree_hash(make_proxy(0))
    save(make_proxy(2), make_quality(), tmp_path)
    assert tree_hash(load(tmp_path)[0]) == tree_hash(make_proxy(2))
    assert len([path for path in tmp_path.iterdir() if path.name.startswith("weights")]) == 1


def without_checksum(path):
    """Return a manifest as of a folder that was made so, by a program that writes no checksum."""
    return {name: value for name, value in json.loads(path.read_text()).items() if name != "checksum"}


def rewrite(folder, change):
    """Change the stored arrays and make hash and name fit again, as a foreign program would."""
    manifest = without_checksum(folder / MANIFEST)
    (old,) = folder.glob("weights-*.safetensors")
    payload = safetensors.numpy.save(change(safetensors.numpy.load_file(old)))
    old.unlink()
    manifest["weights_sha256"] = hashlib.sha256(payload).hexdigest()
    (folder / f"weights-{manifest['weights_sha256'][:16]}.safetensors").write_bytes(payload)
    (folder / MANIFEST).write_text(json.dumps(manifest))


HEAD = ".models[0].networks.head.bias"


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda leaves: {k: v for k, v in leaves.items() if k != HEAD}, f"leaf {re.escape(HEAD)} is missing"),
        (lambda leaves: leaves | {"extra": np.zeros(1)}, "leaf extra is not one of this proxy's"),
        (
            lambda leaves: leaves | {HEAD: leaves[HEAD][:2]},
            rf"{re.escape(HEAD)} is float32\[2, 1\], expected float32\[3, 1\]",
        ),
        (lambda leaves: leaves | {HEAD: leaves[HEAD].astype(np.float64)}, f"leaf {re.escape(HEAD)} is float64"),
        (lambda leaves: leaves | {".offset": np.array(7.0, np.float32)}, "the statistics differ"),
    ],
)
def test_weights_that_do_not_fit_are_refused_by_name(tmp_path, change, match):
    save(make_proxy(), make_quality(), tmp_path)
    rewrite(tmp_path, change)
    with pytest.raises(ValueError, match=match) as caught:
        load(tmp_path)
    assert str(tmp_path) in str(caught.value)


def edit(path, **changed):
    path.write_text(json.dumps({**without_checksum(path), **changed}))


@pytest.mark.parametrize(
    ("damage", "match"),
    [
        (lambda folder: (folder / MANIFEST).unlink(), r"is no proxy: .*manifest.json is missing"),
        (lambda folder: (folder / MANIFEST).write_text("{"), "not JSON"),
        (lambda folder: (folder / MANIFEST).write_bytes(b"\xff\xfe\x00"), "no UTF-8"),
        (lambda folder: (folder / MANIFEST).write_text("[" * 100_000), "not JSON"),
        (lambda folder: (folder / MANIFEST).write_text("[]"), "expected a JSON object"),
        (lambda folder: edit(folder / MANIFEST, format="other"), "is no manifest of a proxy"),
        (lambda folder: edit(folder / MANIFEST, version=3), "has version 3 and this Narrows reads 2"),
        (lambda folder: edit(folder / MANIFEST, more=1), "'more'"),
        (lambda folder: edit(folder / MANIFEST, space={"name": "rna"}), "is no space"),
        (
            lambda folder: edit(folder / MANIFEST, space={"name": "x", "alphabet": "AA", "min_length": 0, "max_length": 9}),
            "repeats 'A'",
        ),
        (lambda folder: edit(folder / MANIFEST, models=[{"model": "Networks", "members": 3}]), "this Narrows has networks of"),
        (lambda folder: edit(folder / MANIFEST, models=[{"model": "os.system"}]), "this Narrows has models"),
        (lambda folder: edit(folder / MANIFEST, models=[]), "this Narrows has models"),
        (lambda folder: edit(folder / MANIFEST, models=[{"model": "Networks", "members": 3, **sizes()}] * 99), "has models"),
        (lambda folder: edit(folder / MANIFEST, weights_sha256="../../etc/passwd"), "no SHA-256"),
        (lambda folder: edit(folder / MANIFEST, weights_sha256="0" * 64), "is missing, though"),
        (lambda folder: next(folder.glob("weights-*")).write_bytes(b"\0" * 8), "is damaged: its SHA-256"),
    ],
)
def test_a_damaged_folder_is_told_from_a_proxy(tmp_path, damage, match):
    save(make_proxy(), make_quality(), tmp_path)
    damage(tmp_path)
    with pytest.raises(ValueError, match=match) as caught:
        load(tmp_path)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"rmse": "small"}, "rmse is 'small'"),
        ({"test_mean": [1.0, "2"]}, "test_mean is no list of numbers"),
        ({"test_mean": [1.0]}, "differ in length"),
        ({"other": 1}, r"unknown fields \['other'\]"),
    ],
)
def test_quality_figures_of_another_kind_are_refused(tmp_path, change, match):
    save(make_proxy(), make_quality(), tmp_path)
    manifest = json.loads((tmp_path / MANIFEST).read_text())
    edit(tmp_path / MANIFEST, quality=manifest["quality"] | change)
    with pytest.raises(ValueError, match=match) as caught:
        read_quality(tmp_path)
    assert str(tmp_path) in str(caught.value)


# --- every kind of model, averages, and what was written before ---


def learned(names, space):
    """Return a proxy that averages models of some made rows."""
    rng = np.random.default_rng(0)
    tokens = encode(["".join(row) for row in rng.choice(list(space.alphabet), (40, space.max_length))], space)
    lesson = Lesson(tokens, rng.normal(size=40), np.ones(40), np.zeros(40, np.int64), space, 0)
    known = {learner.name: learner for learner in LEARNERS}
    models = tuple(known[name].learn(lesson, known[name].prepare(lesson), 0) for name in names)
    shares = jnp.full(len(names), 1.0 / len(names), jnp.float32)
    return FittedProxy(models, shares, 10.0, jnp.float32(2.0), jnp.float32(1.5), space)


def test_an_average_is_that_of_its_models_and_every_kind_is_kept_bit_for_bit(tmp_path):
    space = Space("rna", "ACGU", 5, 5)
    proxy = learned(["mean", "ridge-words", "gp-letters", "trees"], space)
    save(proxy, make_quality(), tmp_path)
    loaded, _ = load(tmp_path)
    assert tree_hash(loaded) == tree_hash(proxy)
    objects = texts(7, space)
    tokens = jnp.asarray(encode(objects, space))

    @eqx.filter_jit  # op by op it would compile a hundred small programs
    def parts(proxy, tokens):
        members = [model.members(tokens) for model in proxy.models]
        return [model(tokens) for model in proxy.models], jnp.concatenate(members), proxy.least(tokens)

    each, members, least = parts(proxy, tokens)
    means, stds = (np.stack(part) for part in zip(*each, strict=True))
    mean, std = loaded.predict(objects)
    np.testing.assert_allclose(mean, 10.0 + 2.0 * means.mean(axis=0), rtol=1e-5)
    expected = np.sqrt((stds**2 + means**2).mean(axis=0) - means.mean(axis=0) ** 2)
    np.testing.assert_allclose(std, 3.0 * expected, rtol=1e-3)
    assert proxy.num_members == len(members) == 1 + 1 + 1 + 4
    lowest = np.asarray(members).min(axis=0)
    np.testing.assert_allclose(least, 10.0 + 2.0 * (means.mean(0) - 1.5 * (means.mean(0) - lowest)), rtol=1e-4)


def test_a_proxy_of_the_first_version_is_read(tmp_path):
    """Networks alone, under the names that they had then, and a quality without a comparison."""
    proxy = make_proxy()

    class Stored(NamedTuple):
        members: Any
        offset: Any
        scale: Any
        std_scale: Any

    one = jnp.float32
    newer = ("compared", "interval_95", "trusted_distance", "beats_mean", "measurement_std")
    fields = {
        "space": {"name": "rna", "alphabet": "ACGU", "min_length": 0, "max_length": 9},
        "architecture": {"members": 3, **sizes()},
        "statistics": {"offset": 2.0, "scale": 0.5, "std_scale": 1.5},
        "quality": {name: value for name, value in make_quality().to_dict().items() if name not in newer},
    }
    save_tree(tmp_path, FIRST_KIND, Stored(networks_of(proxy), one(2.0), one(0.5), one(1.5)), fields)
    loaded, _ = load(tmp_path)
    assert tree_hash(loaded) == tree_hash(proxy)
    assert read_quality(tmp_path).to_dict() == make_quality().to_dict()
