"""What Alembic runs: the steps, on the connection that `emma_viz.cases.opening` has opened."""

from alembic import context

from emma_viz.cases.tables import CASE_TABLES, VERSION_TABLE

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=CASE_TABLES,
    version_table=VERSION_TABLE,
)
context.run_migrations()
