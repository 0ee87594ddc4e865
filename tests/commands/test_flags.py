"""The options of each command: those that scripts and notes of users have, whatever records the functions take."""

import importlib
import re

import pytest

from narrows.cli import main

TRAINING = "score proxy timeout scheduler pending piece devices coordinator processes process"
TABLE = (
    "sequence-column score-column score-sense score-transform replicates censored inactive case parent parent-start on-invalid"
)
FLAGS = {
    "new": f"out space {TABLE}",
    "check": f"space min-length max-length {TABLE} rejected",
    "fit": f"space out models seed test-fraction max-distance refit no-refit {TABLE}",
    "run": f"out like keep {TRAINING} set",
    "resume": TRAINING,
    "shortlist": "k min-distance by kappa both-strands out",
    "verify": "score control no-control timeout",
    "worst": "omega alpha q reference states samples score proxy timeout out top plot",
    "report": "out",
}


@pytest.mark.parametrize("command", FLAGS)
def test_the_options_are_these(command, capfd):
    with pytest.raises(SystemExit) as stopped:
        main([command, "--help"])
    assert stopped.value.code == 0
    plain = re.sub(r"\x1b\[[\d;]*m", "", capfd.readouterr().out)
    lines = re.findall(r"^[^\w\s-]? ?(--[a-z].*)", plain, re.MULTILINE)
    # A description is indented: what follows it in the line of its option is cut off by two spaces.
    shown = [option for line in lines for option in re.findall(r"--([a-z-]+)", line.split("  ")[0])]
    assert sorted(shown) == sorted(FLAGS[command].split())


def test_records_of_settings_are_part_of_the_notebooks_api():
    commands = importlib.import_module("narrows.commands")
    assert commands.TrainingSettings(devices=2).as_typed() == {"devices": 2}
    assert commands.WorstSettings().files == () and commands.FitSettings().models == ()
    assert commands.TableSettings().on_invalid == "refuse"
