"""The shared MNIST images, and the tasks that classify them."""

import math

import torch
from torch.nn.functional import cross_entropy

from schedsearch.tasks import _mnist
from schedsearch.tasks.long_tail import COUNTS, LongTail
from schedsearch.tasks.noisy_mnist import NoisyMnist


def test_there_are_500_images_of_each_class_between_black_and_white():
    images, labels = _mnist.load()
    assert images.shape == (5000, 14 * 14)
    assert torch.bincount(labels).tolist() == [500] * 10
    assert images.min() == 0
    assert 0.99 < images.max() <= 1


def test_every_image_is_in_exactly_one_part_of_a_split():
    train, validation, test = _mnist.split(5)
    everything = torch.cat([train.flatten(), validation, test])
    assert everything.sort().values.tolist() == list(range(5000))


def test_validation_and_test_are_balanced_and_a_training_row_is_a_class():
    _, labels = _mnist.load()
    train, validation, test = _mnist.split(5)
    assert torch.bincount(labels[validation]).tolist() == [50] * 10
    assert torch.bincount(labels[test]).tolist() == [100] * 10
    assert torch.equal(labels[train], torch.arange(10)[:, None].expand(10, 350))


def test_half_of_the_noisy_labels_are_redrawn_and_validation_is_clean():
    splits = NoisyMnist().data(0)
    images, labels = _mnist.load()
    true = {image.numpy().tobytes(): label for image, label in zip(images, labels, strict=True)}

    def share_wrong(split):
        wrong = [
            true[image.numpy().tobytes()] != label
            for image, label in zip(split["image"], split["label"], strict=True)
        ]
        return sum(wrong) / len(wrong)

    expected = 0.5 * 0.9
    assert abs(share_wrong(splits.train) - expected) < 4 * math.sqrt(0.25 * 0.1 / 3500) + 0.01
    assert share_wrong(splits.validation) == share_wrong(splits.test) == 0


def test_the_rarest_class_is_a_hundred_times_rarer_than_the_most_frequent():
    labels = LongTail().data(0).train["label"]
    assert tuple(torch.bincount(labels)) == COUNTS
    assert (COUNTS[0], COUNTS[-1], sum(COUNTS)) == (350, 4, 869)


def test_tau_is_the_exponent_of_the_class_weights():
    task, model = LongTail(), LongTail().model(0)
    batch = {name: tensor[::7] for name, tensor in task.data(0).train.items()}
    for tau in (0.0, 1.0, 2.5):
        terms = task.terms(model, batch, {"tau": torch.tensor(tau)}, {})
        weights = torch.tensor(COUNTS, dtype=torch.float32) ** -tau
        expected = cross_entropy(model(batch["image"]), batch["label"], weight=weights)
        torch.testing.assert_close(terms["cross_entropy"], expected)
