"""Functions that write, run and inspect exported models of each format."""

import functools
import importlib
import warnings

import keras
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from keras_deconv import export

# Each function exports a model to an empty folder, and returns a function that
# runs the file on images.


def run_keras(model, folder):
    model.save(folder / "model.keras")
    loaded = keras.saving.load_model(folder / "model.keras", safe_mode=True)
    return functools.partial(loaded.predict, verbose=0)


def run_saved_model(model, folder):
    export.to_saved_model(model, folder / "saved")
    loaded = tf.saved_model.load(folder / "saved")
    logits = loaded.signatures["logits"]
    return lambda images: logits(images=tf.constant(images))["logits"].numpy()


def run_tflite(model, folder, *arguments, **options):
    file = folder / "model.tflite"
    export.to_tflite(model, file, *arguments, **options)
    return in_litert(file)


def in_litert(file):
    litert = missing_is_skipped("ai_edge_litert.interpreter", "litert")
    interpreter = litert.Interpreter(str(file))
    run = interpreter.get_signature_runner("serving_default")
    return lambda images: run(images=images)["logits"]


def run_onnx(model, folder, **options):
    missing_is_skipped("tf2onnx", "onnx")
    runtime = missing_is_skipped("onnxruntime", "onnx")
    export.to_onnx(model, folder / "model.onnx", **options)
    session = runtime.InferenceSession(str(folder / "model.onnx"))
    [inputs], [outputs] = session.get_inputs(), session.get_outputs()
    return lambda x: session.run([outputs.name], {inputs.name: x})[0]


def in_openvino(model):
    """Return a function that runs a file or converted model in full precision.

    By default, OpenVINO computes in half precision on CPUs that support it.
    """
    openvino = missing_is_skipped("openvino", "openvino")
    compiled = openvino.Core().compile_model(
        model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    return lambda images: compiled(images)[0]


def missing_is_skipped(package, extra):
    with warnings.catch_warnings():
        # Imports of these packages print warnings.
        warnings.simplefilter("ignore")
        try:
            return importlib.import_module(package)
        except ImportError:
            pytest.skip(f'needs pip install "keras-deconv[{extra}]"')


# Contents of the files.


def foreign_ops(folder):
    """Return operations that TensorFlow lacks, or that call Python."""
    core = {name for name in dir(tf.raw_ops) if name[0] != "_"}
    core -= {"PyFunc", "PyFuncStateless", "EagerPyFunc"}
    return {node.op for node in nodes(folder)} - core


def must_compile(folder):
    """Return functions that require XLA."""
    saved = read_saved_model(folder)
    return [
        function.signature.name
        for graph in saved.meta_graphs
        for function in graph.graph_def.library.function
        if function.attr["_XlaMustCompile"].b
    ] + [n.name for n in nodes(folder) if n.attr["_XlaMustCompile"].b]


def nodes(folder):
    for graph in read_saved_model(folder).meta_graphs:
        yield from graph.graph_def.node
        for function in graph.graph_def.library.function:
            yield from function.node_def


def read_saved_model(folder):
    saved = saved_model_pb2.SavedModel()
    saved.ParseFromString((folder / "saved_model.pb").read_bytes())
    return saved


def flex_and_custom_ops(file):
    litert = missing_is_skipped("ai_edge_litert.interpreter", "litert")
    interpreter = litert.Interpreter(str(file))
    names = {op["op_name"] for op in interpreter._get_ops_details()}
    assert names
    # Custom operations do not have names of built-in ones.
    return {n for n in names if n.startswith("Flex") or n != n.upper()}


def foreign_domains(file):
    onnx = missing_is_skipped("onnx", "onnx")
    loaded = onnx.load(file)
    onnx.checker.check_model(loaded)
    return {node.domain for node in loaded.graph.node} - {"", "ai.onnx"}
