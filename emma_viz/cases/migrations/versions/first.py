"""The first tables."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """From an empty database."""
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
    op.create_table(
        "casebook_answers",
        sa.Column("case_id", sa.String(length=32), nullable=False),
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
        sa.ForeignKeyConstraint(
            ["case_id"], ["casebook_cases.id"], name=op.f("fk_casebook_answers_case_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("case_id", "model", name=op.f("pk_casebook_answers")),
    )
    op.create_index(
        "ix_casebook_answers_model",
        "casebook_answers",
        ["model", "case_id", "said", "right", "confidence"],
        unique=False,
    )
    op.create_table(
        "casebook_events",
        sa.Column("case_id", sa.String(length=32), nullable=False),
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("at", sa.String(length=32), nullable=False),
        sa.Column("author", sa.Text(), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["case_id"], ["casebook_cases.id"], name=op.f("fk_casebook_events_case_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("case_id", "id", name=op.f("pk_casebook_events")),
    )
    op.create_table(
        "casebook_evidence",
        sa.Column("case_id", sa.String(length=32), nullable=False),
        sa.Column("model", sa.String(length=500), nullable=False),
        sa.Column("recipe", sa.String(length=200), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["case_id"], ["casebook_cases.id"], name=op.f("fk_casebook_evidence_case_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("case_id", "model", name=op.f("pk_casebook_evidence")),
    )
    op.create_table(
        "casebook_measured",
        sa.Column("case_id", sa.String(length=32), nullable=False),
        sa.Column("model", sa.String(length=500), nullable=False),
        sa.Column("name", sa.String(length=500), nullable=False),
        sa.Column("layer", sa.Integer(), nullable=False),
        sa.Column("value", sa.Float(), nullable=False),
        sa.Column("control", sa.Float(), nullable=True),
        sa.ForeignKeyConstraint(
            ["case_id"], ["casebook_cases.id"], name=op.f("fk_casebook_measured_case_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("case_id", "model", "name", "layer", name=op.f("pk_casebook_measured")),
    )
    op.create_index(
        "ix_casebook_measured_name",
        "casebook_measured",
        ["name", "case_id", "model", "layer", "value", "control"],
        unique=False,
    )
    op.create_table(
        "casebook_reasons",
        sa.Column("case_id", sa.String(length=32), nullable=False),
        sa.Column("rule", sa.String(length=64), nullable=False),
        sa.Column("model", sa.String(length=500), nullable=False),
        sa.ForeignKeyConstraint(
            ["case_id"], ["casebook_cases.id"], name=op.f("fk_casebook_reasons_case_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("case_id", "rule", "model", name=op.f("pk_casebook_reasons")),
    )
    op.create_index("ix_casebook_reasons_rule", "casebook_reasons", ["rule", "case_id"], unique=False)
    op.create_table(
        "casebook_tags",
        sa.Column("case_id", sa.String(length=32), nullable=False),
        sa.Column("tag", sa.String(length=80), nullable=False),
        sa.ForeignKeyConstraint(
            ["case_id"], ["casebook_cases.id"], name=op.f("fk_casebook_tags_case_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("case_id", "tag", name=op.f("pk_casebook_tags")),
    )
    op.create_index("ix_casebook_tags_tag", "casebook_tags", ["tag", "case_id"], unique=False)
