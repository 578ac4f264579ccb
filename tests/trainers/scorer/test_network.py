import numpy as np
import pytest
import torch

from schemas.settings import ScorerSettings
from trainers.scorer.network import (
    ArchitectureMismatchError,
    Evaluator,
    ScorerNetwork,
    build_network,
    check_network,
    parameter_count,
)


@pytest.mark.parametrize(("rank", "parameters"), [(8, 7_145), (32, 28_193), (1, 1_006)])
def test_network_has_877_parameters_a_rank_and_129(rank: int, parameters: int):
    assert parameter_count(build_network(ScorerSettings(rank=rank))) == parameters


def test_network_of_another_rank_is_refused_with_both_named():
    with pytest.raises(ArchitectureMismatchError, match=r"rank = 32 means 28,193 .* rank 8 and 7,145"):
        check_network(ScorerNetwork(rank=8, seed=0, hidden=64), ScorerSettings(rank=32))


def test_first_weights_follow_from_the_seed():
    one, same, other = (build_network(ScorerSettings(seed=seed)).down.weight for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


@pytest.mark.parametrize("count", [0, 1, 3, 40, 300])
def test_scores_agree_with_the_module(count: int):
    network = build_network(ScorerSettings(rank=8))
    rows = np.random.default_rng(0).normal(size=(count, 813)).astype(np.float32)
    expected = network(torch.from_numpy(rows)).detach().numpy()
    assert Evaluator(network).forward(rows)[2] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("count", [7, 300])
def test_gradient_by_hand_agrees_with_autograd(count: int):
    network = build_network(ScorerSettings(rank=8))
    rng = np.random.default_rng(0)
    rows, slope = rng.normal(size=(count, 813)).astype(np.float32), rng.normal(size=count).astype(np.float32)
    network(torch.from_numpy(rows)).backward(torch.from_numpy(slope))
    expected = [parameter.grad.clone() for parameter in network.parameters() if parameter.grad is not None]
    evaluator = Evaluator(network)
    low, active, _ = evaluator.forward(rows)
    evaluator.backward(rows, low, active, slope)
    for parameter, gradient in zip(network.parameters(), expected, strict=True):
        assert torch.allclose(parameter.grad, gradient, rtol=1e-4, atol=1e-4)


def test_forward_and_gradient_of_one_unit_by_hand():
    network = ScorerNetwork(rank=1, seed=0, hidden=64)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        network.down.weight[0, 0] = 2.0
        network.hidden.weight[0, 0] = 3.0
        network.hidden.bias[0] = 1.0
        network.out.weight[0, 0] = 0.5
        network.out.bias[0] = -1.0
    rows = np.zeros((1, 813), np.float32)
    rows[0, 0] = 1.0
    evaluator = Evaluator(network)
    low, active, scores = evaluator.forward(rows)
    # The hidden unit is 3 * 2 * 1 + 1 = 7, the score 0.5 * 7 - 1.
    assert scores.item() == 2.5
    evaluator.backward(rows, low, active, np.ones(1, np.float32))
    # d out = relu output; d hidden = 0.5 * low; d hidden bias = 0.5; d down = 0.5 * 3 * input
    assert network.out.weight.grad[0, 0] == 7.0
    assert network.out.bias.grad[0] == 1.0
    assert network.hidden.weight.grad[0, 0] == 1.0
    assert network.hidden.bias.grad[0] == 0.5
    assert network.down.weight.grad[0, 0] == 1.5
    assert network.down.weight.grad[0, 1:].abs().sum() == 0.0


def test_views_of_a_vector_are_shaped_as_the_module_has_its_parameters():
    network = build_network(ScorerSettings(rank=8))
    expected = [parameter.detach().clone() for parameter in network.parameters()]
    evaluator = Evaluator(network)
    for view, parameter, before in zip(evaluator.split(evaluator.weights), network.parameters(), expected, strict=True):
        assert torch.equal(view, before)
        assert torch.equal(parameter, before)
