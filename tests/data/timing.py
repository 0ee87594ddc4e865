"""How long something takes, little disturbed by what else the process holds."""

import gc
import time
from collections.abc import Callable


def processor_seconds(call: Callable[[], object], times: int = 3) -> float:
    """Return the least processor time of a few calls, without the garbage collector, which looks at what other tests left."""
    taken = []
    gc.disable()
    try:
        for _ in range(times):
            begun = time.process_time()
            call()
            taken.append(time.process_time() - begun)
    finally:
        gc.enable()
    return min(taken)
