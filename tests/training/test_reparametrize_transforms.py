"""torch.func on reparametrized models: derivatives are those of a plain model, led through the map to its weights."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, jvp, stack_module_state, vjp, vmap

import affinet
from affinet.training.reparametrization import Basis
from tests.oracle import oracle
from tests.training.autoencoder import Autoencoder, X, each_basis

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")  # torch, at its first jvp
INPUT = X[:3].double()
ROUNDINGS = {"rtol": 1e-12, "atol": 1e-12}
"""Sums of at most 150 products of numbers of size one, in float64, led through three layers."""


def made(basis: Basis, seed: int = 1) -> tuple[Autoencoder, Autoencoder, affinet.Reparametrization]:
    """A model, a plain one with the same weights, and the handle; everything in float64."""
    torch.manual_seed(seed)
    model = Autoencoder().double()
    handle = affinet.reparametrize(model, model.rules(), basis=basis)
    plain = affinet.bake(copy.deepcopy(model))
    assert isinstance(plain, Autoencoder)
    return model, plain, handle


class Flat:
    """The loss of a model as a function of all of its numbers, laid end to end."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.shapes = {name: p.shape for name, p in model.named_parameters()}
        self.start = torch.cat([p.detach().reshape(-1) for p in model.parameters()])

    def apart(self, flat: Tensor) -> dict[str, Tensor]:
        pieces = flat.split([shape.numel() for shape in self.shapes.values()])
        return {name: piece.view(shape) for (name, shape), piece in zip(self.shapes.items(), pieces, strict=True)}

    def __call__(self, flat: Tensor, x: Tensor = INPUT) -> Tensor:
        out: Tensor = functional_call(self.model, self.apart(flat), (x,))
        return (out.square() + out).sum()


def map_to_weights(reparametrized: Flat, plain: Flat) -> Tensor:
    """`dw / du`, column by column from values: w is affine in u."""

    model = reparametrized.model

    def weights(flat: Tensor) -> Tensor:
        with torch.no_grad():
            for p, numbers in zip(model.parameters(), reparametrized.apart(flat).values(), strict=True):
                p.copy_(numbers)
            places = [name.rpartition(".") for name in plain.shapes]
            return torch.cat([getattr(model.get_submodule(layer), key).reshape(-1) for layer, _, key in places])

    start = reparametrized.start
    zero = weights(torch.zeros_like(start))
    columns = [weights(row) - zero for row in torch.eye(len(start), dtype=start.dtype)]
    weights(start)
    return torch.stack(columns, 1)


@each_basis
def test_derivatives_are_those_of_the_weights_led_through_the_map(basis: Basis) -> None:
    model, plain, handle = made(basis)
    u, w = Flat(model), Flat(plain)
    to_weights = map_to_weights(u, w)
    if basis == "projection":
        tangent = oracle(handle.plan.system).tangent
        for k in (0, 40, 77):
            unit = u.apart(torch.eye(len(u.start), dtype=torch.float64)[k])
            short = {name.replace("parametrizations.", "").removesuffix(".0.unprojected"): name for name in unit}
            column = w.apart(to_weights[:, k])
            for name, x in tangent({name: unit[full].numpy() for name, full in short.items()}).items():
                torch.testing.assert_close(column[name], torch.from_numpy(x), rtol=0, atol=1e-13)
    torch.testing.assert_close(u(u.start), w(w.start), **ROUNDINGS)
    slope, curvature = grad(w)(w.start), hessian(w)(w.start)
    expected = to_weights.T @ slope
    for derivative in (grad, jacrev, jacfwd):
        torch.testing.assert_close(derivative(u)(u.start), expected, **ROUNDINGS)
    along = torch.randn(len(u.start), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(jvp(u, (u.start,), (along,))[1], expected @ along, **ROUNDINGS)
    torch.testing.assert_close(vjp(u, u.start)[1](torch.tensor(1.0).double())[0], expected, **ROUNDINGS)
    bent = to_weights.T @ curvature @ to_weights
    for second in (hessian, lambda f: jacrev(jacrev(f)), lambda f: jacfwd(jacfwd(f)), lambda f: jacrev(jacfwd(f))):
        torch.testing.assert_close(second(u)(u.start), bent, **ROUNDINGS)
    product = jvp(grad(u), (u.start,), (along,))[1]
    torch.testing.assert_close(product, bent @ along, **ROUNDINGS)


@each_basis
def test_plain_autograd_goes_twice_through_the_map(basis: Basis) -> None:
    model, plain, _ = made(basis)
    u, w = Flat(model), Flat(plain)
    to_weights = map_to_weights(u, w)
    start = u.start.clone().requires_grad_()
    (slope,) = torch.autograd.grad(u(start), start, create_graph=True)
    along = torch.randn(len(start), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    (product,) = torch.autograd.grad(slope @ along, start)
    expected = to_weights.T @ (hessian(w)(w.start) @ (to_weights @ along))
    torch.testing.assert_close(product, expected, **ROUNDINGS)


@each_basis
def test_gradients_of_single_samples_and_of_batches_of_them(basis: Basis) -> None:
    model, _, _ = made(basis)
    u = Flat(model)
    each = vmap(grad(u), in_dims=(None, 0))(u.start, INPUT[:, None])
    for k, x in enumerate(INPUT):
        torch.testing.assert_close(each[k], grad(u)(u.start, x[None]), **ROUNDINGS)
    nested = vmap(vmap(grad(u), in_dims=(None, 0)), in_dims=(None, 0))(u.start, INPUT[None, :, None])
    torch.testing.assert_close(nested[0], each, **ROUNDINGS)


@each_basis
def test_ensembles_of_weights_in_one_call(basis: Basis) -> None:
    models = [made(basis, seed)[0] for seed in range(3)]
    numbers, buffers = stack_module_state(models)
    first = models[0]

    def outputs(given: dict[str, Tensor], held: dict[str, Tensor]) -> Tensor:
        found: Tensor = functional_call(first, (given, held), (INPUT,))
        return found

    found = vmap(outputs)(numbers, buffers)
    for k, model in enumerate(models):
        torch.testing.assert_close(found[k], model(INPUT), **ROUNDINGS)

    def loss(given: dict[str, Tensor], held: dict[str, Tensor]) -> Tensor:
        return outputs(given, held).square().sum()

    slopes = vmap(grad(loss))(numbers, buffers)
    for k, model in enumerate(models):
        model(INPUT).square().sum().backward()
        for name, p in model.named_parameters():
            torch.testing.assert_close(slopes[name][k], p.grad, **ROUNDINGS)
    only = vmap(outputs, in_dims=({name: 0 if name.startswith("hidden") else None for name in numbers}, None))
    mixed = {name: x if name.startswith("hidden") else x[0] for name, x in numbers.items()}
    one = only(mixed, {name: x[0] for name, x in buffers.items()})
    torch.testing.assert_close(one[0], first(INPUT), **ROUNDINGS)


@each_basis
@pytest.mark.parametrize("transform", [jacrev, jacfwd])
def test_jacobians_by_the_inputs_see_constant_weights(
    basis: Basis, transform: Callable[[Callable[[Tensor], Tensor]], Callable[[Tensor], Tensor]]
) -> None:
    model, plain, _ = made(basis)
    torch.testing.assert_close(transform(model)(INPUT[0]), transform(plain)(INPUT[0]), **ROUNDINGS)
