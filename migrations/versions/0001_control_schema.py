"""The control schema: a revision like any other."""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade():
    op.install_pgvmig(version=1)


def downgrade():
    op.uninstall_pgvmig()
