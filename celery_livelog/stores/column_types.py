"""The types of the catalog's columns, such that each database keeps and compares the same texts in the same way."""

from __future__ import annotations

from sqlalchemy import String, Text
from sqlalchemy.dialects import mysql

#: Characters; at 4 bytes each still short enough for an index in every database.
LONGEST_ID = 200


def exact(length: int) -> String:
    """Text of up to `length` characters; MySQL would by default take "A", "a" and "ä" for one."""
    return String(length).with_variant(
        mysql.VARCHAR(length, charset="utf8mb4", collation="utf8mb4_bin"), "mysql", "mariadb"
    )


ID = exact(LONGEST_ID)
TIME = exact(32)
STATE = exact(32)
TEXT = Text().with_variant(mysql.MEDIUMTEXT(charset="utf8mb4"), "mysql", "mariadb")  # their TEXT ends at 64 KiB
