"""What an encoder does to height and width, in the order in which it does it.

Its graph is built again on other inputs, with the layers and weights that it
has. Each call of a layer extends the paths of its inputs: a path is what
happened to height and width between the image and a tensor.
"""

from typing import Any, NamedTuple

import keras
from keras import layers

from keras_deconv import _graphs, _shapes
from keras_deconv.layers import MaxPoolWithArgmax2D

Tensor = Any

MAX_POOLING = "max pooling"
AVERAGE_POOLING = "average pooling"
CONVOLUTION = "convolution"
DEPTHWISE = "depthwise convolution"
SEPARABLE = "separable convolution"
PADDING = "zero padding"
CROPPING = "cropping"

_SLIDING: dict[type, str] = {
    layers.MaxPooling2D: MAX_POOLING,
    layers.AveragePooling2D: AVERAGE_POOLING,
    layers.Conv2D: CONVOLUTION,
    layers.DepthwiseConv2D: DEPTHWISE,
    layers.SeparableConv2D: SEPARABLE,
}
_GLOBAL = (layers.GlobalAveragePooling2D, layers.GlobalMaxPooling2D)
# Layers that follow the rule of their kind, or keep the size.
_TRUSTED = (
    *_SLIDING,
    *(layers.ZeroPadding2D, layers.Cropping2D, MaxPoolWithArgmax2D),
    *(layers.BatchNormalization, layers.LayerNormalization),
    *(layers.Activation, layers.ReLU, layers.LeakyReLU, layers.PReLU),
    *(layers.Dropout, layers.SpatialDropout2D),
)
# What another layer is tried with where a size is not known. Primes, so
# that no stride divides them.
_TRIED = (97, 131)


class Change(NamedTuple):
    """One change of height and width."""

    kind: str
    name: str  # of the layer
    features: Tensor  # what was changed
    result: Tensor
    window: tuple[int, int] = (1, 1)  # of a dilated kernel, with its gaps
    strides: tuple[int, int] = (1, 1)
    padding: str = "valid"
    # Rows and columns added, or taken away, before and after.
    margins: tuple[tuple[int, int], tuple[int, int]] = ((0, 0), (0, 0))
    argmax: Tensor | None = None
    index_format: str = "window"

    @property
    def is_reduction(self) -> bool:
        """Whether it has strides."""
        return max(self.strides) > 1

    @property
    def remembers(self) -> bool:
        """Whether it left an index."""
        return self.argmax is not None

    def __str__(self) -> str:
        if self.kind in (PADDING, CROPPING):
            return f"{self.name} ({self.kind} {self.margins})"
        window = "x".join(map(str, self.window))
        strides = sorted(set(self.strides))
        text = "x".join(
            map(str, strides if len(strides) == 1 else self.strides)
        )
        return f"{self.name} ({self.kind} {window}/{text})"


class Path(NamedTuple):
    """What happened to height and width on the way to a tensor."""

    changes: tuple[Change, ...] = ()
    num_max_poolings: int = 0
    length: int = 0

    def longer(self, *changes: Change) -> "Path":
        """The path after one more layer."""
        num = sum(c.kind == MAX_POOLING and c.is_reduction for c in changes)
        return Path(
            self.changes + changes,
            self.num_max_poolings + num,
            self.length + 1,
        )


class Reading(NamedTuple):
    """An encoder, built again on other inputs."""

    features: Tensor
    changes: tuple[Change, ...]


def read(
    encoder: keras.Model,
    inputs: Tensor,
    *,
    with_index: bool = False,
) -> Reading:
    """Build an encoder on `inputs`, and find what changes height and width.

    Args:
        encoder: Graph with one input and one output.
        inputs: Symbolic images.
        with_index: Whether max pooling is to give its index.

    Raises:
        ValueError: If a change cannot be undone, or if the output has lost
            height and width.
    """
    reader = _Reader(with_index)
    reader.paths[id(inputs)] = Path()
    reader.kept.append(inputs)
    features = reader.open(encoder, inputs)
    path = reader.paths.get(id(features), Path())
    if isinstance(path, str):
        raise ValueError(
            "`encoder` must change height and width in one chain of poolings, "
            "convolutions, paddings and croppings, which a decoder can undo. "
            f"Received: encoder {encoder.name!r}, in which {path}. Cut the "
            "encoder before it: keras.Model(encoder.input, "
            "encoder.get_layer(name).output)."
        )
    return Reading(features, path.changes)


class _Reader:
    """Calls layers, and keeps the path of each tensor or why it has none."""

    def __init__(self, with_index: bool) -> None:
        self.with_index = with_index
        self.paths: dict[int, Path | str] = {}
        self.kept: list[Tensor] = []  # so that no id is used again
        self.poolings: dict[int, MaxPoolWithArgmax2D] = {}

    def open(self, model: keras.Model, inputs: Tensor) -> Tensor:
        """Call the layers of a graph one by one; the last one's output."""
        last = inputs

        def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
            nonlocal last
            last = self.call(layer, args, kwargs)
            return last

        # Neither compiled nor of a class with a constructor of its own.
        graph = keras.Model(model.inputs[0], model.outputs[0])
        keras.models.clone_model(
            graph,
            input_tensors=inputs,
            clone_function=lambda layer: layer,
            call_function=call,
        )
        # Nothing is as deep as the layer that makes the only output, so that
        # it is called last.
        return keras.tree.flatten(last)[0]

    def call(self, layer: Any, args: Any, kwargs: Any) -> Any:
        if self._is_opened(layer):
            # Keras sets `training` of all layers alike when a model is called.
            return self.open(layer, _images((args, kwargs))[0])
        argmax = None
        if self.with_index and _is_max_pooling(layer):
            result, argmax = self._with_index(layer)(*args, **kwargs)
        elif type(layer) is MaxPoolWithArgmax2D:
            outputs = layer(*args, **kwargs)
            result, argmax = outputs
            self._keep([argmax], "an index is not a feature map")
            self._keep(
                [result], self._path(layer, args, kwargs, result, argmax)
            )
            return outputs
        else:
            result = layer(*args, **kwargs)
        for one in keras.tree.flatten(result):
            self._keep([one], self._path(layer, args, kwargs, one, argmax))
        return result

    def _is_opened(self, layer: Any) -> bool:
        """Whether a model in the encoder is read, and not called as a layer."""
        return (
            _graphs.is_graph(layer)
            and len(layer.inputs) == len(layer.outputs) == 1
            and _changes_size(layer)
        )

    def _with_index(self, layer: layers.MaxPooling2D) -> MaxPoolWithArgmax2D:
        """The pooling with the same arguments that gives its index, too."""
        if id(layer) not in self.poolings:
            self.poolings[id(layer)] = MaxPoolWithArgmax2D(
                layer.pool_size,
                layer.strides,
                layer.padding,
                layer.data_format,
                dtype=layer.dtype_policy,
                name=layer.name,
            )
        return self.poolings[id(layer)]

    def _keep(self, tensors: list[Tensor], path: Path | str) -> None:
        self.kept += tensors
        self.paths.update({id(tensor): path for tensor in tensors})

    def _path(
        self, layer: Any, args: Any, kwargs: Any, result: Tensor, argmax: Any
    ) -> Path | str:
        """The path of what a layer gives."""
        if len(result.shape) != 4 or isinstance(layer, _GLOBAL):
            return f"{layer.name!r} leaves no height and width"
        images = _images((args, kwargs))
        known = [
            self.paths.get(id(x), "an input is a constant") for x in images
        ]
        found = [
            (x, path)
            for x, path in zip(images, known, strict=True)
            if isinstance(path, Path)
        ]
        if not found:
            return next(
                (path for path in known if isinstance(path, str)),
                f"{layer.name!r} makes height and width of what has none",
            )
        if len(found) > 1:
            # What is broadcast is smaller.
            size = result.shape[1:3]
            same = [one for one in found if _may_be_equal(one[0], size)]
            found = same or found
        features, path = max(
            found, key=lambda one: (one[1].num_max_poolings, -one[1].length)
        )
        change = _change_of(layer, features, result, argmax)
        if isinstance(change, str):
            return change
        before = tuple(map(_tried, features.shape[1:3], _TRIED))
        try:
            after = self._size_after(layer, args, kwargs, features, result)
        except Exception as error:  # whatever a layer of others raises
            return (
                f"{layer.name!r} ({type(layer).__name__}) does not say what "
                f"it makes of size {before} ({error}), so that the encoder "
                "has to be built for images of a known size"
            )
        if after not in (None, _expected(change, before)):
            return (
                f"{layer.name!r} ({type(layer).__name__}) makes size "
                f"{after} of {before} in a way that is not known here"
            )
        return path.longer(*([change] if change else []))

    def _size_after(
        self, layer: Any, args: Any, kwargs: Any, features: Any, result: Any
    ) -> tuple[int, ...] | None:
        """What a layer makes of a size; None where its kind tells it."""
        if type(layer) in _TRUSTED:
            return None
        if None not in features.shape[1:3]:
            return tuple(result.shape[1:3])
        size = map(_tried, features.shape[1:3], _TRIED)
        tried = keras.KerasTensor((1, *size, features.shape[3]), features.dtype)
        if len(_images((args, kwargs))) != 1:
            return None
        args, kwargs = keras.tree.map_structure(
            lambda x: tried if x is features else x, (args, kwargs)
        )
        spec = layer.compute_output_spec(*args, **kwargs)
        return tuple(keras.tree.flatten(spec)[0].shape[1:3])


def _images(arguments: Any) -> list[Tensor]:
    """The feature maps among the arguments of a call."""
    return [
        x
        for x in keras.tree.flatten(arguments)
        if isinstance(x, keras.KerasTensor) and len(x.shape) == 4
    ]


def _may_be_equal(tensor: Tensor, size: Any) -> bool:
    pairs = zip(tensor.shape[1:3], size, strict=True)
    return all(n is None or m is None or n == m for n, m in pairs)


def _is_max_pooling(layer: Any) -> bool:
    # A subclass may pool something else.
    return type(layer) is layers.MaxPooling2D and _shrinks(layer)


def _shrinks(layer: Any) -> bool:
    is_valid = layer.padding == "valid"
    return max(layer.strides) > 1 or (is_valid and max(layer.pool_size) > 1)


def _changes_size(model: keras.Model) -> bool:
    """Whether a model in the encoder has something to undo."""
    kinds = (*_SLIDING, layers.ZeroPadding2D, layers.Cropping2D)
    for layer in _graphs.layers_of(model):
        if type(layer) in (layers.ZeroPadding2D, layers.Cropping2D):
            return True
        if isinstance(layer, kinds) and _window_of(layer):
            return True
    shapes = model.inputs[0].shape, model.outputs[0].shape
    return len(shapes[0]) == len(shapes[1]) == 4 and not _may_be_equal(
        model.inputs[0], shapes[1][1:3]
    )


def _window_of(layer: Any) -> tuple[str, Any, Any, str] | None:
    """Kind, window, strides and padding, if the layer makes maps smaller."""
    if isinstance(layer, MaxPoolWithArgmax2D):
        return MAX_POOLING, layer.pool_size, layer.strides, layer.padding
    kind = next(
        (k for cls, k in _SLIDING.items() if isinstance(layer, cls)), None
    )
    if kind is None:
        return None
    if kind in (MAX_POOLING, AVERAGE_POOLING):
        window = tuple(layer.pool_size)
    else:
        kernel = zip(layer.kernel_size, layer.dilation_rate, strict=True)
        window = tuple((k - 1) * d + 1 for k, d in kernel)
    strides = tuple(layer.strides)
    if max(strides) == 1 and (layer.padding == "same" or max(window) == 1):
        return None
    return kind, window, strides, layer.padding


def _change_of(
    layer: Any, features: Tensor, result: Tensor, argmax: Tensor | None
) -> Change | str | None:
    """How a layer changes height and width; None: it does not, str: why not."""
    if getattr(layer, "data_format", None) == "channels_first":
        return (
            f"{layer.name!r} has data_format='channels_first', where the "
            "decoder takes 'channels_last' only"
        )
    start: dict[str, Any] = dict(
        name=layer.name, features=features, result=result
    )
    if isinstance(layer, layers.ZeroPadding2D):
        return Change(PADDING, **start, margins=layer.padding)
    if isinstance(layer, layers.Cropping2D):
        return Change(CROPPING, **start, margins=layer.cropping)
    window = _window_of(layer)
    if window is None:
        return None
    kind, size, strides, padding = window
    return Change(
        kind,
        **start,
        window=size,
        strides=strides,
        padding=padding,
        argmax=argmax,
        index_format=getattr(layer, "index_format", "window"),
    )


def _tried(length: int | None, instead: int) -> int:
    return instead if length is None else length


def _expected(change: Change | None, size: tuple[int, ...]) -> tuple:
    """The size after a change by its rule."""
    if change is None:
        return size
    if change.kind in (PADDING, CROPPING):
        sign = 1 if change.kind == PADDING else -1
        pairs = zip(size, change.margins, strict=True)
        return tuple(n + sign * sum(pair) for n, pair in pairs)
    window = zip(size, change.window, change.strides, strict=True)
    return tuple(
        _shapes.pooled_length(n, k, s, change.padding) for n, k, s in window
    )
