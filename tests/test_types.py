"""What mypy and editors see of the public names."""

import inspect
import subprocess
import sys

import pytest
from conftest import REPOSITORY

import dmr_gluon

GOOD = """
import dmr_gluon
from dmr_gluon import Backbone, MergeAndRun, Recipe, RunOptions, model_zoo

spec = dmr_gluon.network("cifar_dmrnet56", classes=10, branches=3)
reveal_type(spec.depth)
net = dmr_gluon.get_model("cifar_dmrnet56", pretrained="0123abcd", root="store")
reveal_type(net)
reveal_type(net.classes)
reveal_type(model_zoo.cifar_dmrnet56(classes=100))
backbone = Backbone(net, strides=(1, 2, 4))
block = MergeAndRun(16, 1, 16, branches=2, layers=4)


def train(recipe: Recipe) -> None:
    reveal_type(dmr_gluon.fit(recipe, RunOptions("data/mine", gpus="0-7")))
    reveal_type(dmr_gluon.export("run", "bundle")["forms"])
    reveal_type(dmr_gluon.load_bundle("bundle").classes)
    reveal_type(dmr_gluon.publish("run", "store"))
"""
#: What is wrong in each line, as mypy calls it.
BAD = {
    'dmr_gluon.network("cifar_dmrnet56", classes="ten")': "arg-type",
    "dmr_gluon.get_model(56, pretrained=False)": "arg-type",
    'dmr_gluon.Backbone("cifar_dmrnet56")': "arg-type",
    "dmr_gluon.MergeAndRun(16, 1)": "call-arg",
    'dmr_gluon.RunOptions(data_dir="data", gpus=0)': "arg-type",
    'dmr_gluon.fit("cifar", dmr_gluon.RunOptions("data"))': "arg-type",
    'dmr_gluon.export("run")': "call-arg",
    'dmr_gluon.load_bundle("bundle").labels': "attr-defined",
    "dmr_gluon.evalaute": "attr-defined",
}


@pytest.fixture(scope="module")
def mypy(tmp_path_factory):
    """What mypy prints of two programs that use the package, a right one and a wrong one."""
    folder = tmp_path_factory.mktemp("programs")
    (folder / "good.py").write_text(GOOD)
    (folder / "bad.py").write_text("\n".join(["import dmr_gluon", *BAD]))
    command = [sys.executable, "-m", "mypy", "--ignore-missing-imports", "--config-file="]
    command += ["--python-version", "3.9"]  # names types as it does from there on
    done = subprocess.run(
        [*command, "--no-incremental", "good.py", "bad.py"],
        cwd=folder,
        env={"MYPYPATH": str(REPOSITORY), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )
    assert not done.stderr, done.stderr
    return done.stdout.splitlines()


def test_a_program_that_is_right_passes_and_its_types_are_known(mypy):
    lines = [line for line in mypy if line.startswith("good.py")]
    revealed = [line.split("is ")[1].strip('"') for line in lines if "Revealed" in line]
    assert revealed == [
        "builtins.int",
        "dmr_gluon.models.network.Network",
        "builtins.list[builtins.str]",
        "dmr_gluon.models.network.Network",
        "Union[dmr_gluon.runs.reader.Run, None]",
        "Any",
        "builtins.list[builtins.str]",
        "tuple[builtins.dict[builtins.str, Any], builtins.bool]",
    ]
    assert not [line for line in lines if ": error:" in line]


def test_mistakes_are_found(mypy):
    lines = [line for line in mypy if line.startswith("bad.py") and ": error:" in line]
    found = {int(line.split(":")[1]): line.rsplit("[")[-1] for line in lines}
    assert found == {n: f"{kind}]" for n, kind in enumerate(BAD.values(), start=2)}


def _signatures():
    for name in dmr_gluon._MODULE_OF:
        thing = getattr(dmr_gluon, name)
        if not inspect.isclass(thing):
            yield name, thing
            continue
        for member, function in vars(thing).items():
            function = getattr(function, "fget", None) or getattr(function, "__func__", function)
            ours = inspect.isfunction(function) and function.__module__.startswith("dmr_gluon")
            # Gluon's own protocol, and what dataclasses write.
            if ours and not member.startswith("_") and member not in ("hybrid_forward", "cast"):
                yield f"{name}.{member}", function
        if "__init__" in vars(thing) and not hasattr(thing, "__dataclass_fields__"):
            yield f"{name}.__init__", thing.__init__


@pytest.mark.parametrize("name, function", _signatures())
def test_public_signatures_have_types(name, function):
    signature = inspect.signature(function)
    empty = inspect.Parameter.empty
    without = [
        parameter.name
        for parameter in signature.parameters.values()
        if parameter.annotation is empty and parameter.name not in ("self", "cls")
    ]
    assert not without and signature.return_annotation is not empty


def test_what_mypy_sees_is_what_there_is():
    """The imports for mypy name what __getattr__ finds, from where it finds it."""
    text = (REPOSITORY / "dmr_gluon" / "__init__.py").read_text()
    seen = {}
    for line in text.split("if TYPE_CHECKING")[1].split("\nelse:")[0].splitlines():
        if " import " in line:
            module, _, names = line.strip().partition(" import ")
            name, _, again = names.partition(" as ")
            assert name == again
            seen[name] = module[len("from ") :]
    for name, module in dmr_gluon._MODULES.items():
        assert seen.pop(name) == (module.rpartition(".")[0] or ".")
    assert seen == dmr_gluon._MODULE_OF
