"""Tests of one group run in one process; --dist loadgroup would not say when it no longer sees the groups."""

import pytest


@pytest.mark.xdist_group("a group of one")
def test_a_group_is_part_of_the_name_that_tests_are_sent_by(request):
    grouped = request.config.getoption("loadgroup", default=False)
    assert request.node.nodeid.endswith("@a group of one") == grouped
