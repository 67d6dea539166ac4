"""The old model goes, a day after the last search in it.

Downgrading adds it again, empty: its vectors are gone, its contract is not.
"""

from alembic import op

revision = '0007'
down_revision = '0006'
branch_labels = None
depends_on = None


def upgrade():
    op.retire_embedding('documents', 'v1')


def downgrade():
    op.add_embedding(
        'documents',
        'v1',
        {
            'model': 'wordllama',
            'model_version': 'l2_supercat_256',
            'dimensions': 256,
            'input': 'body',
            'provider': 'old',
        },
        columns=['id', 'title', 'body', 'updated_at'],
        key=['id'],
    )
    op.index_embedding('documents', 'v1', after_backfill=True)
