"""Slow openings on disk and in the package: kept, merged, shared by processes, and done without where that is not possible."""

import sqlite3
import subprocess
import sys

import numpy as np
import pytest
from tests.games.opening_book import all_positions, build_book, save_book

from narrows.games.solver import SmallBoard, Solver, cache_folder
from narrows.games.solver import solver as solver_module
from narrows.games.solver.board import board_of
from narrows.games.solver.cache import FILE, OpeningCache, load_book
from narrows.games.solver.positions import canonical_keys, mirror_images, random_positions


def test_openings_are_kept_on_disk_for_the_next_solver(tmp_path, monkeypatch):
    monkeypatch.setattr(solver_module, "_SLOW", 2000)
    found = random_positions(board_of(7, 6), 13, 20, np.random.default_rng(8))
    position = (found.mover[:1], found.stones[:1])
    weak = Solver(table_bits=20, cache=tmp_path).scores(*position, weak=True)
    second = Solver(table_bits=20, cache=tmp_path)
    np.testing.assert_array_equal(second.scores(*position, weak=True), weak)
    repeated = second.nodes
    scores = second.scores(*position)
    np.testing.assert_array_equal(np.sign(scores), weak)
    third = Solver(table_bits=20, cache=tmp_path)
    np.testing.assert_array_equal(third.scores(*[mirror_images(third.board, words) for words in position]), scores[:, ::-1])
    assert repeated < 7 * 2000
    assert third.nodes < 7 * 2000 < second.nodes
    with sqlite3.connect(tmp_path / FILE) as database:
        rows = database.execute("SELECT width, height, low, high FROM bounds").fetchall()
    assert rows
    assert all((width, height) == (7, 6) and low == high for width, height, low, high in rows)


def test_what_an_interrupted_search_has_found_out_is_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(solver_module, "_SLOW", 1000)
    monkeypatch.setattr(solver_module, "BUDGET", 5000)
    found = random_positions(board_of(7, 6), 12, 20, np.random.default_rng(8))

    def stop(solved, nodes):
        if nodes > 40_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Solver(table_bits=16, cache=tmp_path).value(found.mover[:1], found.stones[:1], watch=stop)
    board = board_of(7, 6)
    known = OpeningCache(tmp_path, board).get(int(canonical_keys(board, found.mover[:1], found.stones[:1])[0]))
    assert known is not None
    assert known[0] <= Solver(table_bits=20).value(found.mover[:1], found.stones[:1])[0] <= known[1]
    assert known != (-15, 14)


def test_bounds_from_several_places_are_merged(tmp_path):
    board, wide = board_of(7, 6), board_of(8, 7)
    one, two = OpeningCache(tmp_path, board), OpeningCache(tmp_path, board)
    one.put(5, -3, 9)
    two.put(5, 1, 12)
    assert one.get(5) == two.get(5) == (1, 9)
    assert one.get(6) is None
    large = OpeningCache(tmp_path, wide)
    large.put((1 << 64) - 1, 0, 0)
    assert large.get((1 << 64) - 1) == (0, 0)
    assert large.get(5) is None
    one.close()
    one.put(5, 2, 2)
    assert one.get(5) is None
    assert two.get(5) == (1, 9)


@pytest.mark.slow("starts two processes; below, two caches of one file are merged")
def test_processes_share_the_file(tmp_path):
    script = (
        "import sys; from pathlib import Path; from narrows.games.solver.cache import OpeningCache; "
        "from narrows.games.solver.board import board_of; cache = OpeningCache(Path(sys.argv[1]), board_of(7, 6)); "
        "[cache.put(key, -int(sys.argv[2]), 10 - int(sys.argv[2])) for key in range(50)]"
    )
    running = [subprocess.Popen([sys.executable, "-W", "error", "-c", script, str(tmp_path), str(n)]) for n in (1, 2)]
    assert [process.wait(60) for process in running] == [0, 0]
    cache = OpeningCache(tmp_path, board_of(7, 6))
    assert {cache.get(key) for key in range(50)} == {(-1, 8)}


def foreign(path):
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE letters (text TEXT)")


@pytest.mark.parametrize("spoil", [lambda path: path.write_bytes(b"no database" * 1000), foreign])
def test_a_file_that_is_no_cache_is_set_aside(tmp_path, spoil):
    spoil(tmp_path / FILE)
    before = (tmp_path / FILE).read_bytes()
    with pytest.warns(UserWarning, match="no cache of openings"):
        cache = OpeningCache(tmp_path, board_of(7, 6))
    cache.put(1, 2, 2)
    assert OpeningCache(tmp_path, board_of(7, 6)).get(1) == (2, 2)
    assert (tmp_path / FILE).with_suffix(".damaged").read_bytes() == before


def test_a_file_that_is_damaged_later_is_set_aside_and_senseless_rows_are_passed_over(tmp_path):
    board = board_of(7, 6)
    cache = OpeningCache(tmp_path, board)
    with sqlite3.connect(tmp_path / FILE) as database:
        database.executemany("INSERT INTO bounds VALUES (7, 6, ?, 3, 1)", [(key,) for key in range(2000)])
        database.execute("INSERT INTO bounds VALUES (7, 6, 3000, 'a', 'b')")
    assert cache.get(5) is None
    assert cache.get(3000) is None
    cache.close()
    content = bytearray((tmp_path / FILE).read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    (tmp_path / FILE).write_bytes(content)
    cache = OpeningCache(tmp_path, board)
    with pytest.warns(UserWarning, match="no cache of openings"):
        assert cache.get(5) is None
    cache.put(5, 1, 1)
    assert cache.get(5) == (1, 1)


def test_without_a_place_to_write_the_solver_works_and_says_so(tmp_path):
    (tmp_path / "taken").write_text("a file")
    with pytest.warns(UserWarning, match="are not kept in"):
        judge = Solver(4, 4, table_bits=10, cache=tmp_path / "taken")
    assert judge.value(np.zeros(1, np.uint64), np.zeros(1, np.uint64)) == [0]


def test_the_folder_is_the_platform_s_unless_a_variable_names_one(monkeypatch):
    assert str(cache_folder({"NARROWS_CACHE": "/here"})) == "/here"
    monkeypatch.setattr(sys, "platform", "linux")
    assert str(cache_folder({"HOME": "/home/me"})) == "/home/me/.cache/narrows"
    assert str(cache_folder({"HOME": "/home/me", "XDG_CACHE_HOME": "/big"})) == "/big/narrows"
    monkeypatch.setattr(sys, "platform", "darwin")
    assert str(cache_folder({"HOME": "/home/me"})) == "/home/me/Library/Caches/narrows"


def test_a_book_of_a_small_board_equals_all_of_its_positions(monkeypatch, tmp_path):
    judge, small, seen = Solver(5, 4, table_bits=20, book=False), SmallBoard(5, 4), []
    book = build_book(judge, 3, lambda num, total: seen.append((num, total)))
    assert seen[-1] == (len(seen), len(seen))
    for ply in range(4):
        found = all_positions(judge.board, ply)
        keys = canonical_keys(judge.board, found.mover, found.stones).tolist()
        assert [book[key] for key in keys] == small.value(found.mover, found.stones).tolist()
    save_book(judge.board, book, tmp_path / "openings.npz")
    monkeypatch.setattr("narrows.games.solver.cache.files", lambda package: _Folder(tmp_path))
    assert load_book() == ((5, 4), book)
    reader = Solver(5, 4, table_bits=8)
    found = all_positions(judge.board, 3)
    np.testing.assert_array_equal(reader.value(found.mover, found.stones), small.value(found.mover, found.stones))
    np.testing.assert_array_equal(
        reader.value(found.mover, found.stones, weak=True), np.sign(small.value(found.mover, found.stones))
    )
    assert reader.nodes == 0


class _Folder:
    def __init__(self, folder):
        self.folder = folder

    def __truediv__(self, name):
        return self.folder if name == "data" else self.folder / name


def test_the_book_that_comes_along_knows_the_first_moves():
    """First moves as is known of them (eflow 8.2 and 9): the centre wins with the very last stone, the next draw."""
    judge = Solver(table_bits=8)
    start = np.zeros(1, np.uint64)
    assert judge.scores(start, start).tolist() == [[-2, -1, 0, 1, 0, -1, -2]]
    assert judge.scores(start, start, weak=True).tolist() == [[-1, -1, 0, 1, 0, -1, -1]]
    assert judge.nodes == 0
