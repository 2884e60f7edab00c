"""Indexes for the filters of `flask audit`."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Beside those who write meanwhile: over millions of rows it takes minutes.
    with op.get_context().autocommit_block():
        if op.get_bind().dialect.name == "postgresql":
            # It waits for whoever uses the table, and holds nobody up. One that was cut off leaves an index of no use.
            op.execute("SET lock_timeout = 0")
            op.execute("DROP INDEX CONCURRENTLY IF EXISTS ix_audit_action_id")
            op.execute("DROP INDEX CONCURRENTLY IF EXISTS ix_audit_result_id")
        op.create_index("ix_audit_action_id", "audit", ["action", "id"], postgresql_concurrently=True)
        op.create_index(
            "ix_audit_result_id",
            "audit",
            ["result", "id"],
            postgresql_concurrently=True,
            postgresql_where=sa.text("result <> 'ok'"),
        )
        if op.get_bind().dialect.name == "postgresql":
            op.execute("RESET lock_timeout")


def downgrade() -> None:
    op.drop_index("ix_audit_result_id", "audit")
    op.drop_index("ix_audit_action_id", "audit")
