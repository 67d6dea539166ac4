"""Errors: what they say, what they carry, and the exit code that the command line gives them."""

import inspect

import pytest

from pgvmig import errors
from pgvmig.errors import PgvmigError

ALL = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, PgvmigError)]


@pytest.mark.parametrize(
    ("parts", "text"),
    [
        ({}, "it is red"),
        ({"hazard": "Red is dear"}, "it is red. Red is dear."),
        ({"next_step": "paint it"}, "it is red. Next: paint it"),
        ({"hazard": "Red is dear", "next_step": "paint it"}, "it is red. Red is dear. Next: paint it"),
    ],
)
def test_an_error_says_what_was_found_the_hazard_and_the_next_step(parts, text):
    error = PgvmigError("it is red", **parts)
    assert str(error) == text
    assert (error.found, error.hazard, error.next_step) == ("it is red", parts.get("hazard"), parts.get("next_step"))


def test_figures_and_names_are_data():
    assert PgvmigError("588 rows", rows=588, table="documents").data == {"rows": 588, "table": "documents"}


@pytest.mark.parametrize("kind", ALL)
def test_exit_codes(kind):
    bases = {errors.UsageError: 2, errors.StoppedError: 3, errors.BlockedError: 4, PgvmigError: 1}
    assert kind("found").exit_code == next(code for base, code in bases.items() if issubclass(kind, base))


@pytest.mark.parametrize("kind", ALL)
def test_every_class_says_when_it_is_raised(kind):
    assert kind.__doc__
    assert kind.__doc__ != PgvmigError.__doc__ or kind is PgvmigError
