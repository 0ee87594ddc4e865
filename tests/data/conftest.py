"""A real file on disk for every case."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from narrows.data import Check, OpenSpace, Space, TableSettings, check_table, space

Checker = Callable[..., Check]


@pytest.fixture
def check(tmp_path: Path) -> Checker:
    """Write `content` to a file and check it; text is written as UTF-8 with its line ends as they are."""

    def run(content: str | bytes, within: Space | OpenSpace | str = "rna", **options: Any) -> Check:
        path = tmp_path / "measurements.csv"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return check_table(path, space(within) if isinstance(within, str) else within, TableSettings(**options))

    return run
