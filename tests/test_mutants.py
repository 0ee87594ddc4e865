"""The changes of the source that the suite is tried with: each is one, and the file still reads."""

import ast

from tests.mutants import ROOT, changed, mutants_of


def after(text):
    other = changed(ast.parse(text, mode="eval").body)
    return None if other is None else ast.unparse(ast.fix_missing_locations(other))


def test_operators_constants_and_conditions_change():
    assert [after(text) for text in ("a + b", "a < b", "a and b", "not a", "-a")] == ["a - b", "a <= b", "a or b", "a", "a"]
    assert [after(text) for text in ("3", "0.5", "True", "a if b else c")] == ["4", "1.5", "False", "a if not b else c"]
    assert [after(text) for text in ("a", "'text'", "f(a)", "a < b < c")] == [None] * 4


def test_a_changed_file_is_another_one_and_still_reads():
    path = ROOT / "src" / "narrows" / "operators.py"
    plain, mutants = ast.dump(ast.parse(path.read_text(encoding="utf-8"))), list(mutants_of(path))
    texts = {mutant.text() for mutant in mutants}
    assert len(texts) == len(mutants) > 20
    assert all(ast.dump(ast.parse(text)) != plain for text in texts)
