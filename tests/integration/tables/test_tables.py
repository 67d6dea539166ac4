"""Every shape of table, in both layouts, through its whole life with the real worker."""

import pytest
from shape import BOTH, Row, Shape
from shapes import SHAPES
from whole_life import Life, live

from pgvmig.errors import ConflictError


def cases(*choose):
    return [
        pytest.param(shape, layout, id=f"{shape.name}-{layout}")
        for shape in SHAPES
        for layout in BOTH
        if any(layout in layouts for layouts in (which(shape) for which in choose))
    ]


@pytest.fixture
def life(site, roles, shape, layout):
    if site.database.major < shape.major:
        pytest.skip(f"PostgreSQL {shape.major} has it first")
    life = Life(site, shape, layout, roles)
    yield life
    life.end()


@pytest.mark.parametrize(("shape", "layout"), cases(lambda shape: shape.layouts))
def test_a_whole_life(life):
    live(life)


@pytest.mark.parametrize(("shape", "layout"), cases(lambda shape: shape.refused))
def test_a_layout_that_cannot_be_is_refused(life, shape, layout):
    with pytest.raises(ConflictError) as refused:
        life.add("v1")
    assert str(refused.value) == shape.refused[layout]
    assert life.changed_since("bare") == []


@pytest.mark.parametrize(("shape", "layout"), cases(lambda shape: shape.failed))
def test_rows_that_cannot_be_written_say_why(life, shape, layout):
    life.add("v1")
    assert life.site.run().why == "done"
    assert shape.failed[layout] in life.outcomes("v1")


def test_every_shape_has_a_name_and_rows_of_its_own():
    names = [shape.name for shape in SHAPES]
    rows = [(row.group, row.what) for shape in SHAPES for row in shape.rows]
    assert len(set(names)) == len(names)
    assert len(set(rows)) == len(rows)


SLOT = Shape(name="slots", rows=[Row("Columns", "several embeddings (slots)")], columns="id bigint PRIMARY KEY")
