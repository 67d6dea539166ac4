"""The first model's index, after its backfill."""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade():
    op.index_embedding("documents", "v1")


def downgrade():
    op.drop_embedding_index("documents", "v1")
