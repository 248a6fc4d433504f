"""The first tables."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """From an empty database."""
    _cases()
    _pictures()
    _answers()
    _evidence()
    _history()


def _of_case(table: str, key: Sequence[str], *columns: sa.Column) -> None:
    """A table of what belongs to a case and goes with it; `key` are the columns of its key behind the case's."""
    op.create_table(
        table,
        sa.Column("case_id", sa.String(length=32), nullable=False),
        *columns,
        sa.ForeignKeyConstraint(
            ["case_id"], ["casebook_cases.id"], name=op.f(f"fk_{table}_case_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("case_id", *key, name=op.f(f"pk_{table}")),
    )


def _cases() -> None:
    op.create_table(
        "casebook_cases",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("image", sa.String(length=64), nullable=False),
        sa.Column("image_name", sa.Text(), nullable=False),
        sa.Column("prompt", sa.Text(), nullable=False),
        sa.Column("asked", sa.String(length=16), nullable=False),
        sa.Column("truth", sa.Text(), nullable=False),
        sa.Column("object", sa.Text(), nullable=False),
        sa.Column("present", sa.JSON(), nullable=False),
        sa.Column("absent", sa.JSON(), nullable=False),
        sa.Column("box", sa.JSON(), nullable=False),
        sa.Column("flags", sa.JSON(), nullable=False),
        sa.Column("groups", sa.JSON(), nullable=False),
        sa.Column("benchmark", sa.Text(), nullable=False),
        sa.Column("split", sa.Text(), nullable=False),
        sa.Column("row", sa.Text(), nullable=False),
        sa.Column("category", sa.Text(), nullable=False),
        sa.Column("verdict", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("changed_at", sa.String(length=32), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_casebook_cases")),
    )
    op.create_index("ix_casebook_cases_benchmark", "casebook_cases", ["benchmark", "split"], unique=False)
    op.create_index(op.f("ix_casebook_cases_changed_at"), "casebook_cases", ["changed_at"], unique=False)
    op.create_index(op.f("ix_casebook_cases_number"), "casebook_cases", ["number"], unique=False)


def _pictures() -> None:
    op.create_table(
        "casebook_pictures",
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.Column("media_type", sa.String(length=32), nullable=False),
        sa.Column("width", sa.Integer(), nullable=False),
        sa.Column("height", sa.Integer(), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.Column("thumbnail", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("hash", name=op.f("pk_casebook_pictures")),
    )


def _answers() -> None:
    _of_case(
        "casebook_answers",
        ["model"],
        sa.Column("model", sa.String(length=500), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("said", sa.String(length=16), nullable=False),
        sa.Column("right", sa.Boolean(), nullable=True),
        sa.Column("scorer", sa.Text(), nullable=False),
        sa.Column("p_yes", sa.Float(), nullable=True),
        sa.Column("p_no", sa.Float(), nullable=True),
        sa.Column("confidence", sa.Float(), nullable=True),
        sa.Column("made_up", sa.JSON(), nullable=False),
        sa.Column("missed", sa.JSON(), nullable=False),
        sa.Column("study", sa.Text(), nullable=False),
        sa.Column("entry", sa.Text(), nullable=False),
        sa.Column("sample", sa.Integer(), nullable=False),
    )
    op.create_index(
        "ix_casebook_answers_model",
        "casebook_answers",
        ["model", "case_id", "said", "right", "confidence"],
        unique=False,
    )


def _evidence() -> None:
    _of_case(
        "casebook_evidence",
        ["model"],
        sa.Column("model", sa.String(length=500), nullable=False),
        sa.Column("recipe", sa.String(length=200), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
    )
    _of_case(
        "casebook_measured",
        ["model", "name", "layer"],
        sa.Column("model", sa.String(length=500), nullable=False),
        sa.Column("name", sa.String(length=500), nullable=False),
        sa.Column("layer", sa.Integer(), nullable=False),
        sa.Column("value", sa.Float(), nullable=False),
        sa.Column("control", sa.Float(), nullable=True),
    )
    op.create_index(
        "ix_casebook_measured_name",
        "casebook_measured",
        ["name", "case_id", "model", "layer", "value", "control"],
        unique=False,
    )


def _history() -> None:
    _of_case(
        "casebook_events",
        ["id"],
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("at", sa.String(length=32), nullable=False),
        sa.Column("author", sa.Text(), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
    )
    _of_case(
        "casebook_reasons",
        ["rule", "model"],
        sa.Column("rule", sa.String(length=64), nullable=False),
        sa.Column("model", sa.String(length=500), nullable=False),
    )
    op.create_index("ix_casebook_reasons_rule", "casebook_reasons", ["rule", "case_id"], unique=False)
    _of_case(
        "casebook_tags",
        ["tag"],
        sa.Column("tag", sa.String(length=80), nullable=False),
    )
    op.create_index("ix_casebook_tags_tag", "casebook_tags", ["tag", "case_id"], unique=False)
