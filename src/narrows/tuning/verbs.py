"""The verbs that every tuned model carries, in the convention of PEFT."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

from narrows.tuning import base, files

VERBS: Final[Mapping[str, Callable[..., Any]]] = MappingProxyType(
    {
        "print_trainable_parameters": base.print_trainable_parameters,
        "get_nb_trainable_parameters": base.get_nb_trainable_parameters,
        "get_base_model": base.get_base_model,
        "disable_adapter": base.disable_adapter,
        "merge_and_unload": base.merge_and_unload,
        "unload": base.unload,
        "sync": base.sync,
        "save_pretrained": files.save_pretrained,
        "save_merged": files.save_merged,
    }
)
