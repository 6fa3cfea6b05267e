import pytest

from examples.optimizer.classifier import (
    Example,
    Untrainable,
    accuracy,
    answers,
    split,
    trained,
    untrained,
)
from examples.optimizer.entries import EXAMPLES, QUESTION


def labelled(label: str, count: int) -> list[Example]:
    return [Example(f"{label} {number}", label) for number in range(count)]


def test_every_fourth_example_of_a_label_is_held_back() -> None:
    parts = split(labelled("a", 8) + labelled("b", 5))
    assert [one.text for one in parts.held_back] == ["a 3", "a 7", "b 3"]
    assert len(parts.training) == 10
    assert not set(parts.training) & set(parts.held_back)


def test_an_example_that_is_given_twice_counts_once() -> None:
    assert split(labelled("a", 4) * 2 + labelled("b", 4)) == split(labelled("a", 4) + labelled("b", 4))


@pytest.mark.parametrize(
    ("examples", "reason"),
    [
        ([], "only one label"),
        (labelled("a", 9), "only one label"),
        (labelled("a", 9) + labelled("b", 3), "the label 'b' has 3 different examples, and 4 are needed"),
        (labelled("a", 4) + labelled("b", 1) * 9, "the label 'b' has 1 different examples"),
    ],
)
def test_examples_from_which_nothing_can_be_learnt_are_refused(examples: list[Example], reason: str) -> None:
    with pytest.raises(Untrainable, match=reason):
        split(examples)


def test_an_untrained_model_answers_with_the_most_frequent_label() -> None:
    model = untrained(labelled("a", 2) + labelled("b", 6))
    [answer] = answers(model, ["a 1"])
    assert (answer.label, answer.probability) == ("b", pytest.approx(0.75))


def test_training_makes_the_model_better_on_what_it_has_not_seen() -> None:
    parts = split(EXAMPLES)
    before = untrained(parts.training)
    after = trained(before, parts.training, epochs=100)
    assert accuracy(before, parts.held_back) < 0.5
    assert accuracy(after, parts.held_back) > 0.8
    assert answers(after, [QUESTION.text])[0].label == QUESTION.label


def test_training_in_two_parts_comes_to_the_same_as_in_one() -> None:
    model = untrained(EXAMPLES)
    at_once = trained(model, EXAMPLES, epochs=20)
    assert trained(trained(model, EXAMPLES, epochs=12), EXAMPLES, epochs=8) == at_once


def test_words_that_the_model_does_not_know_say_nothing() -> None:
    model = trained(untrained(EXAMPLES), EXAMPLES, epochs=10)
    assert answers(model, ["Lamp xyzzy!"]) == answers(model, ["lamp"])
