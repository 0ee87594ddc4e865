"""Run folders: made, trained, killed, continued and read."""

from narrows.runs.execution import FollowerResult as FollowerResult
from narrows.runs.execution import RunResult as RunResult
from narrows.runs.execution import conflict_note as conflict_note
from narrows.runs.execution import execute as execute
from narrows.runs.execution import follow as follow
from narrows.runs.execution import rehearse as rehearse
from narrows.runs.folder import RunError as RunError
from narrows.runs.folder import RunFolder as RunFolder
from narrows.runs.memory import OutOfMemory as OutOfMemory
from narrows.runs.opened import OpenRun as OpenRun
from narrows.runs.recorder import TooManySetAside as TooManySetAside
from narrows.runs.recorder import read_set_aside as read_set_aside
from narrows.runs.rows import read_rows as read_rows
from narrows.runs.temperature import with_temperature as with_temperature
