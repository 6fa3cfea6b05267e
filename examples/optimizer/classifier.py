"""The model that is tuned: logistic regression on the words of a text. Pure, and the same every time."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

Floats: TypeAlias = NDArray[np.float64]

MIN_PER_LABEL = 4
# Of the examples of a label, every fourth is kept back to measure with.
_HELD_BACK_EVERY = 4
# The most frequent words are enough to tell texts apart.
_MAX_WORDS = 2000
_RATE = 0.5
_DECAY = 0.001

_WORD = re.compile(r"\w+")


class Untrainable(Exception):
    """Nothing can be learnt from the examples. The text says why, for whoever wrote them."""


@dataclass(frozen=True, slots=True)
class Example:
    text: Annotated[str, Field(max_length=4096)]
    label: Annotated[str, Field(min_length=1, max_length=100)]


@dataclass(frozen=True, slots=True)
class Answer:
    label: str
    probability: float


@dataclass(frozen=True, slots=True)
class Split:
    training: tuple[Example, ...]
    held_back: tuple[Example, ...]


@dataclass(frozen=True, slots=True)
class Model:
    """A row of weights for each word of the vocabulary, with a column for each label; and a bias for each
    label. Plain figures, so that it can be written down."""

    vocabulary: tuple[str, ...]
    labels: tuple[str, ...]
    weights: tuple[tuple[float, ...], ...]
    bias: tuple[float, ...]


def split(examples: Sequence[Example]) -> Split:
    """Part what is learnt from what is measured with, label by label. Raises Untrainable."""
    by_label: dict[str, list[Example]] = {}
    for example in dict.fromkeys(examples):
        by_label.setdefault(example.label, []).append(example)
    if len(by_label) < 2:
        raise Untrainable("the examples have only one label, so there is nothing to tell apart")
    for label, ones in by_label.items():
        if len(ones) < MIN_PER_LABEL:
            raise Untrainable(
                f"the label {label!r} has {len(ones)} different examples, and {MIN_PER_LABEL} are needed"
            )
    kept_back = [one for ones in by_label.values() for one in ones[_HELD_BACK_EVERY - 1 :: _HELD_BACK_EVERY]]
    return Split(tuple(one for one in dict.fromkeys(examples) if one not in kept_back), tuple(kept_back))


def untrained(examples: Sequence[Example]) -> Model:
    """A model that knows how frequent each label is, and nothing else: it answers with the most frequent."""
    words = Counter(word for example in examples for word in _words(example.text))
    vocabulary = tuple(sorted(word for word, _ in words.most_common(_MAX_WORDS)))
    counts = Counter(example.label for example in examples)
    labels = tuple(sorted(counts))
    bias = np.log([counts[label] / len(examples) for label in labels])
    return Model(vocabulary, labels, ((0.0,) * len(labels),) * len(vocabulary), tuple(bias.tolist()))


def trained(model: Model, examples: Sequence[Example], epochs: int) -> Model:
    """The model after so many more steps of gradient descent."""
    texts = _counts(model, [example.text for example in examples])
    wanted = np.array([[float(example.label == label) for label in model.labels] for example in examples])
    weights, bias = np.array(model.weights), np.array(model.bias)
    for _ in range(epochs):
        error = (_softmax(texts @ weights + bias) - wanted) / len(examples)
        weights -= _RATE * (texts.T @ error + _DECAY * weights)
        bias -= _RATE * error.sum(axis=0)
    rows: list[list[float]] = weights.tolist()
    return Model(model.vocabulary, model.labels, tuple(map(tuple, rows)), tuple(bias.tolist()))


def answers(model: Model, texts: Sequence[str]) -> list[Answer]:
    found = _softmax(_counts(model, texts) @ np.array(model.weights) + np.array(model.bias))
    return [Answer(model.labels[int(row.argmax())], float(row.max())) for row in found]


def accuracy(model: Model, examples: Sequence[Example]) -> float:
    """The share of the examples that the model answers rightly."""
    said = answers(model, [example.text for example in examples])
    right = sum(answer.label == example.label for answer, example in zip(said, examples, strict=True))
    return right / len(examples)


def _counts(model: Model, texts: Sequence[str]) -> Floats:
    columns = {word: column for column, word in enumerate(model.vocabulary)}
    counts = np.zeros((len(texts), len(columns)))
    for row, text in enumerate(texts):
        for word in _words(text):
            if word in columns:
                counts[row, columns[word]] += 1
    return counts


def _softmax(scores: Floats) -> Floats:
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    shares: Floats = powers / powers.sum(axis=1, keepdims=True)
    return shares


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())
