"""Files in and out: plain ones only, written whole or not at all, read back as what they were.

A folder of Narrows may come from anybody. Whatever opens a file in one, to read, to write or to lock it, goes through here.
"""

from narrows.files.locks import WriterLock as WriterLock
from narrows.files.plain import ChangedFile as ChangedFile
from narrows.files.plain import open_plain as open_plain
from narrows.files.plain import read_bytes as read_bytes
from narrows.files.plain import read_text as read_text
from narrows.files.plain import refuse_special as refuse_special
from narrows.files.plain import refuse_special_database as refuse_special_database
from narrows.files.plain import refuse_special_within as refuse_special_within
from narrows.files.plain import sha256_of as sha256_of
from narrows.files.records import Record as Record
from narrows.files.records import parse_content as parse_content
from narrows.files.records import parse_record as parse_record
from narrows.files.records import read_record as read_record
from narrows.files.records import record_text as record_text
from narrows.files.records import validate_content as validate_content
from narrows.files.writing import append as append
from narrows.files.writing import new_folder as new_folder
from narrows.files.writing import write_atomically as write_atomically
from narrows.files.writing import write_together as write_together
