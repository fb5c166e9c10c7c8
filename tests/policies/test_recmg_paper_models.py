"""The models of the paper: shapes, gradients, and equality with their compiled form."""

import pytest

torch = pytest.importorskip("torch")

from tieralloc.policies.recmg_paper.models import (  # noqa: E402
    CHUNK,
    POINTS,
    CachingModel,
    PrefetchModel,
)

from tieralloc.policy.scripted import compile_module, load_module  # noqa: E402

OUTPUTS = {CachingModel: CHUNK, PrefetchModel: POINTS}


@pytest.fixture(params=OUTPUTS, ids=lambda kind: kind.__name__)
def model(request):
    torch.manual_seed(0)
    return request.param(num_tables=3, mean=0.4, deviation=0.2)


def chunks(number, seed=0):
    generator = torch.Generator().manual_seed(seed)
    positions = torch.rand(number, CHUNK, generator=generator)
    return positions, torch.randint(0, 3, (number, CHUNK), generator=generator)


def test_model_has_shape_and_size_of_the_paper(model):
    assert model(*chunks(7)).shape == (7, OUTPUTS[type(model)])
    assert 20_000 < sum(parameter.numel() for parameter in model.parameters()) < 50_000


def test_prefetch_model_points_lie_in_the_id_space():
    points = PrefetchModel(3, 0.4, 0.2)(*chunks(100))
    assert ((points > 0) & (points < 1)).all()


def test_model_depends_on_each_weight_and_access(model):
    positions, tables = chunks(50)
    positions.requires_grad_()
    model(positions, tables).sum().backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad != 0).any(), name
    assert (positions.grad != 0).all(dim=0).any()
    assert (positions.grad != 0).any(dim=0).all()


def test_model_chunks_of_a_batch_are_independent(model):
    positions, tables = chunks(6)
    with torch.inference_mode():
        together = model(positions, tables)
        alone = torch.cat([model(positions[i : i + 1], tables[i : i + 1]) for i in range(6)])
    assert torch.allclose(together, alone, atol=1e-5)


def test_compiled_model_equals_the_module(model):
    loaded = load_module(compile_module(model), "model")
    model.eval()
    with torch.inference_mode():
        for number in (1, 5, 64):
            inputs = chunks(number, seed=number)
            assert torch.allclose(loaded(*inputs), model(*inputs), atol=1e-6)
