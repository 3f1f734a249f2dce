"""The tasks whose loss is a weighted sum: what each term is."""

import torch
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from schedsearch.tasks.regularized import Regularized
from schedsearch.tasks.two_losses import TwoLosses
from schedsearch.tasks.vae import LATENT, Vae


def test_the_ridge_penalty_is_half_the_squared_weights_over_the_training_examples():
    task, model = Regularized(), Regularized().model(0)
    batch = task.data(0).train
    terms = task.terms(model, batch, {}, {})
    matrices = [model.layers[0].weight, model.layers[2].weight]
    torch.testing.assert_close(terms["l2"], sum((m**2).sum() for m in matrices) / 2 / 100)
    torch.testing.assert_close(
        terms["cross_entropy"], cross_entropy(model.layers(batch["image"]), batch["label"])
    )


def test_two_losses_are_the_squared_and_the_absolute_error():
    def zero(inputs):
        return torch.zeros(len(inputs), 1)

    batch = {"input": torch.zeros(2, 10), "target": torch.tensor([1.0, -3.0])}
    terms = TwoLosses().terms(zero, batch, {}, {})
    assert (terms["l2"], terms["l1"]) == (5.0, 2.0)
    metrics = TwoLosses().metrics(zero, batch)
    assert metrics["error"] == 2.0
    torch.testing.assert_close(metrics["rmse"], torch.tensor(5.0).sqrt())


def test_the_targets_of_two_losses_are_standardised():
    splits = TwoLosses().data(0)
    targets = torch.cat([s["target"] for s in (splits.train, splits.validation, splits.test)])
    assert len(targets) == 442
    torch.testing.assert_close(targets.std(), torch.tensor(1.0))


def test_the_divergence_is_torchs_between_the_posterior_and_the_prior():
    model, images = Vae().model(0), Vae().data(0).train["image"][:8]
    draws = torch.randn(8, LATENT)
    terms = Vae().terms(model, {"image": images}, {}, {"latent": draws})
    mean, log_variance = model.encoder(images).chunk(2, dim=-1)
    posterior = torch.distributions.Normal(mean, (log_variance / 2).exp())
    divergence = torch.distributions.kl_divergence(posterior, torch.distributions.Normal(0, 1))
    torch.testing.assert_close(terms["kl"], divergence.sum(-1).mean())
    logits = model.decoder(mean + posterior.stddev * draws)
    likelihood = binary_cross_entropy_with_logits(logits, images, reduction="sum") / 8
    torch.testing.assert_close(terms["reconstruction"], likelihood)


def test_the_bound_weighs_both_terms_alike_and_draws_the_same_for_every_model():
    task, splits = Vae(), Vae().data(0)
    metrics = task.metrics(task.model(0), splits.validation)
    assert metrics["nelbo"] == metrics["reconstruction"] + metrics["kl"]
    assert torch.equal(splits.validation["latent"], Vae().data(1).validation["latent"])
