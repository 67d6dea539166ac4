"""The revisions of the demo application are what autogenerate writes from its models, and lead where those are."""

import pytest

from pgvmig.demo.measured import DemoFailedError
from pgvmig.demo.project import Project, migrations, statements

pytestmark = pytest.mark.bare


@pytest.fixture
def project(database, tmp_path):
    return Project(tmp_path / "migrations", database.url)


def without_docstring(path):
    return path.read_text(encoding="utf-8").split('"""', 2)[2]


def test_autogenerate_writes_what_is_shipped(project):
    """Both models' revisions, to the letter: only their docstrings are people's."""
    shipped = {path.name: path for path in (migrations() / "versions").glob("*.py")}
    for later in ("0003_embedding_v1.py", "0004_cut_over_v1.py"):
        (project.folder / "versions" / later).unlink()
    project.upgrade("head")
    first = project.autogenerate("embedding v1", "0003")
    assert without_docstring(first) == without_docstring(shipped[first.name])
    project.bring("0004")
    project.upgrade("head")
    project.check()
    change = project.change_the_model()
    assert [line[0] + line[1:].strip() for line in change.splitlines()] == [
        '-provider="old",',
        '-model="wordllama",',
        '-model_version="l2_supercat_256",',
        "-dimensions=256,",
        '+provider="new",',
        '+model="all-MiniLM-L6-v2",',
        '+model_version="onnx-int8-1.0",',
        "+dimensions=384,",
    ]
    with pytest.raises(
        DemoFailedError, match=r"alembic check is not clean: New upgrade operations detected: .*add_emb"
    ):
        project.check()
    second = project.autogenerate("embedding v2", "0005")
    assert without_docstring(second) == without_docstring(shipped[second.name])
    assert statements(second).startswith("op.add_embedding(\n    'documents',\n    'v2',\n")
    assert statements(second).endswith("\nop.index_embedding('documents', 'v2', after_backfill=True)")
    project.upgrade("head")
    project.check()
    for later in ("0006", "0007"):
        project.bring(later)
        project.upgrade("head")
        project.check()
    assert {path.name for path in (project.folder / "versions").glob("*.py")} == {*shipped}
