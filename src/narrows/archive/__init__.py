"""Every distinct terminal object that training has seen, on disk."""

from narrows.archive.store import CONFLICT_TOLERANCE as CONFLICT_TOLERANCE
from narrows.archive.store import Archive as Archive
from narrows.archive.store import Entries as Entries
from narrows.archive.store import Entry as Entry
