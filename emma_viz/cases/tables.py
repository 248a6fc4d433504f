"""The tables of a casebook.

Whatever is changed here needs a step in `migrations/versions`, which a test holds against these tables.
"""

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
)

CASE_TABLES = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "ix": "ix_%(table_name)s_%(column_0_name)s",
    }
)
VERSION_TABLE = "casebook_version"
"""Where Alembic keeps which step of the migrations a database stands at."""

PICTURE_ROWS = Table(
    "casebook_pictures",
    CASE_TABLES,
    Column("hash", String(64), primary_key=True),
    Column("media_type", String(32), nullable=False),
    Column("width", Integer, nullable=False),
    Column("height", Integer, nullable=False),
    Column("content", LargeBinary, nullable=False),
    Column("thumbnail", LargeBinary, nullable=False),
)
"""Each image once: the file as it came where it is PNG or JPEG, else a PNG; and a small WebP."""

CASE_ROWS = Table(
    "casebook_cases",
    CASE_TABLES,
    Column("id", String(32), primary_key=True),
    Column("version", Integer, nullable=False),
    Column("image", String(64), nullable=False),
    Column("image_name", Text, nullable=False),
    Column("prompt", Text, nullable=False),
    Column("asked", String(16), nullable=False),
    Column("truth", Text, nullable=False),
    Column("object", Text, nullable=False),
    Column("present", JSON, nullable=False),
    Column("absent", JSON, nullable=False),
    Column("box", JSON, nullable=False),
    Column("flags", JSON, nullable=False),
    Column("groups", JSON, nullable=False),
    Column("benchmark", Text, nullable=False),
    Column("split", Text, nullable=False),
    Column("row", Text, nullable=False),
    Column("category", Text, nullable=False),
    Column("cluster", Text, nullable=False, server_default=""),
    Column("verdict", Text, nullable=False),
    Column("number", Integer, nullable=False, index=True),
    Column("changed_at", String(32), nullable=False, index=True),
    Index("ix_casebook_cases_benchmark", "benchmark", "split"),
)
"""Each question once. `version` counts the changes of its history; `verdict` is what the history says now; `number` is
the order in which they were added. `image` may name a picture that is not there."""

ANSWER_ROWS = Table(
    "casebook_answers",
    CASE_TABLES,
    Column("case_id", ForeignKey(CASE_ROWS.c.id, ondelete="CASCADE"), primary_key=True),
    Column("model", String(500), primary_key=True),
    Column("fingerprint", Text, nullable=False),
    Column("beside", Text, nullable=False, server_default=""),
    Column("text", Text, nullable=False),
    Column("said", String(16), nullable=False),
    Column("right", Boolean),
    Column("scorer", Text, nullable=False),
    Column("p_yes", Float),
    Column("p_no", Float),
    Column("confidence", Float),
    Column("made_up", JSON, nullable=False),
    Column("missed", JSON, nullable=False),
    Column("study", Text, nullable=False),
    Column("entry", Text, nullable=False),
    Column("sample", Integer, nullable=False),
    Index("ix_casebook_answers_model", "model", "case_id", "said", "right", "confidence"),
)
"""What each model answered; `confidence` is derived, to sort by."""

REASON_ROWS = Table(
    "casebook_reasons",
    CASE_TABLES,
    Column("case_id", ForeignKey(CASE_ROWS.c.id, ondelete="CASCADE"), primary_key=True),
    Column("rule", String(64), primary_key=True),
    Column("model", String(500), primary_key=True),
    Index("ix_casebook_reasons_rule", "rule", "case_id"),
)
"""The rules of the miner that hold, and for which models."""

TAG_ROWS = Table(
    "casebook_tags",
    CASE_TABLES,
    Column("case_id", ForeignKey(CASE_ROWS.c.id, ondelete="CASCADE"), primary_key=True),
    Column("tag", String(80), primary_key=True),
    Index("ix_casebook_tags_tag", "tag", "case_id"),
)
"""What the history says now."""

EVENT_ROWS = Table(
    "casebook_events",
    CASE_TABLES,
    Column("case_id", ForeignKey(CASE_ROWS.c.id, ondelete="CASCADE"), primary_key=True),
    Column("id", String(32), primary_key=True),
    Column("at", String(32), nullable=False),
    Column("author", Text, nullable=False),
    Column("kind", String(16), nullable=False),
    Column("value", Text, nullable=False),
)
"""The history: rows are added and never changed."""

EVIDENCE_NUMBERS = Table(
    "casebook_measured",
    CASE_TABLES,
    Column("case_id", ForeignKey(CASE_ROWS.c.id, ondelete="CASCADE"), primary_key=True),
    Column("model", String(500), primary_key=True),
    Column("name", String(500), primary_key=True),
    Column("layer", Integer, primary_key=True),
    Column("value", Float, nullable=False),
    Column("control", Float),
    Index("ix_casebook_measured_name", "name", "case_id", "model", "layer", "value", "control"),
)
"""Numbers of evidence, to filter by."""

EVIDENCE_ROWS = Table(
    "casebook_evidence",
    CASE_TABLES,
    Column("case_id", ForeignKey(CASE_ROWS.c.id, ondelete="CASCADE"), primary_key=True),
    Column("model", String(500), primary_key=True),
    Column("recipe", String(200), nullable=False),
    Column("document", Text, nullable=False),
)
"""The evidence as a whole, as JSON, and the digest of what made it."""
