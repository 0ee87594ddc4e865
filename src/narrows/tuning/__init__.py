"""Fine-tuning of BERT-like encoders on little memory: Freeze-And-Reconfigure, learners, and strong simple baselines.

    from narrows.tuning import FarConfig, get_far_model, prime

    config = FarConfig(retention=0.1)
    model = get_far_model(model, config, prime(model, loader, config))
    ...                                     # any training loop, or the Trainer of transformers
    model.save_pretrained("adapter")
    model.merge_and_unload()

`get_learner_model(model, LearnerConfig())` puts learners in the same way. It stands on PyTorch and transformers alone. The
methods are Vucetic et al., "Efficient Fine-Tuning of BERT Models on the Edge" (arXiv:2205.01541) and "Efficient Fine-Tuning of
Compressed Language Models with Learners" (arXiv:2208.02070).
"""

from narrows.tuning.architecture import probe
from narrows.tuning.base import (
    disable_adapter,
    get_base_model,
    get_nb_trainable_parameters,
    is_tuned,
    merge_and_unload,
    print_trainable_parameters,
    sync,
    unload,
)
from narrows.tuning.baselines import BitFitConfig, FreezeFfnConfig, FullConfig, HeadOnlyConfig, get_baseline_model
from narrows.tuning.callbacks import FarCallback
from narrows.tuning.far import FarConfig, Selection, get_far_model, overlap, prime
from narrows.tuning.files import save_merged, save_pretrained
from narrows.tuning.learners import (
    LearnerCallback,
    LearnerConfig,
    end_priming,
    export_lora,
    get_learner_model,
    import_lora,
    is_priming,
    learner_groups,
)
from narrows.tuning.opening import from_pretrained, saved_indices
from narrows.tuning.optimizer import FlatAdamW, decay_groups, repair_optimizer
from narrows.tuning.profiling import Profile, kept_bytes, optimizer_bytes, profile

__all__ = [
    "BitFitConfig",
    "FarCallback",
    "FarConfig",
    "FlatAdamW",
    "FreezeFfnConfig",
    "FullConfig",
    "HeadOnlyConfig",
    "LearnerCallback",
    "LearnerConfig",
    "Profile",
    "Selection",
    "decay_groups",
    "disable_adapter",
    "end_priming",
    "export_lora",
    "from_pretrained",
    "get_base_model",
    "get_baseline_model",
    "get_far_model",
    "get_learner_model",
    "get_nb_trainable_parameters",
    "import_lora",
    "is_priming",
    "is_tuned",
    "kept_bytes",
    "learner_groups",
    "merge_and_unload",
    "optimizer_bytes",
    "overlap",
    "prime",
    "print_trainable_parameters",
    "probe",
    "profile",
    "repair_optimizer",
    "save_merged",
    "save_pretrained",
    "saved_indices",
    "sync",
    "unload",
]
