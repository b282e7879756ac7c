"""The three blocks against plain NumPy, and their gradients against finite differences."""

import numpy as np
import pytest
from numpy_reference import Reference

from dmr_gluon.models.blocks import InceptionLike, MergeAndRun, Plain, Residual
from dmr_gluon.runtime import mx

SHAPES = [
    pytest.param(8, 1, 8, False, id="plain"),
    pytest.param(16, 2, 8, False, id="projection"),
    pytest.param(16, 2, 8, True, id="bottleneck"),
]


def randomise(block, seed=0):
    """Initialise with weights and BN statistics that leave nothing at its neutral value."""
    block.initialize()
    random = np.random.RandomState(seed)
    for name, parameter in block.collect_params().items():
        value = random.standard_normal(parameter.shape) * (0.3 if name.endswith("weight") else 0.2)
        if name.endswith(("gamma", "running_var")):
            value = 1 + np.abs(value)
        parameter.set_data(mx.nd.array(value))


def parameters_of(block):
    return {name: p.data().asnumpy() for name, p in block.collect_params().items()}


def images(*shape, seed=1):
    return np.random.RandomState(seed).standard_normal(shape)


def assert_close(found, expected):
    scale = max(1, np.abs(expected).max())
    np.testing.assert_allclose(found.asnumpy(), expected, rtol=0, atol=1e-5 * scale)


def fuse(block):
    block.apply(lambda one: hasattr(one, "fused") and setattr(one, "fused", True))


@pytest.mark.parametrize("fused", [False, True], ids=["portable", "fast"])
@pytest.mark.parametrize("training", [False, True], ids=["inference", "training"])
@pytest.mark.parametrize("channels, stride, in_channels, bottleneck", SHAPES)
class TestForward:
    @pytest.fixture(autouse=True)
    def in_form(self, fused):
        self.fused = fused

    def run(self, block, inputs, training):
        randomise(block)
        if self.fused:
            fuse(block)
        inputs = [mx.nd.array(x) for x in inputs]
        inputs = inputs[0] if len(inputs) == 1 else inputs
        with mx.autograd.record(train_mode=training):
            return block(inputs), Reference(parameters_of(block), training)

    def test_residual(self, channels, stride, in_channels, bottleneck, training):
        x = images(2, in_channels, 8, 8)
        block = Residual(channels, stride, in_channels, bottleneck=bottleneck, prefix="b_")
        found, reference = self.run(block, [x], training)
        assert_close(found, reference.residual(x, "b", stride, bottleneck))

    def test_plain(self, channels, stride, in_channels, bottleneck, training):
        x = images(2, in_channels, 8, 8)
        block = Plain(channels, stride, in_channels, bottleneck=bottleneck, prefix="b_")
        found, reference = self.run(block, [x], training)
        assert_close(found, reference.plain(x, "b", stride, bottleneck))

    @pytest.mark.parametrize("branches", [1, 2, 3])
    def test_inception_like(self, channels, stride, in_channels, bottleneck, training, branches):
        x = images(2, in_channels, 8, 8)
        block = InceptionLike(
            channels, stride, in_channels, branches, bottleneck=bottleneck, prefix="b_"
        )
        found, reference = self.run(block, [x], training)
        assert_close(found, reference.inception_like(x, "b", stride, bottleneck, branches))

    @pytest.mark.parametrize("mapping", ["mean", "identity"])
    @pytest.mark.parametrize("branches", [2, 3, 4])
    def test_merge_and_run(
        self, channels, stride, in_channels, bottleneck, training, branches, mapping
    ):
        xs = [images(2, in_channels, 8, 8, seed=k) for k in range(branches)]
        block = MergeAndRun(
            channels, stride, in_channels, branches, mapping, bottleneck=bottleneck, prefix="b_"
        )
        found, reference = self.run(block, xs, training)
        expected = reference.merge_and_run(xs, "b", stride, bottleneck, mapping)
        assert len(found) == branches
        for one, other in zip(found, expected):
            assert_close(one, other)

    @pytest.mark.parametrize("branches", [2, 3])
    def test_last_merge_and_run_gives_one_tensor(
        self, channels, stride, in_channels, bottleneck, training, branches
    ):
        xs = [images(2, in_channels, 8, 8, seed=k) for k in range(branches)]
        block = MergeAndRun(
            channels, stride, in_channels, branches, last=True, bottleneck=bottleneck, prefix="b_"
        )
        found, reference = self.run(block, xs, training)
        assert_close(found, reference.merge_and_run(xs, "b", stride, bottleneck, last=True))


@pytest.mark.parametrize("layers", [1, 3, 4])
@pytest.mark.parametrize("kind", [Plain, Residual])
def test_branches_of_other_lengths(kind, layers):
    """Figure 6 has them."""
    x = images(2, 8, 8, 8)
    block = kind(16, 2, 8, layers=layers, prefix="b_")
    randomise(block)
    reference = Reference(parameters_of(block))
    expected = (reference.plain if kind is Plain else reference.residual)(x, "b", 2, False, layers)
    assert_close(block(mx.nd.array(x)), expected)


def test_first_merge_and_run_gives_every_branch_the_same_input():
    x = images(2, 8, 8, 8)
    block = MergeAndRun(8, 1, 8, prefix="b_")
    randomise(block)
    for one, other in zip(block(mx.nd.array(x)), block([mx.nd.array(x)] * 2)):
        assert (one == other).asnumpy().all()


def block_of(kind):
    # Small, with a projection, and for merge-and-run with both mappings.
    if kind == "residual":
        return Residual(4, 2, 3, prefix="b_"), 1
    if kind == "inception_like":
        return InceptionLike(4, 2, 3, prefix="b_"), 1
    if kind == "last":
        return MergeAndRun(4, 2, 3, last=True, prefix="b_"), 2
    return MergeAndRun(4, 2, 3, mapping=kind, prefix="b_"), 2


@pytest.mark.parametrize("kind", ["residual", "inception_like", "mean", "identity", "last"])
def test_gradients_equal_finite_differences(kind):
    block, count = block_of(kind)
    randomise(block)
    block.cast("float64")
    xs = [mx.nd.array(images(2, 3, 4, 4, seed=k), dtype="float64") for k in range(count)]
    for x in xs:
        x.attach_grad()
    directions = [
        mx.nd.array(images(2, 4, 2, 2, seed=9 + k), dtype="float64") for k in range(count)
    ]

    def loss():
        outputs = block(xs[0] if count == 1 else xs)
        outputs = outputs if isinstance(outputs, list) else [outputs]
        return sum(
            ((y * d).sum() for y, d in zip(outputs, directions)), mx.nd.zeros(1, dtype="float64")
        )

    with mx.autograd.record():
        total = loss()
    total.backward()
    checked = {name: p.data() for name, p in block.collect_params().items() if p.grad_req != "null"}
    checked.update({f"input {k}": x for k, x in enumerate(xs)})
    random, step = np.random.RandomState(3), 1e-6
    for name, array in checked.items():
        gradient, value = array.grad.asnumpy(), array.asnumpy()
        for position in random.choice(value.size, min(4, value.size), replace=False):
            position = np.unravel_index(position, value.shape)
            around = []
            for sign in (1, -1):
                moved = value.copy()
                moved[position] += sign * step
                array[:] = mx.nd.array(moved, dtype="float64")
                with mx.autograd.train_mode():
                    around.append(loss().asscalar())
            array[:] = mx.nd.array(value, dtype="float64")
            expected = (around[0] - around[1]) / (2 * step)
            assert gradient[position] == pytest.approx(expected, rel=1e-5, abs=1e-6), name
