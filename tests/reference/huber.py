"""Huber's loss in plain loops."""


def weighted_mean_huber(errors, weights, threshold):
    """Return the weighted mean of twice Huber's loss: squares up to the threshold, then lines of the same slope."""
    total = weight_of_all = 0.0
    for error, weight in zip(errors, weights, strict=True):
        size = error if error >= 0.0 else -error
        loss = size * size
        if size > threshold:
            loss = threshold * threshold + 2.0 * threshold * (size - threshold)
        total += weight * loss
        weight_of_all += weight
    return total / weight_of_all
