"""The inventory of public names: what is not in it is not promised.

After a change that is meant, write the inventory again and commit it with the
change: `python -m tests.test_public_api`.
"""

import importlib
import inspect
import pkgutil

import keras_deconv
from tests.paths import TESTS

INVENTORY = TESTS / "public_api.txt"


# Methods that Keras asks for, and calls.
OF_KERAS = (
    "compute_output_shape",
    "compute_output_spec",
    "from_config",
    "get_config",
)
# Attributes that tensorflow-datasets adds to a class when a builder is created.
OF_DATASETS = ("pkg_dir_path",)


def public_modules():
    """The package, and the modules and packages in it that users import."""
    found = pkgutil.iter_modules(keras_deconv.__path__, "keras_deconv.")
    names = (module.name for module in found)
    public = (name for name in names if not name.split(".")[1].startswith("_"))
    return ["keras_deconv", *public]


def described(name, value):
    """Lines for a public name: its signature, and those of public methods."""
    if inspect.ismodule(value):
        return [f"{name}: module"]
    if not callable(value):
        return [f"{name} = {value!r}"]
    members = {}
    for base in reversed(value.__mro__) if inspect.isclass(value) else ():
        if base.__module__.startswith("keras_deconv"):
            members |= vars(base)
    return [
        f"{name}{_signature(value)}",
        *(
            f"{name}.{member}{_kind(found)}"
            for member, found in members.items()
            if not member.startswith("_")
            and member not in OF_KERAS + OF_DATASETS
        ),
    ]


def _kind(member):
    """How a member of a class is used."""
    if isinstance(member, classmethod | staticmethod):
        return _signature(member.__func__)
    return _signature(member) if inspect.isfunction(member) else ""


def _signature(function):
    """Names and defaults; annotations differ between versions of Python."""
    signature = inspect.signature(function)
    parameters = [
        parameter.replace(annotation=inspect.Parameter.empty)
        for parameter in signature.parameters.values()
    ]
    return str(
        signature.replace(
            parameters=parameters, return_annotation=inspect.Signature.empty
        )
    )


def inventory():
    lines = []
    for name in public_modules():
        module = importlib.import_module(name)
        for one in module.__all__:
            lines += described(f"{name}.{one}", getattr(module, one))
    return sorted(lines)


def test_public_names_are_those_of_the_inventory():
    expected = INVENTORY.read_text().splitlines()
    assert inventory() == expected, (
        "The public API differs from tests/public_api.txt. If that is meant: "
        "python -m tests.test_public_api"
    )


def test_a_removed_name_and_a_changed_signature_are_seen(monkeypatch):
    expected = inventory()
    monkeypatch.setattr(keras_deconv.ops, "max_unpool", lambda values: values)
    assert inventory() != expected
    monkeypatch.undo()
    monkeypatch.setattr(
        keras_deconv.metrics, "__all__", keras_deconv.metrics.__all__[:-1]
    )
    assert inventory() != expected
    for owner, member in (
        (keras_deconv.distribution.Replicas, "from_environment"),
        (keras_deconv.distribution.Replicas, "is_chief"),
        (keras_deconv.data.DataReport, "ok"),
    ):
        monkeypatch.undo()
        monkeypatch.delattr(owner, member)
        assert inventory() != expected, member
    monkeypatch.undo()
    monkeypatch.setattr(keras_deconv.data, "CAMVID_SEGNET_CLASS_WEIGHTS", (1,))
    assert inventory() != expected


if __name__ == "__main__":
    INVENTORY.write_text("".join(f"{line}\n" for line in inventory()))
