"""Every shape of table, in both layouts, through its whole life with the real worker."""

from pathlib import Path

import pytest
import reference
from shape import BOTH, Shape
from shapes import SHAPES
from whole_life import Life, live

from pgvmig.errors import ConflictError

PAGE = Path(__file__).parents[3] / "docs" / "tables.md"


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
    assert {group for group, _ in rows} == set(reference.GROUPS)


def test_the_page_is_what_the_suite_would_write():
    text = PAGE.read_text(encoding="utf-8")
    assert reference.render(text) == text, "make docs"


@pytest.mark.layouts
def test_two_slots_of_one_table_live_side_by_side(site, roles, layout):
    """One has the column layout, the other the test's; neither touches the other's vectors."""
    first = Life(site, Shape(name="first", rows=[]), "column", roles)
    second = Life(
        site, Shape(name="second", rows=[], slot="other", input="body || ' n ' || n"), layout, roles, made=True
    )
    for life in (first, second):
        life.add("v1")
    first.fill("v1")
    for life in (first, second):
        assert life.problems("v1") == []
        life.index("v1")
        life.verify("v1")
        life.cut_over("v1")
    first.remember("v1 active")
    second.add("v2")
    first.write()
    first.fill("v1")
    assert [second.problems(version) for version in ("v1", "v2")] == [[], []]
    second.index("v2")
    second.verify("v2")
    second.cut_over("v2")
    first.look()
    second.retire("v1")
    first.look()
    first.empty()
    second.add("v1")
    second.index("v1")
    second.roll_back("v2")
    second.drop("v2")
    assert first.changed_since("v1 active") == []
    for life in (second, first):
        life.roll_back("v1")
        life.drop("v1")
    assert first.changed_since("bare") == []
