"""A record of quality figures for tests of what carries or shows one."""

import numpy as np

from narrows.proxies.quality import Quality


def make_quality(**changed):
    arrays = {name: np.array([1.0, 2.0]) for name in ("test_truth", "test_mean", "test_std")}
    fields = {
        "num_train": 8, "num_calibration": 0, "num_test": 2, "spearman": None, "rmse": 0.5, "rmse_of_mean": 1.0,
        "coverage_1std": 0.5, "coverage_2std": 1.0, "sharpness": 0.25, "std_scale": 1.5, "is_refit": True, **arrays,
        "test_distance": np.array([np.nan, 3.0]), "description": "d", "split": "s", "settings": {"seed": 0}, "seconds": 1.0,
    }  # fmt: skip
    return Quality(**{**fields, **changed})
