"""What is wrong, as a sentence says it."""

from __future__ import annotations

import pytest

from services.domain.faults import Fault, did_you_mean


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (Fault("models.0.name", "is missing"), "models.0.name: is missing"),
        (Fault("", "is no object"), "is no object"),
    ],
)
def test_a_fault_names_its_field_where_it_has_one(fault, said):
    assert str(fault) == said


@pytest.mark.parametrize(
    ("near", "question"),
    [
        ([], ""),
        (["claude-opus-4-1"], "; did you mean claude-opus-4-1?"),
        (["gpt-5", "gpt-5-mini"], "; did you mean gpt-5 or gpt-5-mini?"),
    ],
)
def test_a_name_that_is_unknown_is_met_with_a_question_only_where_another_is_near(near, question):
    assert did_you_mean(near) == question
