"""When PyTorch's own kernels run, and features of this backend."""

import keras
import numpy as np
import pytest

import keras_deconv
from keras_deconv import ops
from tests import oracles

if keras.config.backend() != "torch":
    pytest.skip("needs KERAS_BACKEND=torch", allow_module_level=True)

import torch
from torch._subclasses import FakeTensorMode

from keras_deconv._kernels import native_torch
from keras_deconv._kernels.windows import lay_windows

pytestmark = [
    pytest.mark.backend,
    # PyTorch itself warns when it checks gradients and when it compiles.
    pytest.mark.filterwarnings(
        "ignore:`torch.jit.script:DeprecationWarning",
        "ignore:.*should not be instantiated:DeprecationWarning",
    ),
]

FORMATS = ("window", "plane", "flat")
WINDOWS = (
    dict(pool_size=2),
    dict(pool_size=3, strides=2, padding="same"),
    dict(pool_size=2, strides=3, padding="same"),
)


def both(x, overlap="sum", **options):
    pooled, argmax = ops.max_pool_with_argmax(x, **options)
    return ops.max_unpool(
        2 * pooled, argmax, like=x, overlap=overlap, **options
    )


@pytest.fixture
def x():
    torch.manual_seed(0)
    return torch.randn(2, 6, 7, 3)


@pytest.fixture
def native_calls(monkeypatch):
    """Record for each call whether PyTorch's own pooling ran."""
    calls = []
    pool = native_torch._pool_natively

    def counted(x, windows):
        result = pool(x, windows)
        calls.append(result is not None)
        return result

    monkeypatch.setattr(native_torch, "_pool_natively", counted)
    return calls


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("index_format", FORMATS)
def test_floats_are_pooled_by_pytorch(native_calls, dtype, index_format, x):
    x = x.to(getattr(torch, dtype))
    ops.max_pool_with_argmax(x, index_format=index_format)
    ops.max_pool_with_argmax(x, 3, 2, "same", index_format=index_format)
    assert native_calls == [True, True]


def test_the_rest_is_pooled_by_ours(native_calls, x):
    ops.max_pool_with_argmax(x.to(torch.int64))
    # Padding only at the end.
    ops.max_pool_with_argmax(x, 2, 1, "same")
    for odd in (np.nan, -np.inf):
        with_odd = x.clone()
        with_odd[0, :2, :2, 0] = odd
        ops.max_pool_with_argmax(with_odd)
    assert native_calls == [False] * 4


@pytest.mark.parametrize("dtype", ["int32", "int64", "float32", "float64"])
@pytest.mark.parametrize("index_format", FORMATS)
def test_no_digit_is_lost(dtype, index_format):
    """The next smaller dtype cannot represent these values."""
    values = {
        "int32": [2**31 - 1, -(2**31), 16777217, 5],
        "int64": [2**53 + 1, -(2**63), 2**31, 2**62 + 1],
        "float32": [16777215.0, 0.5, -0.25, 2.0**-120],
        "float64": [0.1, 0.2, 1e300, 0.3],
    }[dtype]
    x = torch.tensor(values, dtype=getattr(torch, dtype)).reshape(1, 4, 1)
    options = dict(pool_size=2, index_format=index_format)
    pooled, argmax = ops.max_pool_with_argmax(x, **options)
    assert pooled.dtype == x.dtype
    assert pooled.ravel().tolist() == [max(values[:2]), max(values[2:])]
    y = ops.max_unpool(pooled, argmax, **options)
    assert y.dtype == x.dtype
    kept = y != 0
    assert kept.sum() == 2
    assert torch.equal(y[kept], x[kept])


def test_a_layer_of_float64_finds_every_maximum(rng):
    x = rng.standard_normal((1, 64, 64, 3))
    layer = keras_deconv.MaxPoolWithArgmax2D(dtype="float64")
    pooled, argmax = layer(x)
    expected, index, _ = oracles.max_pool(x, (2, 2), (2, 2), "valid")
    np.testing.assert_array_equal(pooled.numpy(), expected)
    np.testing.assert_array_equal(argmax.numpy(), index)


@pytest.mark.parametrize("index_format", FORMATS)
@pytest.mark.parametrize("overlap", ["sum", "mean"])
def test_vmap_is_the_loop(index_format, overlap, x):
    for window in WINDOWS:
        options = dict(window, index_format=index_format, overlap=overlap)
        expected = both(x, **options)

        def one(x, options=options):
            return both(x[None], **options)[0]

        assert torch.equal(torch.func.vmap(one)(x), expected)
        assert torch.equal(keras.ops.vectorized_map(one, x), expected)


@pytest.mark.parametrize("index_format", FORMATS)
def test_vmap_over_unpooling_alone(index_format, x):
    options = dict(index_format=index_format)
    pooled, argmax = ops.max_pool_with_argmax(x, **options)
    options["output_size"] = (6, 7)
    mapped = keras.ops.vectorized_map(
        lambda pair: ops.max_unpool(pair[0][None], pair[1][None], **options)[0],
        (pooled, argmax),
    )
    assert torch.equal(mapped, ops.max_unpool(pooled, argmax, **options))


@pytest.mark.parametrize("index_format", FORMATS)
@pytest.mark.parametrize("overlap", ["sum", "mean"])
def test_derivatives_of_every_kind_agree(index_format, overlap):
    """Checks reverse and forward mode, second order, and `torch.func`."""
    torch.manual_seed(0)
    x = torch.randn(1, 4, 5, 1, dtype=torch.float64, requires_grad=True)
    for window in WINDOWS[:2]:

        def squared(x, window=window):
            return both(
                x, index_format=index_format, overlap=overlap, **window
            ).square()

        assert torch.autograd.gradcheck(squared, x, check_forward_ad=True)
        assert torch.autograd.gradgradcheck(squared, x)
        by_func = torch.func.grad(lambda x, f=squared: f(x).sum())(x.detach())
        assert torch.equal(by_func, torch.autograd.grad(squared(x).sum(), x)[0])


def test_the_index_is_all_that_is_kept(x):
    x.requires_grad_()
    kept = []

    def pack(tensor):
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda kept: kept):
        pooled, argmax = ops.max_pool_with_argmax(x)
        ops.max_unpool(pooled, argmax)
    assert {tensor.dtype for tensor in kept} == {torch.uint8}
    assert {tensor.data_ptr() for tensor in kept} == {argmax.data_ptr()}


@pytest.mark.parametrize("index_format", ["flat", "plane"])
@pytest.mark.parametrize("wrong", [-1, 10**6])
def test_a_position_outside_is_refused(index_format, wrong, x):
    pooled, argmax = ops.max_pool_with_argmax(x, index_format=index_format)
    argmax = argmax.clone()
    argmax[1, 0, 0, 0] = wrong
    with pytest.raises(ValueError, match="`argmax` in the format"):
        ops.max_unpool(pooled, argmax, index_format=index_format)


def test_positions_that_repeat_are_added():
    values = torch.tensor([1.0, 2.0]).reshape(1, 2, 1)
    argmax = torch.tensor([3, 3]).reshape(1, 2, 1)
    y = ops.max_unpool(values, argmax, index_format="plane")
    assert y.ravel().tolist() == [0, 0, 0, 3]


def test_an_index_into_padding_puts_its_value_nowhere():
    values = torch.tensor([1.0, 2.0]).reshape(1, 2, 1)
    # With 3 cells, windows of 3 and strides of 2, both ends are padded.
    argmax = torch.tensor([0, 2], dtype=torch.uint8).reshape(1, 2, 1)
    window = dict(pool_size=3, strides=2, padding="same", output_size=3)
    assert ops.max_unpool(values, argmax, **window).ravel().tolist() == [0] * 3


@pytest.mark.parametrize("index_format", FORMATS)
@pytest.mark.parametrize("window", WINDOWS)
def test_results_can_be_changed_in_place(index_format, window, x):
    options = dict(window, index_format=index_format)
    expected = x.clone().requires_grad_()
    both(expected, **options).relu().sum().backward()
    x.requires_grad_()
    pooled, argmax = ops.max_pool_with_argmax(x, **options)
    y = ops.max_unpool(pooled.mul_(2), argmax, like=x, **options).relu_()
    y.sum().backward()
    assert torch.equal(x.grad, expected.grad)
    argmax += 1
    by_func = torch.func.grad(lambda x: both(x, **options).relu_().sum())
    assert torch.equal(by_func(x.detach()), expected.grad)


@pytest.mark.parametrize("index_format", FORMATS)
@pytest.mark.parametrize("overlap", ["sum", "mean"])
def test_hessian(index_format, overlap):
    torch.manual_seed(0)
    x = torch.randn(1, 2, 4, 1, dtype=torch.float64)

    def cubes(x):
        return both(x, index_format=index_format, overlap=overlap).pow(3).sum()

    hessian = torch.func.hessian(cubes)(x).reshape(8, 8)
    # Maxima are doubled, which gives (2x)^3; other cells are 0.
    _, position = ops.max_pool_with_argmax(x, index_format="plane")
    expected = torch.zeros(8, dtype=torch.float64)
    expected[position.ravel()] = 48 * x.ravel()[position.ravel()]
    torch.testing.assert_close(hessian, torch.diag(expected))


@pytest.mark.parametrize("index_format", FORMATS)
@pytest.mark.parametrize("window", WINDOWS)
def test_a_batch_of_gradients(index_format, window, x):
    x.requires_grad_()
    y = both(x, index_format=index_format, **window)
    upstream = torch.randn(3, *y.shape)
    options = dict(retain_graph=True)
    [batched] = torch.autograd.grad(
        y, x, upstream, is_grads_batched=True, **options
    )
    for one, gradient in zip(upstream, batched, strict=True):
        assert torch.equal(
            torch.autograd.grad(y, x, one, **options)[0], gradient
        )


def test_large_tables_are_not_kept():
    tables = [
        native_torch._covered_offsets,
        native_torch._first_covered,
        native_torch._first_in_plane,
        native_torch._offset_table,
    ]
    # The wrapped function is the cache of the tables that are kept.
    for length, are_kept in ((2**15, False), (2**10, True)):
        x = torch.zeros(1, length, 1)
        for strides in (1, 2):
            y, argmax = ops.max_pool_with_argmax(x, 2, strides)
            ops.max_unpool(y, argmax, 2, strides)
        windows = lay_windows((length,), (2,), (2,), "valid")
        for table in tables:
            options = ("uint8",) if table is tables[-1] else ()
            made = [
                table(windows, *options, torch.device("cpu")) for _ in range(2)
            ]
            assert (made[0] is made[1]) == are_kept


ZEROS = [[-0.0, 0.0, 0.0, -0.0], [0.0, -0.0, -0.0, 0.0]]


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("index_format", FORMATS)
@pytest.mark.parametrize("window", WINDOWS)
def test_the_sign_of_zero_is_that_of_pytorch(
    index_format, window, dtype, monkeypatch
):
    """PyTorch's vectorized maximum returns the second of equal zeros."""
    x = torch.tensor(ZEROS).repeat(2, 33)[None, :, :, None]
    x = x.repeat(2, 1, 1, 16).to(getattr(torch, dtype)).requires_grad_()

    def results():
        pooled, argmax = ops.max_pool_with_argmax(
            x, index_format=index_format, **window
        )
        unpool = [
            ops.max_unpool(
                pooled,
                argmax,
                like=x,
                index_format=index_format,
                overlap=overlap,
                **window,
            )
            for overlap in ("sum", "mean")
        ]
        upstream = torch.full_like(pooled, -0.0)
        return pooled, *unpool, torch.autograd.grad(pooled, x, upstream)[0]

    native = results()
    monkeypatch.setattr(native_torch, "_are_readable", lambda *tensors: False)
    for ours, expected in zip(results(), native, strict=True):
        assert torch.equal(ours, expected)
        assert torch.equal(ours.signbit(), expected.signbit())
    assert native[0].signbit().any()
    assert not native[0].signbit().all()


@pytest.mark.parametrize("overlap", ["sum", "mean"])
def test_minus_zeros_on_one_cell_make_zero(overlap, monkeypatch):
    x = torch.tensor([-1.0, -0.0, -1.0]).reshape(1, 3, 1)
    assert not both(x, overlap, pool_size=2, strides=1).signbit().any()
    monkeypatch.setattr(native_torch, "_are_readable", lambda *tensors: False)
    assert not both(x, overlap, pool_size=2, strides=1).signbit().any()


@pytest.mark.parametrize("index_format", FORMATS)
@pytest.mark.parametrize("overlap", ["sum", "mean"])
def test_fake_tensors_have_shapes_alone(index_format, overlap):
    with FakeTensorMode():
        x = torch.empty(2, 6, 7, 3, requires_grad=True)
        y = both(x, index_format=index_format, overlap=overlap)
        [gradient] = torch.autograd.grad(y.sum(), x)
    assert y.shape == gradient.shape == x.shape


@pytest.mark.slow
@pytest.mark.parametrize("index_format", FORMATS)
@pytest.mark.parametrize("overlap", ["sum", "mean"])
@pytest.mark.parametrize("window", WINDOWS)
def test_compiled_in_one_graph(index_format, overlap, window, x):
    options = dict(window, index_format=index_format, overlap=overlap)
    compare_compiled(x, **options)


@pytest.mark.parametrize("index_format", ["window", "plane"])
def test_the_usual_window_compiles_in_one_graph(index_format, x):
    compare_compiled(x, index_format=index_format)


def test_planes_compile_to_calls_of_native_kernels(x, native_calls):
    torch.compiler.reset()

    def in_plane(x):
        return both(x, index_format="plane")

    compiled = torch.compile(
        torch.vmap(in_plane), fullgraph=True, backend="aot_eager"
    )
    images = torch.stack([x, x + 1, 2 * x])
    # PyTorch returns another index for several NaN, so its call shows.
    images[2, 0, :2, :2, 0] = torch.nan
    expected = torch.stack([in_plane(x) for x in images])
    native_calls.clear()
    torch.testing.assert_close(
        compiled(images), expected, rtol=0, atol=0, equal_nan=True
    )
    assert native_calls == [False]
    images = images[:2]
    compiled(images)
    assert native_calls == [False, True]


def compare_compiled(x, **options):
    torch.compiler.reset()
    x.requires_grad_()
    compiled = torch.compile(
        lambda x: both(x, **options), fullgraph=True, backend="aot_eager"
    )
    y, expected = compiled(x), both(x, **options)
    assert torch.equal(y, expected)
    gradients = (
        torch.autograd.grad(y.square().sum(), x)[0] for y in (y, expected)
    )
    assert torch.equal(*gradients)


@pytest.mark.slow
def test_inductor_gives_the_same(x):
    torch.compiler.reset()
    compiled = torch.compile(both, fullgraph=True)
    assert torch.equal(compiled(x), both(x))
