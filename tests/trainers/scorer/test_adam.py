import torch

from trainers.scorer.adam import Adam


def test_steps_are_those_of_torchs_own_optimizer_bit_for_bit():
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(1_000, generator=generator)
    weights, gradient = start.clone(), torch.zeros(1_000)
    adam = Adam(weights, gradient)
    parameter = torch.nn.Parameter(start.clone())
    expected = torch.optim.Adam([parameter], fused=True)
    for number in range(20):
        gradient.copy_(torch.randn(1_000, generator=generator))
        parameter.grad = gradient.clone()
        rate = 1e-3 / (1 + number)
        expected.param_groups[0]["lr"] = rate
        expected.step()
        adam.step(rate)
    assert torch.equal(weights, parameter.detach())
    assert adam.steps == 20


def test_first_step_is_the_learning_rate_against_the_gradient():
    weights = torch.zeros(3)
    Adam(weights, torch.tensor([2.0, -0.5, 0.0])).step(0.1)
    # Both averages are corrected to the gradient itself and its square: g / |g|.
    assert torch.allclose(weights, torch.tensor([-0.1, 0.1, 0.0]))
