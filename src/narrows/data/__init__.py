"""Tables in: a CSV of scored sequences is checked row by row before anything learns from it."""

from narrows.data.check import Check as Check
from narrows.data.check import Table as Table
from narrows.data.findings import DataError as DataError
from narrows.data.findings import Finding as Finding
from narrows.data.findings import Rejected as Rejected
from narrows.data.settings import TableSettings as TableSettings
from narrows.data.spaces import OpenSpace as OpenSpace
from narrows.data.spaces import Space as Space
from narrows.data.spaces import space as space
from narrows.data.table import accept_table as accept_table
from narrows.data.table import check_table as check_table
from narrows.data.table import read_table as read_table
from narrows.data.table import write_rejected as write_rejected
from narrows.data.table import write_table as write_table
