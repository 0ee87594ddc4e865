"""The main job from end to end, as `make demo` runs it: each step is the command a user would type."""

import csv
import shutil
import sys
import time
from pathlib import Path

from narrows.cli import main as narrows

HERE = Path(__file__).parent
OUT = Path("runs/rna")


def step(*words: str) -> None:
    print(f"\n$ narrows {' '.join(words)}", flush=True)
    began = time.perf_counter()
    if narrows(words) != 0:
        sys.exit(f"narrows {words[0]} failed; its message is above.")
    print(f"({time.perf_counter() - began:.0f} s)", flush=True)


def show_first_rows(path: Path) -> None:
    print("rank  sequence        proxy score      ±  edits to data  cluster")
    with open(path, encoding="utf-8", newline="") as stream:
        for row in list(csv.DictReader(stream))[:10]:
            score, std = float(row["score"]), float(row["score_std"])
            distance, cluster = row["distance_to_measured"], row["cluster"]
            print(f"{row['rank']:>4}  {row['sequence']}  {score:>11.4f}  {std:>5.3f}  {distance:>13}  {cluster:>7}")


def main() -> None:
    began = time.perf_counter()
    # A demo starts from nothing each time; a real run folder is never overwritten.
    work = OUT.parent / "rna-job"
    for folder in (OUT, work):
        shutil.rmtree(folder, ignore_errors=True)
    work.mkdir(parents=True)
    shutil.copy(HERE / "job.toml", work)
    table = work / "measurements.csv"
    print(f"$ python {HERE / 'make_measurements.py'} --out {table}", flush=True)
    sys.path.insert(0, str(HERE))
    from make_measurements import measure

    from narrows.data import write_table

    sequences, scores = measure(seed=0)
    write_table(table, sequences, scores.round(4))
    step("check", str(table), "--space", "rna")
    step("fit", str(work / "job.toml"))
    step("run", str(work / "job.toml"), "--out", str(OUT))
    step("shortlist", str(OUT), "--k", "24", "--min-distance", "4")
    step("verify", str(OUT), "--score", "rna")
    print(f"\nThe first ten rows of {OUT / 'shortlist.csv'}")
    show_first_rows(OUT / "shortlist.csv")
    print(f"\nThe page: {(OUT / 'report.html').resolve()}  ({time.perf_counter() - began:.0f} s in all)")


if __name__ == "__main__":
    main()
