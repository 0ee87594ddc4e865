"""What the tests of rewards share."""

import pytest


@pytest.fixture
def write(tmp_path):
    def write(source, name="my_score.py"):
        path = tmp_path / name
        path.write_text(source, encoding="utf-8")
        return f"{path}:score"

    return write
