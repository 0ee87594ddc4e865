"""Public tables as people have them, where they lie beside the checkout."""

from pathlib import Path

import pytest

from narrows.data import Check, TableSettings, check_table, space

FOLDER = Path(__file__).parents[3] / "shared" / "data"


def check(name: str, within: str, **settings) -> Check:
    path = FOLDER / name
    if not path.exists():
        pytest.skip(f"there is no {name} in ../shared/data beside the checkout")
    return check_table(path, space(within), TableSettings(**settings))


def test_a_whole_landscape_packed_with_gzip():
    found = check("gb1/gb1_four_sites.csv.gz", "protein", score_column="Fitness")
    assert not found.errors and len(found.table) == 149_361 and found.table.counts.max() == 1
    assert found.table.scores.max() == pytest.approx(8.76, abs=0.01)
    assert [finding.kind for finding in found.warnings] == ["other_scores"]
    assert "'HD', 'Count input', 'Count selected'" in found.warnings[0].message


def test_inhibitory_concentrations_of_peptides():
    found = check("amp/mic.csv", "protein", score_column="E_coli", score_sense="lower", on_invalid="skip")
    assert "5,249: 4,559 kept, 690 rejected" in found.summary()
    assert {entry.kind for entry in found.rejected} == {"empty_score"}
    assert "'P_aeruginosa', 'K_pneumoniae'" in found.list_findings()
    assert len(found.list_findings().splitlines()) < 10


def test_haemolysis_with_replicates_lower_case_and_chemistry_in_the_letters():
    found = check("amp/hemolysis.csv", "protein", score_column="log10_HC50", on_invalid="skip")
    assert found.num_rows == found.table.counts.sum() + found.num_rejected + found.num_duplicates
    assert found.num_rejected == 7 and {entry.kind for entry in found.rejected} == {"bad_symbol"}
    assert "lower case read as upper case in 130 rows" in found.list_findings()
    # Each of the sequences that seem to be measured twice is one in L- and in D-amino acids.
    assert "43 sequences in upper and in lower case joined as replicates" in found.list_findings()
    assert (found.table.counts > 1).sum() == 43 and found.table.measurement_std is None
    kept = check("amp/hemolysis.csv", "protein", score_column="log10_HC50", case="keep").table
    assert kept.counts.max() == 1 and len(kept) == found.table.counts.sum()


def test_both_strands_under_one_name():
    found = check("tfbind8/SIX6_REF_R1_8mers.txt", "dna", sequence_column="#1", score_column="E-score")
    assert len(found.table) == 32_896 and "'Median', 'Z-score'" in found.list_findings()
