"""The published encoder in NumPy loops (tgm 5.4), one token and head at a time; padding does not exist here."""

import numpy as np

BOS, EOS, FIRST_CONTENT = 0, 2, 3


def affine(layer, vector):
    return vector @ np.asarray(layer.weight, np.float64) + np.asarray(layer.bias, np.float64)


def normalise(norm, vector):
    centred = vector - vector.mean()
    scaled = centred / np.sqrt((centred**2).mean() + norm.eps)
    return scaled * np.asarray(norm.weight, np.float64) + np.asarray(norm.bias, np.float64)


def position(place, width):
    """Sines of falling frequency in the first half, cosines in the second."""
    angles = [place / 10_000.0 ** (2 * i / width) for i in range(width // 2)]
    return np.array([np.sin(angle) for angle in angles] + [np.cos(angle) for angle in angles])


def attention(block, inputs):
    """`merge(concat_h softmax(q_h k_h^T / sqrt(d)) v_h)` for each token over all of them."""
    projected = [affine(block.project, vector).reshape(3, block.heads, -1) for vector in inputs]
    outputs = []
    for queries, _, _ in projected:
        merged = []
        for head in range(block.heads):
            scores = np.array([queries[head] @ keys[head] for _, keys, _ in projected]) / queries.shape[-1] ** 0.5
            weights = np.exp(scores - scores.max())
            weights /= weights.sum()
            merged.append(sum(weight * values[head] for weight, (_, _, values) in zip(weights, projected, strict=True)))
        outputs.append(affine(block.merge, np.concatenate(merged)))
    return outputs


def score(encoder, text, alphabet):
    """The raw score of one sequence."""
    ids = [BOS, *(FIRST_CONTENT + alphabet.index(letter) for letter in text), EOS]
    table = np.asarray(encoder.tokens, np.float64)
    hidden = [table[token] + position(place, table.shape[1]) for place, token in enumerate(ids)]
    for block in encoder.blocks:
        attended = attention(block, hidden)
        hidden = [normalise(block.attention_norm, vector + update) for vector, update in zip(hidden, attended, strict=True)]
        changes = [affine(block.down, np.maximum(affine(block.up, vector), 0.0)) for vector in hidden]
        hidden = [normalise(block.feed_forward_norm, vector + change) for vector, change in zip(hidden, changes, strict=True)]
    first, second, last = encoder.readout
    return affine(last, np.maximum(affine(second, np.maximum(affine(first, hidden[0]), 0.0)), 0.0))[0]
