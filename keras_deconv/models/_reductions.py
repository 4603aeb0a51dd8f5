"""The changes of height and width in an encoder, in their order.

The graph of the encoder is rebuilt on other inputs, with its own layers and
weights. Each call of a layer extends the paths of its inputs. A path lists the
changes of height and width between the image and a tensor.
"""

import collections
import re
from collections.abc import Callable, Sequence
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
# Sizes to try if that of the image is unknown. They are primes, so that they
# are not multiples of strides.
_TRIED = (97, 131)


class Change(NamedTuple):
    """One change of height and width."""

    kind: str
    name: str  # of the layer
    features: Tensor  # the input of the layer
    result: Tensor
    window: tuple[int, int] = (1, 1)  # including the gaps of dilation
    strides: tuple[int, int] = (1, 1)
    padding: str = "valid"
    # Rows and columns that are added or removed, before and after.
    margins: tuple[tuple[int, int], tuple[int, int]] = ((0, 0), (0, 0))
    argmax: Tensor | None = None
    index_format: str = "window"
    is_of_image: bool = False  # whether it precedes all layers with weights

    @property
    def is_reduction(self) -> bool:
        """Whether the layer has strides."""
        return max(self.strides) > 1

    @property
    def remembers(self) -> bool:
        """Whether the layer returned an index."""
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
    """The changes of height and width between the image and a tensor."""

    changes: tuple[Change, ...] = ()
    num_max_poolings: int = 0
    length: int = 0
    has_features: bool = False  # whether it includes a layer with weights

    def longer(self, layer: Any, *changes: Change) -> "Path":
        """Return the path after another layer."""
        num = sum(c.kind == MAX_POOLING and c.is_reduction for c in changes)
        return Path(
            self.changes + changes,
            self.num_max_poolings + num,
            self.length + 1,
            self.has_features or _makes_features(layer),
        )

    @property
    def rank(self) -> tuple[bool, int, int]:
        """The order of paths: where several meet, the highest is followed."""
        return self.has_features, self.num_max_poolings, -self.length


class Reading(NamedTuple):
    """The rebuilt output of an encoder, and its changes."""

    features: Tensor
    changes: tuple[Change, ...]


def read(
    encoder: keras.Model,
    inputs: Tensor,
    *,
    with_index: bool = False,
) -> Reading:
    """Rebuild an encoder on `inputs`, and find its changes of height and width.

    Args:
        encoder: Graph with one input and one output.
        inputs: Symbolic images.
        with_index: Whether max pooling must return its index.

    Raises:
        ValueError: If a change cannot be undone, or if the output does not have
            height and width.
    """
    reader = _Reader(with_index)
    reader.start(inputs)
    features = reader.open(encoder, inputs)
    path = reader.paths.get(id(features), Path())
    if isinstance(path, str):
        raise ValueError(
            "`encoder` must change height and width only by a chain of "
            "poolings, convolutions, paddings and croppings, so that a decoder "
            f"can undo it. Received: encoder {encoder.name!r}, in which "
            f"{path}. Cut the encoder before this layer: "
            "keras.Model(encoder.input, encoder.get_layer(name).output)."
        )
    return Reading(features, path.changes)


class _Reader:
    """Recorder of calls of layers and of the paths of their tensors."""

    def __init__(self, with_index: bool) -> None:
        self.with_index = with_index
        self.paths: dict[int, Path | str] = {}
        # The shapes of the tensors for an image of known size.
        self.tried: dict[int, keras.KerasTensor] = {}
        self.kept: list[Tensor] = []  # so that ids stay unique
        self.poolings: dict[int, MaxPoolWithArgmax2D] = {}
        self.names: dict[str, Any] = {}
        self.num_calls = collections.Counter[str]()

    def start(self, image: Tensor) -> None:
        size = map(_tried, image.shape[1:3], _TRIED)
        shape = (image.shape[0], *size, image.shape[3])
        self.paths[id(image)] = Path()
        self.tried[id(image)] = keras.KerasTensor(shape, image.dtype)
        self.kept.append(image)

    def open(self, model: keras.Model, inputs: Tensor) -> Tensor:
        """Call the layers of a graph one by one, and return its output."""
        return rebuilt(
            model,
            inputs,
            lambda layer, *args, **kwargs: self.call(layer, args, kwargs),
        )

    def call(self, layer: Any, args: Any, kwargs: Any) -> Any:
        self._check_name(layer)
        if self._is_opened(layer):
            # Keras sets `training` for all layers when a model is called.
            return self.open(layer, _images((args, kwargs))[0])
        argmax = None
        if self.with_index and _is_max_pooling(layer):
            result, argmax = self._with_index(layer)(*args, **kwargs)
            outputs = result
        elif type(layer) is MaxPoolWithArgmax2D:
            outputs = layer(*args, **kwargs)
            result, argmax = outputs
            self._keep(argmax, "an index is not a feature map")
            self.tried[id(argmax)] = argmax
        else:
            outputs = result = layer(*args, **kwargs)
        self.num_calls[layer.name] += 1
        results = keras.tree.flatten(result)
        known, why = self._try(layer, args, kwargs, results)
        for one, tried in zip(results, known, strict=True):
            if tried is not None:
                self.tried[id(one)] = tried
            self._keep(one, self._path(layer, args, kwargs, one, argmax, why))
        return outputs

    def _check_name(self, layer: Any) -> None:
        """Reject names that would cause an unclear error in Keras."""
        same = self.names.setdefault(layer.name, layer)
        if same is not layer:
            raise ValueError(
                "`encoder` must have layers with different names, also in "
                "models inside it. Received: two layers called "
                f"{layer.name!r}. Give them different names when you build the "
                "encoder."
            )
        if re.fullmatch(r"image|logits|decoder\d+_.*", layer.name):
            raise ValueError(
                "`encoder` must not use the names 'image', 'logits' and "
                "'decoder1_...', which the network needs. Received: a layer "
                f"called {layer.name!r}. Give it another name."
            )

    def _is_opened(self, layer: Any) -> bool:
        """Whether an inner model is read layer by layer."""
        return (
            _graphs.is_graph(layer)
            and len(layer.inputs) == len(layer.outputs) == 1
            and len(layer.inputs[0].shape) == 4
            and _changes_size(layer)
        )

    def _with_index(self, layer: layers.MaxPooling2D) -> MaxPoolWithArgmax2D:
        """Return a pooling with the same arguments and an index."""
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

    def _keep(self, tensor: Tensor, path: Path | str) -> None:
        self.kept.append(tensor)
        self.paths[id(tensor)] = path

    def _try(
        self, layer: Any, args: Any, kwargs: Any, results: list[Tensor]
    ) -> tuple[Sequence[keras.KerasTensor | None], str]:
        """Return the outputs for an image of known size, or the problem."""
        if all(None not in one.shape[1:] for one in results):
            return results, ""
        given = keras.tree.map_structure(
            lambda x: self.tried.get(id(x), x) if _is_tensor(x) else x,
            (args, kwargs),
        )
        if any(_is_tensor(x) and None in x.shape[1:] for x in _flat(given)):
            return [None] * len(results), "an input has an unknown size"
        try:
            spec = layer.compute_output_spec(*given[0], **given[1])
        except Exception as error:  # custom layers may raise any error
            return [None] * len(results), str(error)
        return keras.tree.flatten(spec)[: len(results)], ""

    def _path(
        self,
        layer: Any,
        args: Any,
        kwargs: Any,
        result: Tensor,
        argmax: Any,
        why: str,
    ) -> Path | str:
        """Return the path of a layer's output, or why there is no path."""
        if len(result.shape) != 4 or isinstance(layer, _GLOBAL):
            return f"{layer.name!r} removes height and width"
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
                f"the inputs of {layer.name!r} do not have height and width",
            )
        after = self._size(result)
        if after is None:
            return (
                f"the output size of {layer.name!r} ({type(layer).__name__}) "
                f"for another input size is unknown ({why}), so the encoder "
                "must be built for images of a known size"
            )
        if len(found) > 1:
            # Smaller inputs are broadcast.
            same = [one for one in found if self._size(one[0]) == after]
            found = same or found
        features, path = max(found, key=lambda one: one[1].rank)
        change = _change_of(layer, features, result, argmax)
        if isinstance(change, str):
            return change
        before = self._size(features)
        if before is None or after != _expected(change, before):
            return (
                f"{layer.name!r} ({type(layer).__name__}) changes the size "
                f"from {before} to {after} in a way that is not supported"
            )
        if change is None:
            return path.longer(layer)
        count = self.num_calls[layer.name]
        name = layer.name if count == 1 else f"{layer.name}_{count}"
        change = change._replace(name=name, is_of_image=not path.has_features)
        return path.longer(layer, change)

    def _size(self, tensor: Tensor) -> tuple[int, ...] | None:
        """Return height and width for an image of known size."""
        tried = self.tried.get(id(tensor))
        return None if tried is None else tuple(tried.shape[1:3])


def rebuilt(
    model: keras.Model, inputs: Tensor, call: Callable[..., Any]
) -> Tensor:
    """Call the layers of a graph on other inputs, and return its output.

    Args:
        model: Graph; only its first input and output are used.
        inputs: Symbolic tensor.
        call: Function that takes a layer and its arguments, and calls it.
    """
    end = layers.Identity()
    output = inputs

    def call_and_note(layer: Any, *args: Any, **kwargs: Any) -> Any:
        nonlocal output
        if layer is end:
            output = args[0]
            return output
        return call(layer, *args, **kwargs)

    # A plain model: `clone_model` would copy the compilation and call custom
    # constructors.
    keras.models.clone_model(
        keras.Model(model.inputs[0], end(model.outputs[0])),
        input_tensors=inputs,
        clone_function=lambda layer: layer,
        call_function=call_and_note,
    )
    return output


def _makes_features(layer: Any) -> bool:
    """Whether the output of a layer is not an image anymore."""
    # An operation of `keras.ops` does not have this attribute.
    has_weights = bool(getattr(layer, "weights", ()))
    return has_weights and not isinstance(layer, layers.Normalization)


def _is_tensor(value: Any) -> bool:
    return isinstance(value, keras.KerasTensor)


def _flat(arguments: Any) -> list[Any]:
    flat: list[Any] = keras.tree.flatten(arguments)
    return flat


def _images(arguments: Any) -> list[Tensor]:
    """Return the feature maps among the arguments of a call."""
    return [x for x in _flat(arguments) if _is_tensor(x) and len(x.shape) == 4]


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
    """Whether an inner model changes height or width."""
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
    """Return kind, window, strides and padding of a layer that reduces size."""
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
    """Return a layer's change of size, None without one, or why it fails."""
    if getattr(layer, "data_format", None) == "channels_first":
        return (
            f"{layer.name!r} has data_format='channels_first', while the "
            "decoder supports only 'channels_last'"
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
    """Return the size after a change, by its arguments."""
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
