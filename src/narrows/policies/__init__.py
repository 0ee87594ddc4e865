"""Policies: one network, every head in one call, one step at a time or a whole trajectory at once."""

from narrows.policies.base import AbstractPolicy as AbstractPolicy
from narrows.policies.base import PolicyOutput as PolicyOutput
from narrows.policies.base import Scaled as Scaled
from narrows.policies.board_columns import ColumnNet
from narrows.policies.convnet import ConvNet
from narrows.policies.eflow_network import FaithfulConvNet
from narrows.policies.mlp import MLP
from narrows.policies.residual import ResidualMLP
from narrows.policies.sizes import Sizes as Sizes
from narrows.policies.sizes import sizes_of as sizes_of
from narrows.policies.tabular import Tabular
from narrows.policies.transformer import FaithfulTransformer, Transformer

__all__ = [
    "ColumnNet",
    "ConvNet",
    "FaithfulConvNet",
    "FaithfulTransformer",
    "MLP",
    "ResidualMLP",
    "Tabular",
    "Transformer",
]
