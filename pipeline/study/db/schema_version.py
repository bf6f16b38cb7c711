"""The version of our tables, kept in a table of one row.

A storage from before that table has none and counts as version 0. `study.tables.upgrade` brings
an older one up to date when a command that writes opens it; a command that only reads leaves it
as it is.
"""

from pipeline.errors import StorageError

SCHEMA_VERSION = 2
#: The names of our table of trials and of the table with its version.
TRIALS_TABLE, VERSION_TABLE = "pcan_trials", "pcan_schema"


def refuse_newer(version: int, shown: str) -> None:
    """Refuse a storage that a newer pcan has written.

    Args:
        shown: the storage's URL without secrets.

    Raises:
        StorageError: it has a newer version.
    """
    if version > SCHEMA_VERSION:
        raise StorageError(
            f"The storage {shown} was written by a newer pcan: its tables have version {version}, "
            f"this pcan knows versions up to {SCHEMA_VERSION}. Update pcan (pip install -U pcan), "
            "or name another storage: --storage URL"
        )
