"""Small models of nine families, data for them, and plain layers to compare with."""

import pytest
import torch
import torch.nn.functional as F
import transformers
from torch import nn

import narrows.tuning as tuning

__all__ = [
    "FAMILIES",
    "VARIED",
    "F",
    "Ffn",
    "GatedFfn",
    "batch",
    "build",
    "config",
    "distilbert",
    "nn",
    "torch",
    "transformers",
    "tuning",
]

HIDDEN, INNER, VOCABULARY = 32, 64, 50
COMMON = {
    "vocab_size": VOCABULARY,
    "hidden_size": HIDDEN,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": INNER,
    "max_position_embeddings": 40,
    "pad_token_id": 0,
}


def config(family, **changes):
    made = {
        "bert": (transformers.BertConfig, {}),
        "roberta": (transformers.RobertaConfig, {"pad_token_id": 1}),
        "esm": (transformers.EsmConfig, {"pad_token_id": 1, "mask_token_id": 2, "position_embedding_type": "rotary"}),
        "modernbert": (
            transformers.ModernBertConfig,
            {"local_attention": 8, "bos_token_id": 1, "cls_token_id": 1, "eos_token_id": 2, "sep_token_id": 2},
        ),
        "electra": (transformers.ElectraConfig, {"embedding_size": HIDDEN}),
        "mpnet": (transformers.MPNetConfig, {"pad_token_id": 1}),
        "deberta-v2": (transformers.DebertaV2Config, {"relative_attention": True, "pos_att_type": ["p2c", "c2p"]}),
        "albert": (transformers.AlbertConfig, {"embedding_size": 16}),
    }
    if family == "distilbert":
        sizes = {"dim": HIDDEN, "hidden_dim": INNER, "n_layers": 2, "n_heads": 2, "vocab_size": VOCABULARY}
        return transformers.DistilBertConfig(**{**sizes, "max_position_embeddings": 40, **changes})
    kind, own = made[family]
    return kind(**{**COMMON, **own, **changes})


LIKE_BERT = pytest.mark.slow("built as bert is; bert itself and the families that differ guard the same")
FAMILIES = ("bert", "distilbert", "roberta", "esm", "modernbert", "electra", "mpnet", "deberta-v2", "albert")
VARIED = [pytest.param(family, marks=LIKE_BERT) if family in ("roberta", "electra", "mpnet") else family for family in FAMILIES]


def build(family="bert", seed=0, **changes):
    """A sequence classifier with random weights, in evaluation mode."""
    torch.manual_seed(seed)
    return transformers.AutoModelForSequenceClassification.from_config(config(family, **changes)).eval()


def distilbert():
    """The published size, without values: counts need none."""
    with torch.device("meta"):
        return transformers.DistilBertForSequenceClassification(transformers.DistilBertConfig())


def batch(size=8, length=9, seed=0):
    """Random tokens; the label says whether the second token is in the upper half of the vocabulary."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(5, VOCABULARY, (size, length), generator=generator)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": (ids[:, 1] > 27).long()}


class Ffn(nn.Module):
    """A plain feed-forward."""

    def __init__(self, hidden=768, inner=3072, bias=True):
        super().__init__()
        self.up, self.act, self.down = nn.Linear(hidden, inner, bias), nn.GELU(), nn.Linear(inner, hidden, bias)

    def forward(self, x):
        return self.down(self.act(self.up(x)))


class GatedFfn(nn.Module):
    """A gated one, the activation on either half."""

    def __init__(self, hidden, inner, gate, bias=False):
        super().__init__()
        self.up, self.down, self.gate = nn.Linear(hidden, 2 * inner, bias), nn.Linear(inner, hidden, bias), gate

    def forward(self, x):
        u, v = self.up(x).chunk(2, dim=-1)
        return self.down(F.gelu(u) * v if self.gate == "first" else u * F.gelu(v))
