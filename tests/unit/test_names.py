"""Names that others script against."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgvmig import names
from pgvmig.address import address
from pgvmig.errors import UsageError
from pgvmig.names import Target


@pytest.mark.parametrize(
    ("text", "readings"),
    [
        ("documents", [(None, "documents", "embedding")]),
        ("Documents", [(None, "Documents", "embedding")]),
        ("app.documents", [("app", "documents", "embedding"), (None, "app", "documents")]),
        ("app.documents.title", [("app", "documents", "title")]),
        ('"a.b"', [(None, "a.b", "embedding")]),
        ('app."it""s ü".title', [("app", 'it"s ü', "title")]),
        (" app . documents ", [("app", "documents", "embedding"), (None, "app", "documents")]),
        # whose quotes a shell has taken off
        ("My App.my docs", [("My App", "my docs", "embedding"), (None, "My App", "my docs")]),
    ],
)
def test_targets_are_read_as_a_shell_user_means_them(text, readings):
    assert Target.parse(text).readings() == readings


@pytest.mark.parametrize("text", ["", " ", ".", "a.", ".a", "a..b", "a.b.c.d", '"a', 'a"b"', '""'])
def test_what_is_no_target_is_refused(text):
    with pytest.raises(UsageError) as error:
        Target.parse(text)
    assert str(error.value) == f"{text!r} is not a target. Next: write [schema.]table[.slot], such as documents"


@given(st.lists(st.text(min_size=1), min_size=1, max_size=3))
def test_quoted_names_come_back(parts):
    quoted = ".".join('"' + part.replace('"', '""') + '"' for part in parts)
    assert Target.parse(quoted).parts == tuple(parts)


@given(st.lists(st.text(min_size=1), min_size=2, max_size=2))
def test_what_messages_call_a_target_is_read_as_that_target(parts):
    names_of = [part.strip() or "x" for part in parts]
    schema, table = names_of
    label = names.label(table, "embedding", "public" if schema == "public" else schema)
    wanted = (None if schema == "public" else schema, table, "embedding")
    assert wanted in Target.parse(label).readings()


@pytest.mark.parametrize("version", ["v1", "v2", "v10", "v999999999"])
def test_versions(version):
    assert names.check_version(version) == version


@pytest.mark.parametrize("version", ["", "1", "v0", "v01", "V1", "v1 ", "v1\n", "vv1", "v1000000000", None, 1])
def test_what_is_no_version_is_refused(version):
    with pytest.raises(UsageError) as error:
        names.check_version(version)
    assert str(error.value) == f"{version!r} is not a version's name. Next: write v1, v2 and so on"


def test_a_table_and_a_slot_have_names():
    for table, slot in (("", "embedding"), ("documents", "")):
        with pytest.raises(UsageError, match="a table's and a slot's name cannot be empty"):
            address(table, "v1", slot=slot)


def test_names_that_fit_stay_as_they_are():
    assert names.fit("x" * 63) == "x" * 63
    assert names.fit("ü" * 31 + "x") == "ü" * 31 + "x"


def test_long_names_end_in_a_hash_of_the_whole():
    assert names.fit("x" * 64) == "x" * 54 + "_7ce10097"
    assert names.fit("x" * 80 + "_v1") != names.fit("x" * 80 + "_v2")


def test_names_are_cut_between_characters():
    cut = names.fit("x" + "ü" * 40)  # bytes 2 and 3 are the first ü, so byte 54 is the first half of one
    assert cut == "x" + "ü" * 26 + cut[-9:]
    assert len(cut.encode()) == 62


@given(st.text(max_size=100))
def test_every_name_fits_and_fitting_twice_changes_nothing(name):
    fitted = names.fit(name)
    assert len(fitted.encode()) <= 63
    assert names.fit(fitted) == fitted


def test_names_of_the_default_slot():
    assert names.view_name("documents", "embedding", "v2") == "documents_v2"
    assert names.current_view_name("documents", "embedding") == "documents_current"
    assert names.vector_column("embedding", "v2") == "embedding_v2"
    assert names.provenance_columns("embedding_v2") == (
        "embedding_v2_version_id",
        "embedding_v2_source_hash",
        "embedding_v2_embedded_at",
    )


def test_names_of_another_slot():
    assert names.view_name("documents", "title", "v2") == "documents_title_v2"
    assert names.current_view_name("documents", "title") == "documents_title_current"
    assert names.view_columns("title") == (
        "title",
        "title_space",
        "title_model",
        "title_model_version",
        "title_source_hash",
        "title_embedded_at",
    )


@pytest.mark.parametrize(
    ("schema", "slot", "label"),
    [
        (None, "embedding", "documents"),
        ("public", "embedding", "documents"),
        ("app", "embedding", "app.documents"),
        ("public", "title", "documents.title"),
        ("app", "title", "app.documents.title"),
    ],
)
def test_messages_name_only_what_is_special(schema, slot, label):
    assert names.label("documents", slot, schema) == label
    assert address("documents", "v2", schema, slot).label == f"{label} v2"
