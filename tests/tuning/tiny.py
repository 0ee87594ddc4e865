"""A tiny encoder with a tokenizer of single letters, in a folder, as people have them."""

import random

import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def make_encoder(folder, letters="ACDEFGHIKLMNPQRSTVWY", seed=0, longest=32, blocks=2, config=None, side="right"):
    """Write an encoder that reads letters one by one and pads on a side: a narrow BERT, or what a configuration says."""
    vocabulary = {token: number for number, token in enumerate((*SPECIAL, *letters))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])]
    )
    names = {"unk_token": "[UNK]", "pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"}
    names["padding_side"] = side
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=longest, **names).save_pretrained(folder)
    torch.manual_seed(seed)
    if config is not None:
        transformers.AutoModel.from_config(config).save_pretrained(folder)
        return folder
    config = transformers.BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        num_hidden_layers=blocks,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=longest,
        pad_token_id=0,
    )
    transformers.BertModel(config).save_pretrained(folder)
    return folder


def make_sequences(num=240, length=8, letters="ACDEFGHIKLMNPQRSTVWY", seed=0):
    """Return sequences that differ from each other, and how many of A, C, D and E each has."""
    generator = random.Random(seed)
    found = {}
    while len(found) < num:
        text = "".join(generator.choices(letters, k=length))
        found[text] = float(sum(letter in "ACDE" for letter in text))
    return list(found), list(found.values())
