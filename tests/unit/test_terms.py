"""A revision's `force`: which gates, and why."""

import pytest

from pgvmig.errors import UsageError
from pgvmig.terms import Terms


@pytest.mark.parametrize(
    ("force", "skip", "reason"),
    [
        (None, [], None),
        ("coverage: 12 rows of a closed tenant", ["coverage"], "12 rows of a closed tenant"),
        (" coverage , index : why: so ", ["coverage", "index"], "why: so"),
    ],
)
def test_force_names_gates_and_a_reason(force, skip, reason):
    assert Terms.forced(force) == Terms(skip=skip, reason=reason)


@pytest.mark.parametrize("force", ["", "coverage", "coverage:", "coverage:  "])
def test_force_without_a_reason_is_refused(force):
    with pytest.raises(UsageError) as error:
        Terms.forced(force)
    assert str(error.value) == (
        f"force is {force!r}. A skipped gate is kept with its reason, for whoever looks into it later. "
        "Next: write force='gate: why', such as force='coverage: 12 rows of a closed tenant'"
    )
