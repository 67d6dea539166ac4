"""The edit of env.py: what Alembic's templates and people's own files become, and what is refused."""

import ast
from pathlib import Path

import alembic
import pytest

from pgvmig.errors import ConfigError
from pgvmig.scaffolding import env_file

TEMPLATES = Path(alembic.__file__).parent / "templates"
HAND = (
    "Next: write it by hand: context.configure(..., transaction_per_migration=True, "
    'autogenerate_plugins=["alembic.autogenerate.*", "pgvmig.*"])'
)
BOTH = 'transaction_per_migration=True, autogenerate_plugins=["alembic.autogenerate.*", "pgvmig.*"]'


def calls(source):
    """Return the arguments of each context.configure(), as text by name; positional ones by number."""
    found = [
        node
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call) and "configure" in ast.dump(node.func)
    ]
    return [
        {str(i): ast.unparse(value) for i, value in enumerate(call.args)}
        | {keyword.arg or "**": ast.unparse(keyword.value) for keyword in call.keywords}
        for call in found
    ]


@pytest.fixture
def edited(tmp_path):
    """Edit a file, check that nothing but the two arguments is new and that nothing is left to do; return the text."""

    def edit(source):
        path = tmp_path / "env.py"
        path.write_bytes(source.encode())
        plan = env_file.plan(path)
        wanted = {name: ast.unparse(ast.parse(value)) for name, value in env_file.WANTED.items()}
        for before, after in zip(calls(plan.before), calls(plan.after), strict=True):
            assert after == before | {name: value for name, value in wanted.items() if name in after}
        path.write_bytes(plan.after.encode())
        assert not env_file.plan(path).changed
        return plan.after

    return edit


@pytest.mark.parametrize("template", ["generic", "async", "pyproject", "pyproject_async"])
def test_alembics_templates(edited, template):
    source = (TEMPLATES / template / "env.py").read_text()
    after = edited(source)
    assert [{*env_file.WANTED} <= {*call} for call in calls(after)] == [True, True]
    assert len(after.splitlines()) > len(source.splitlines())


PLUGINS = 'autogenerate_plugins=["alembic.autogenerate.*", "pgvmig.*"]'
SHAPES = {
    "on a line": """
if online:
    context.configure(connection=c, compare_type=True)
---
if online:
    context.configure(
        connection=c,
        compare_type=True,
        transaction_per_migration=True,
        PLUGINS,
    )
""",
    "a comment behind the last, and no comma": """
context.configure(
    connection=c,
    compare_type=True  # ours
)
---
context.configure(
    transaction_per_migration=True,
    PLUGINS,
    connection=c,
    compare_type=True  # ours
)
""",
    "aligned, other letters, the first by position": """
context.configure(c,
                  version_table="größe",
                  compare_type=True)
---
context.configure(c,
                  transaction_per_migration=True,
                  PLUGINS,
                  version_table="größe",
                  compare_type=True)
""",
    "half of it is there": """
context.configure(connection=größe(), transaction_per_migration=True)
---
context.configure(
    connection=größe(),
    transaction_per_migration=True,
    PLUGINS,
)
""",
    "another plugin": """
context.configure(connection=c, transaction_per_migration=True, autogenerate_plugins=["mine.*",])
---
context.configure(connection=c, transaction_per_migration=True, autogenerate_plugins=["mine.*", "pgvmig.*",])
""",
    "shared options that have one of the two": """
OPTIONS = {"transaction_per_migration": True}
alembic.context.configure(connection=c, **OPTIONS)
---
OPTIONS = {"transaction_per_migration": True}
alembic.context.configure(
    connection=c,
    **OPTIONS,
    PLUGINS,
)
""",
    "shared options with another plugin, in two calls": """
OPTIONS = {"transaction_per_migration": True, "autogenerate_plugins": ["mine.*"]}
context.configure(url=u, **OPTIONS)
context.configure(connection=c, **OPTIONS)
---
OPTIONS = {"transaction_per_migration": True, "autogenerate_plugins": ["mine.*", "pgvmig.*"]}
context.configure(url=u, **OPTIONS)
context.configure(connection=c, **OPTIONS)
""",
    "all of it is there": """
context.configure(connection=c, transaction_per_migration=True, PLUGINS)
---
context.configure(connection=c, transaction_per_migration=True, PLUGINS)
""",
}


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_peoples_own_files(tmp_path, shape, newline):
    before, after = (
        side.replace("PLUGINS", PLUGINS).replace("\n", newline) for side in shape.lstrip("\n").split("---\n")
    )
    path = tmp_path / "env.py"
    path.write_bytes(before.encode())
    assert env_file.plan(path).after == after
    path.write_bytes(after.encode())
    assert not env_file.plan(path).changed


UNSEEN = "has transaction_per_migration and autogenerate_plugins"
REFUSED = {
    "from app import run\nrun()\n": "env.py does not call context.configure()",
    "context.configure(connection=c, **conf_args)\n": f"env.py:1: nobody can see whether **conf_args {UNSEEN}",
    "A = {}\nA = {'x': 1}\ncontext.configure(connection=c, **A)\n": f"env.py:3: nobody can see whether **A {UNSEEN}",
    "O = {**other}\ncontext.configure(connection=c, **O)\n": f"env.py:2: nobody can see whether **O {UNSEEN}",
    "context.configure(c, transaction_per_migration=False)\n": "env.py:1 says transaction_per_migration=False",
    "context.configure(c, transaction_per_migration=True, autogenerate_plugins=PLUGINS)\n": (
        "env.py:1: autogenerate_plugins=PLUGINS does not name pgvmig"
    ),
    "context.configure(c)\n": "env.py:1: context.configure(c)",
    "def f():\n    context.configure((yield), a=1)\n": "env.py has a context.configure() in an unusual form",
}


@pytest.mark.parametrize(("source", "found"), REFUSED.items())
def test_what_is_not_understood_is_left_alone(tmp_path, source, found):
    path = tmp_path / "env.py"
    path.write_text(source)
    with pytest.raises(ConfigError) as error:
        env_file.plan(path)
    assert str(error.value) == (
        f"{tmp_path}/{found}. Without the first all revisions share one transaction, which a gate that fails would "
        f"undo; without the second autogenerate knows nothing of embeddings. {HAND}"
    )
    assert path.read_text() == source


def test_a_transaction_of_its_own_is_refused(tmp_path):
    path = tmp_path / "env.py"
    path.write_text("with engine.begin() as connection:\n    context.configure(connection=connection)\n")
    with pytest.raises(ConfigError) as error:
        env_file.plan(path)
    assert str(error.value) == (
        f"{path}:1 begins a transaction of its own. Alembic then runs all revisions in it, transaction_per_migration "
        "or not: a gate that fails in the last would undo the first, and no index could be built CONCURRENTLY. Next: "
        "connect() instead of begin(), `with context.begin_transaction():` around context.run_migrations(), "
        f"context.configure(..., {BOTH}); then pgvmig scaffold"
    )
    with pytest.raises(ConfigError, match=r"multidb.env\.py:107 begins a transaction of its own"):
        env_file.plan(TEMPLATES / "multidb" / "env.py")


def test_what_python_cannot_read(tmp_path):
    (tmp_path / "env.py").write_text("context.configure(\n")
    with pytest.raises(ConfigError, match=r"env\.py:1: .* Next: mend it, then pgvmig scaffold"):
        env_file.plan(tmp_path / "env.py")


def test_the_old_file_is_kept_and_no_older_one_is_lost(tmp_path):
    path = tmp_path / "env.py"
    for number, name in enumerate(("env.py.bak", "env.py.bak2", "env.py.bak3")):
        path.write_text(f"context.configure(connection=c{number})\n")
        edit = env_file.plan(path)
        assert edit.write().name == name
        assert (tmp_path / name).read_text() == f"context.configure(connection=c{number})\n"
        assert path.read_text() == edit.after
