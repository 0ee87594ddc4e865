"""The devices and processes that a command trains on, made ready before JAX starts."""

from typing import Annotated

import tyro

from narrows.training import Devices, join, simulate

Address = Annotated[str | None, tyro.conf.arg(metavar="HOST:PORT")]


def select_devices(devices: int, coordinator: str | None, processes: int | None, process: int | None) -> Devices:
    """Return the devices that a command's options name.

    Raises ValueError for options that do not go together, for more devices than there are, and where JAX has started already
    with fewer.
    """
    if devices < 1:
        raise ValueError(f"--devices must be at least 1, got {devices}.")
    if devices > 1:
        simulate(devices)
    options = {"--coordinator": coordinator, "--processes": processes, "--process": process}
    if coordinator is not None and processes is not None and process is not None:
        join(coordinator, processes, process)
    elif missing := [name for name, value in options.items() if value is None]:
        if len(missing) < len(options):
            raise ValueError(f"processes that train together are told all of {', '.join(options)}; add {', '.join(missing)}.")
    return Devices.first(devices)
