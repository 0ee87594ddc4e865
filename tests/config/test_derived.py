"""What a job leaves out and its measurements say: filled in once, written out, and never against what the job says."""

import pytest

from narrows.config import JobError, dump_job, load_job, measurements
from narrows.config import derived as derived_module
from narrows.config.derived import usual_distance
from narrows.runs.folder import _copy_inputs

TABLE = "sequence,score\nACGU,1.0\nACGUACGU,2.0\nACG,0.5\nACGUA,0.1\nACGUACGUACGUAC,3.0\n"
DATA = '[data]\npath = "t.csv"\nspace = "rna"\n'


@pytest.fixture
def write(tmp_path):
    (tmp_path / "t.csv").write_text(TABLE, encoding="utf-8")

    def write_job(text):
        path = tmp_path / "job.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write_job


@pytest.fixture
def reads(monkeypatch):
    """Count how often a table is read."""
    seen = []

    def check_table(path, *rest):
        seen.append(path)
        return original(path, *rest)

    original = derived_module.check_table
    monkeypatch.setattr(derived_module, "check_table", check_table)
    return seen


def test_a_table_and_its_space_are_a_job(write, reads):
    job = load_job(write(DATA))
    assert job.env == {"name": "Sequence", "alphabet": "ACGU", "min_length": 3, "max_length": 14}
    assert (job.reward["name"], job.reward["path"]) == ("Proxy", "proxy")
    assert job.shortlist.min_distance == 2
    table = measurements(job)
    assert table is not None and len(table) == 5
    assert len(reads) == 1, "what was read to load the job is not read again"


def test_a_fitted_proxy_is_searched_with_caution_unless_the_job_says_how(write):
    job = load_job(write(DATA))
    assert (job.reward["kappa"], job.shortlist.by, job.shortlist.kappa) == (0.5, "lower_bound", 0.5)
    assert job.train.given_per_step == 16 and job.replay is not None and job.exploration["name"] == "Recombination"
    own = load_job(write(DATA + '[reward]\ntrust = "mean"\n[shortlist]\nby = "neighbourhood"\n'))
    assert (own.reward["kappa"], own.shortlist.by) == (0.0, "neighbourhood")
    whole = '[env]\nalphabet = "ACGU"\nmin_length = 3\nmax_length = 14\n[shortlist]\nmin_distance = 2\n'
    assert load_job(write(DATA + whole)).env == job.env, "the name of what is built need not be said"
    for more in ("[reward]\nbeta = 2.0\n", '[noise]\nname = "Substitution"\nrate = 0.1\n'):
        plain = load_job(write(DATA + more))
        assert (plain.reward["kappa"], plain.shortlist.by, plain.train.given_per_step, plain.replay) == (0.0, None, 0, None)
    other = load_job(write(DATA + '[objective]\nname = "TrajectoryBalance"\n'))
    assert other.reward["kappa"] == 0.5 and other.replay is None and other.train.patience is None


def test_rare_lengths_are_not_made(write, tmp_path):
    lines = [f"{'A' * place}{'C' * (length - place)},{place}" for length in (12, 14) for place in range(12)]
    (tmp_path / "t.csv").write_text("\n".join(["sequence,score", "AC,1", *lines, f"{'G' * 28},2"]), encoding="utf-8")
    job = load_job(write(DATA))
    assert (job.env["min_length"], job.env["max_length"]) == (12, 14)
    table = measurements(job)
    assert table is not None and {2, 28} < {*map(len, table.sequences)}, "what is measured counts nevertheless"


def test_the_resolved_job_stands_without_the_table(write, reads, tmp_path):
    job = load_job(write(DATA))
    resolved = write(dump_job(job))
    reads.clear()
    (tmp_path / "t.csv").unlink()
    assert load_job(resolved) == job and not reads


def test_training_ends_by_itself_unless_the_job_says_how_long_it_is(write):
    trained = DATA + "[train]\nbatch_size = 8\n"
    job = load_job(write(trained + "[env]\nmax_length = 20\n"))
    assert (job.train.num_steps, job.train.patience) == (2000, 150)
    assert load_job(write(trained + "num_steps = 500\n")).train.patience is None
    both = load_job(write(trained + "num_steps = 500\npatience = 40\n"))
    assert (both.train.num_steps, both.train.patience) == (500, 40)
    other = '[env]\nname = "Hypergrid"\n[reward]\nname = "HypergridReward"\n'
    assert load_job(write(trained + other)).train.patience is None
    with pytest.raises(JobError, match="patience must be at least 1 step, got 0"):
        load_job(write(trained + "patience = 0\n"))


def test_what_the_job_says_stands(write):
    job = load_job(write(DATA + "[env]\nmax_length = 20\n[shortlist]\nmin_distance = 6\n[reward]\nbeta = 3.0\nkappa = 1.0\n"))
    assert job.env == {"name": "Sequence", "alphabet": "ACGU", "min_length": 3, "max_length": 20}
    assert (job.shortlist.min_distance, job.reward["beta"], job.reward["kappa"]) == (6, 3.0, 1.0)
    assert job.reward["path"] == "proxy"
    other = load_job(write(DATA + '[env]\nname = "Sequence"\nalphabet = "ACGUX"\n[reward]\nname = "Score"\n'))
    assert (other.env["alphabet"], other.reward["name"]) == ("ACGUX", "Score")


def test_the_table_is_read_only_for_what_is_left_out(write, reads):
    full = '[env]\nname = "Sequence"\nalphabet = "ACGU"\nmin_length = 1\nmax_length = 9\n'
    assert load_job(write(f"{DATA}{full}[shortlist]\nmin_distance = 1\n")).check is None
    grid = load_job(write(DATA + '[env]\nname = "Hypergrid"\n[reward]\nname = "HypergridReward"\n'))
    assert grid.shortlist.min_distance == 4 and not reads
    assert load_job(write(f"{DATA}{full}")).shortlist.min_distance == 2 and len(reads) == 1


def test_without_measurements_a_job_says_it_all(write):
    with pytest.raises(JobError, match=r"\[env\] is missing\. Add a table with a name, which .*, or a \[data\]"):
        load_job(write("seed = 1\n"))
    with pytest.raises(JobError, match=r"\[env\] alphabet is missing; min_length is missing; max_length is missing"):
        load_job(write('[env]\nname = "Sequence"\n[reward]\nname = "Score"\n'))


@pytest.mark.parametrize(
    ("table", "data", "expected"),
    [
        (None, DATA, r"\[data\] .*t\.csv: .*no such file"),
        ("sequence,score\nACGX,1\n", DATA, r'\[data\] .*1 of 1 row cannot be used[\s\S]*on_invalid = "skip"'),
        ("sequence,score\nACGX,1\n", DATA + 'on_invalid = "skip"\n', r"\[data\] .*no row is left"),
        (TABLE, DATA.replace("rna", "rnaa"), r"\[data\] unknown space 'rnaa'"),
        (TABLE, DATA.replace("rna", "text"), r"\[data\] space is text, which has no letters to build from"),
    ],
)
def test_a_table_that_cannot_be_used_is_told_as_elsewhere(write, tmp_path, table, data, expected):
    if table is None:
        (tmp_path / "t.csv").unlink()
    else:
        (tmp_path / "t.csv").write_text(table, encoding="utf-8")
    with pytest.raises(JobError, match=expected):
        load_job(write(data))


def test_rows_that_are_skipped_are_written_out_when_the_table_is_used(write, tmp_path):
    (tmp_path / "t.csv").write_text(TABLE + "ACGXACGXACGXACGXACGX,1\n", encoding="utf-8")
    job = load_job(write(DATA + 'on_invalid = "skip"\n'))
    assert job.env["max_length"] == 14 and not (tmp_path / "rejected.csv").exists()
    measurements(job)
    assert (tmp_path / "rejected.csv").exists()


@pytest.mark.parametrize(("length", "distance"), [(1, 1), (3, 1), (4, 2), (8, 2), (14, 2), (17, 3), (20, 3), (60, 9)])
def test_the_rows_of_a_list_are_apart_by_a_share_of_the_length(length, distance):
    assert usual_distance([1, length, 10 * length]) == distance


def test_a_table_of_mutations_of_a_parent_in_a_file(write, tmp_path):
    (tmp_path / "v.csv").write_text("variant,fitness\nWT,1\nA2C,n.d.\nK1M:A2G,>3\nA2X,1\n", encoding="utf-8")
    (tmp_path / "wt.fasta").write_text(">wt\nKA\n", encoding="utf-8")
    text = '[data]\npath = "v.csv"\nspace = "protein"\nparent = "wt.fasta"\ninactive = ["N.D."]\n'
    with pytest.raises(JobError, match=r'on_invalid = "skip"'):
        load_job(write(text))
    job = load_job(write(f'{text}on_invalid = "skip"\n'))
    table = measurements(job)
    assert table is not None and table.sequences == ("KA", "KC", "MG") and table.bounds.tolist() == [0, -1, 1]
    assert job.data is not None and job.data.inactive == ("N.D.",) and 'inactive = ["N.D."]' in dump_job(job)
    (tmp_path / "run").mkdir()
    (tmp_path / "proxy").mkdir()
    kept = _copy_inputs(job, tmp_path / "run")
    assert kept.data is not None and kept.data.parent == "KA", "a run folder needs no file beside it"
    assert (tmp_path / "run" / kept.data.path).is_file()
    with pytest.raises(JobError, match="parent 'none.fasta' is neither a sequence of the letters"):
        load_job(write(text.replace("wt.fasta", "none.fasta")))


def test_messages_name_the_fields_of_a_job(write, tmp_path):
    (tmp_path / "t.csv").write_text("sequence,score\nAC,weak\nAG,1\nAx,2\n", encoding="utf-8")
    with pytest.raises(JobError) as refused:
        load_job(write(f'{DATA}case = "refuse"\n'))
    told = str(refused.value)
    assert 'inactive = ["weak"]' in told and 'on_invalid = "skip"' in told and "--" not in told
