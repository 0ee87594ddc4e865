"""The ensemble against plain loops, and its files against every way of damaging them."""

import hashlib
import json

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from tests.rewards.proxies import make_quality

from narrows.data import Space
from narrows.proxies import ensemble as module
from narrows.proxies.ensemble import MANIFEST, Ensemble, encode, load, make_members, read_quality, save
from narrows.storage.pytree import tree_hash

SPACE = Space("rna", "ACGU", 0, 9)


def make_ensemble(seed=0, space=SPACE, members=3):
    one = jnp.float32
    return Ensemble(make_members(space, members, jax.random.key(seed)), one(2.0), one(0.5), one(1.5), space)


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
    ensemble = make_ensemble()
    objects = [text for text in texts(12) if text]
    members = [jax.tree.map(lambda leaf, k=k: np.asarray(leaf)[k], ensemble.members) for k in range(3)]
    outputs = np.array([[network_in_loops(member, text, "ACGU") for text in objects] for member in members])
    mean, std = ensemble.predict(objects)
    np.testing.assert_allclose(mean, 2.0 + 0.5 * outputs.mean(0), rtol=1e-4)
    np.testing.assert_allclose(std, 1.5 * 0.5 * outputs.std(0), rtol=1e-3)


def test_padding_changes_nothing():
    ensemble = make_ensemble()
    tokens = jnp.asarray(encode([text for text in texts(20) if len(text) <= 6], SPACE))
    predict = eqx.filter_jit(lambda tokens: ensemble(tokens))
    mean, std = predict(tokens)
    for changed in (tokens[:, :6], jnp.pad(tokens, ((0, 0), (0, 5)), constant_values=4)):
        other_mean, other_std = predict(changed)
        np.testing.assert_allclose(other_mean, mean, rtol=1e-5)
        np.testing.assert_allclose(other_std, std, rtol=1e-4, atol=1e-6)


def test_letters_and_their_places_both_count():
    mean, _ = make_ensemble().predict(["ACGU", "ACGUA", "AACGU", "UGCA", "A", ""])
    assert len(np.unique(mean.round(6))) == 6
    assert np.isfinite(mean).all()


def test_it_runs_inside_a_compiled_program_and_agrees_with_the_host():
    ensemble, objects = make_ensemble(), texts(5)

    @jax.jit
    def lower_bound(tokens):
        mean, std = ensemble(tokens)
        return mean - 2.0 * std

    mean, std = ensemble.predict(objects)
    bound = lower_bound(jnp.asarray(encode(objects, SPACE)))
    assert bound.dtype == jnp.float32
    np.testing.assert_allclose(bound, mean - 2.0 * std, rtol=1e-4)


def test_predict_compiles_once_for_any_number_of_objects(monkeypatch):
    monkeypatch.setattr(module, "BATCH", 8)
    shapes = []

    @eqx.filter_jit
    def counted(ensemble, tokens):
        shapes.append(tokens.shape)  # runs when traced, that is compiled
        return ensemble(tokens)

    monkeypatch.setattr(module, "_evaluate", counted)
    ensemble, objects = make_ensemble(), texts(21)
    mean, std = ensemble.predict(objects)
    one_by_one = [ensemble.predict([text]) for text in objects]
    np.testing.assert_allclose(mean, np.concatenate([pair[0] for pair in one_by_one]), rtol=1e-5)
    np.testing.assert_allclose(std, np.concatenate([pair[1] for pair in one_by_one]), rtol=1e-4, atol=1e-6)
    assert shapes == [(8, 9)]
    assert (mean.dtype, std.dtype, mean.shape) == (np.float64, np.float64, (21,))
    assert [array.shape for array in ensemble.predict([])] == [(0,), (0,)]


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
        make_ensemble().predict(["ACGU", bad])


def test_one_text_is_no_list():
    with pytest.raises(ValueError, match="Put it in a list"):
        make_ensemble().predict("ACGU")


# --- files ---


def test_what_was_saved_comes_back_bit_for_bit(tmp_path):
    ensemble, quality = make_ensemble(), make_quality()
    assert save(ensemble, quality, tmp_path / "deep" / "proxy") == tmp_path / "deep" / "proxy"
    loaded, manifest = load(tmp_path / "deep" / "proxy")
    assert tree_hash(loaded) == tree_hash(ensemble)
    assert loaded.space == SPACE
    assert manifest["statistics"] == {"offset": 2.0, "scale": 0.5, "std_scale": 1.5}
    found = read_quality(tmp_path / "deep" / "proxy")
    assert found.to_dict() == quality.to_dict()
    np.testing.assert_array_equal(found.test_distance, [np.nan, 3.0])


def test_a_proxy_is_replaced_as_a_whole(tmp_path):
    save(make_ensemble(0), make_quality(), tmp_path)
    save(make_ensemble(1), make_quality(num_train=9), tmp_path)
    assert tree_hash(load(tmp_path)[0]) == tree_hash(make_ensemble(1))
    assert read_quality(tmp_path).num_train == 9
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("step", ["proxies.files.write_atomically", "files.writing.os.replace", "files.writing.os.fsync"])
def test_a_save_that_breaks_off_leaves_the_old_proxy(tmp_path, monkeypatch, step):
    save(make_ensemble(0), make_quality(), tmp_path)

    def broken(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(f"narrows.{step}", broken)
        save(make_ensemble(1), make_quality(), tmp_path)
    assert tree_hash(load(tmp_path)[0]) == tree_hash(make_ensemble(0))
    save(make_ensemble(2), make_quality(), tmp_path)
    assert tree_hash(load(tmp_path)[0]) == tree_hash(make_ensemble(2))
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


HEAD = ".members.head.bias"


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda leaves: {k: v for k, v in leaves.items() if k != HEAD}, f"leaf {HEAD} is missing"),
        (lambda leaves: leaves | {"extra": np.zeros(1)}, "leaf extra is not one of this proxy's"),
        (lambda leaves: leaves | {HEAD: leaves[HEAD][:2]}, rf"leaf {HEAD} is float32\[2, 1\], expected float32\[3, 1\]"),
        (lambda leaves: leaves | {HEAD: leaves[HEAD].astype(np.float64)}, f"leaf {HEAD} is float64"),
        (lambda leaves: leaves | {".offset": np.array(7.0, np.float32)}, "the statistics differ"),
    ],
)
def test_weights_that_do_not_fit_are_refused_by_name(tmp_path, change, match):
    save(make_ensemble(), make_quality(), tmp_path)
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
        (lambda folder: edit(folder / MANIFEST, version=2), "has version 2 and this Narrows reads 1"),
        (lambda folder: edit(folder / MANIFEST, more=1), "'more'"),
        (lambda folder: edit(folder / MANIFEST, space={"name": "rna"}), "is no space"),
        (
            lambda folder: edit(folder / MANIFEST, space={"name": "x", "alphabet": "AA", "min_length": 0, "max_length": 9}),
            "repeats 'A'",
        ),
        (lambda folder: edit(folder / MANIFEST, architecture={"members": 3}), "this Narrows has networks of"),
        (lambda folder: edit(folder / MANIFEST, weights_sha256="../../etc/passwd"), "no SHA-256"),
        (lambda folder: edit(folder / MANIFEST, weights_sha256="0" * 64), "is missing, though"),
        (lambda folder: next(folder.glob("weights-*")).write_bytes(b"\0" * 8), "is damaged: its SHA-256"),
    ],
)
def test_a_damaged_folder_is_told_from_a_proxy(tmp_path, damage, match):
    save(make_ensemble(), make_quality(), tmp_path)
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
    save(make_ensemble(), make_quality(), tmp_path)
    manifest = json.loads((tmp_path / MANIFEST).read_text())
    edit(tmp_path / MANIFEST, quality=manifest["quality"] | change)
    with pytest.raises(ValueError, match=match) as caught:
        read_quality(tmp_path)
    assert str(tmp_path) in str(caught.value)
