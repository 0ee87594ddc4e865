"""Every distinct terminal object that training has seen, on disk."""

from narrows.storage.archive.store import CONFLICT_TOLERANCE as CONFLICT_TOLERANCE
from narrows.storage.archive.store import Archive as Archive
from narrows.storage.archive.store import Entries as Entries
from narrows.storage.archive.store import Entry as Entry
