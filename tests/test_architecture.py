"""The house as tests: imports go one way, and importing the package or checking a table loads no heavy library."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import narrows

SOURCE = Path(narrows.__file__).parent
PAGE = (SOURCE.parents[1] / "docs" / "architecture.md").read_text(encoding="utf-8")
# Top to bottom; a room may import its own layer and those below. `vi` and `tuning` stand on nothing of ours, not even `files`.
PICTURE = PAGE.split("## The layers\n")[1].split("\n## ")[0]
LAYERS = [{*line.split()} for line in PICTURE.splitlines() if line.startswith("    ")]
TABLE = {room: {*names.split(", ")} - {""} for room, names in re.findall(r"^\| `(\w+)` \|[^|]+\| ([\w, ]*?) ?\|$", PAGE, re.M)}
LEVEL = {room: level for level, rooms in enumerate(LAYERS) for room in rooms}
MODULES = sorted(SOURCE.rglob("*.py"))


def imported_rooms(path: Path) -> set[str]:
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: one way to import a name, the absolute one"
            names = [f"{node.module}.{alias.name}" for alias in node.names] if node.module == "narrows" else [node.module or ""]
        rooms |= {name.split(".")[1] for name in names if name.startswith("narrows.")}
    return rooms


def test_the_page_shows_the_house_as_it_is():
    found: dict[str, set[str]] = {}
    for path in MODULES:
        room = path.relative_to(SOURCE).with_suffix("").parts[0]
        found.setdefault(room, set()).update(imported_rooms(path) - {room})
    for entrance in ("__init__", "__main__"):
        assert found.pop(entrance) <= {"cli"}
    for room, others in found.items():
        row = f"| `{room}` | ... | {', '.join(sorted(others))} |"
        assert TABLE.get(room) == others, f"docs/architecture.md should have the row {row}"
    assert {*TABLE} == {*found} == {*LEVEL}


@pytest.mark.parametrize("path", MODULES, ids=[str(path.relative_to(SOURCE)) for path in MODULES])
def test_imports_go_one_way(path):
    room = path.relative_to(SOURCE).with_suffix("").parts[0]
    if room in ("__init__", "__main__"):  # the first imports nothing, the second the command
        return
    for other in imported_rooms(path) - {room}:
        assert LEVEL[other] >= LEVEL[room], f"{room} imports {other}, which stands above it"


@pytest.mark.parametrize(
    ("room", "foreign"), [("vi", {"torch", "gymnasium", "mujoco"}), ("tuning", {"jax", "equinox", "optax", "peft"})]
)
def test_side_doors_stand_on_their_own(room, foreign):
    """They can be used, and read, without the rest: nothing else of ours is imported, and no library of the other side."""
    for path in (SOURCE / room).rglob("*.py"):
        assert imported_rooms(path) <= {room}, path.name
        assert not {name for name in imported_libraries(path) if name in foreign}, path.name


def imported_libraries(path: Path) -> set[str]:
    """Return the libraries that a module imports when it is imported itself."""
    found = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add((node.module or "").split(".")[0])
    return found


def loaded_by(statement: str) -> set[str]:
    script = f"import sys; {statement}; print(*sys.modules)"
    return set(subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout.split())


@pytest.mark.parametrize(
    "statement", ["import narrows", "import narrows.commands", "import narrows.data", "import narrows.cli"]
)
def test_light_imports_load_neither_jax_nor_torch(statement):
    assert not loaded_by(statement) & {"jax", "torch", "matplotlib", "RNA"}


def test_rooms_are_there_without_being_imported():
    script = "import narrows; print(*dir(narrows)); print(narrows.data.check_table.__name__, narrows.commands.run.__name__)"
    assert {"run", "shortlist", "example"} <= {*dir(narrows.commands)} and not {*narrows.commands.__all__} - {
        *dir(narrows.commands)
    }
    listed, found = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True
    ).stdout.splitlines()
    assert {*narrows.__all__} <= {*listed.split()} and found == "check_table run"
    assert not {name for name in narrows.__all__ if not (SOURCE / name).is_dir() and not (SOURCE / f"{name}.py").is_file()}
    with pytest.raises(AttributeError, match="module 'narrows' has no attribute 'molecules'. It has: commands, "):
        _ = narrows.molecules


def test_nothing_is_unpickled_or_evaluated():
    forbidden = ("import pickle", "pickle.load", "allow_pickle=True", "torch.load(", "eval(", "exec(", "yaml.load(")
    found = [
        (path.name, word)
        for path in MODULES
        for word in forbidden
        if word in path.read_text(encoding="utf-8").replace("re.eval(", "").replace("compile_time_eval(", "")
    ]
    assert not found


def test_rooms_stay_small():
    long = {str(path.relative_to(SOURCE)): len(path.read_text(encoding="utf-8").splitlines()) for path in MODULES}
    assert {name: length for name, length in long.items() if length > 350} == {}


@pytest.mark.parametrize("path", [path for path in MODULES if path.name == "__init__.py"], ids=lambda path: path.parent.name)
def test_no_module_shares_its_name_with_what_its_room_exports(path):
    """`import narrows.config.build as b` would otherwise give a function, and the module could not be imported by its name."""
    modules = {child.stem for child in path.parent.glob("*.py")} - {"__init__"}
    exported = [
        (node.module, alias.asname or alias.name)
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    ]
    room = ".".join(("narrows", *path.parent.relative_to(SOURCE).parts))
    assert not {name for module, name in exported if name in modules and module != room}
