"""`narrows example`: the files of an example, written into the current folder."""

import shutil
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from tyro.conf import Positional

from narrows.files import new_folder
from narrows.printing import quote

PACKAGED = Path(str(files("narrows"))) / "examples"
IN_A_CHECKOUT = Path(__file__).parents[3] / "examples"


@dataclass(frozen=True)
class Example:
    """An example that was written, or all that there are with a line each."""

    folder: Path | None
    names: dict[str, str]
    read_me: str = ""


def example(name: Positional[str | None] = None) -> Example:
    """Write the files of an example into a new folder of its name; without a name, list the examples.

    Args:
        name: one of the examples.

    Raises ValueError for an unknown name, FileExistsError where the folder is there already; then nothing is written.
    """
    source = PACKAGED if PACKAGED.is_dir() else IN_A_CHECKOUT
    names = {path.parent.name: _title(path) for path in sorted(source.glob("*/README.md"))}
    if name is None:
        return Example(None, names)
    if name not in names:
        raise ValueError(f"there is no example {quote(name)}. There are: {', '.join(names)}.")
    folder = Path(name)
    if folder.exists() or folder.is_symlink():
        raise FileExistsError(f"{folder} is there already. Move it away, or go to another folder and try again.")
    with new_folder(folder) as draft:
        for path in sorted((source / name).iterdir()):
            if path.is_file():
                shutil.copyfile(path, draft / path.name)
    return Example(folder, names, (folder / "README.md").read_text(encoding="utf-8"))


def _title(read_me: Path) -> str:
    return read_me.read_text(encoding="utf-8").split("\n", 1)[0].lstrip("# ")


def render(made: Example) -> str:
    """Return the list of examples, or where one is and what it says."""
    if made.folder is None:
        width = max(map(len, made.names))
        lines = [f"  {name:<{width}}  {title}" for name, title in made.names.items()]
        return "\n".join(["narrows example NAME writes one of these into a new folder:", *lines])
    return f"Written to the folder {made.folder}. In it, README.md says:\n\n{made.read_me.rstrip()}"
