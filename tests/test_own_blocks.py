"""Blocks, mappings and networks of users: trained, killed, resumed, exported and compared."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
from conftest import REPOSITORY

import dmr_gluon
from dmr_gluon import DMRError, Preparation, RunOptions, export, fit, get_model, get_spec, publish
from dmr_gluon.cli import main as cli
from dmr_gluon.compare.comparison import cells_of
from dmr_gluon.models import blocks as models_blocks
from dmr_gluon.models import names, network, spec
from dmr_gluon.models.custom import CustomNetwork
from dmr_gluon.runs import log as runlog
from dmr_gluon.runs import plugins
from dmr_gluon.runs.reader import read_run
from dmr_gluon.runs.trained_network import load_run
from dmr_gluon.runtime import mx

nn = mx.gluon.nn
STEPS = ["--batch-size", "16", "--steps", "6", "--checkpoint-steps", "1"]


def from_docs(name):
    """Return the file that docs/own_blocks.md shows under a name."""
    text = (REPOSITORY / "docs" / "own_blocks.md").read_text()
    (code,) = re.findall(rf"```python\n# {name}\n(.*?)```", text, re.S)
    assert len(code.splitlines()) < 40
    return code


@pytest.fixture(autouse=True)
def registered():
    """Forget what a test registers."""
    tables = [spec.BLOCK_KINDS, spec.FAMILIES, spec.MAPPINGS, network.BLOCKS, names.BUILDERS]
    tables.append(plugins._IMPORTED)
    before = [dict(table) for table in tables]
    yield
    for table, content in zip(tables, before):
        table.clear()
        table.update(content)


def hashes(run):
    events = runlog.read(f"{run}/log.jsonl")
    return [event["parameters_sha256"] for event in events if event["event"] == "epoch"]


def dmr(*arguments):
    cli._main([str(one) for one in arguments])


class TestTheStudentsJob:
    """Squeeze-and-excitation, as docs/own_blocks.md has it, by shell commands alone."""

    MODEL = "cifar_se_merge_and_run8"

    def train(self, digits, run, *more):
        script = str(REPOSITORY / "train_cifar.py")
        return [sys.executable, script, "--data-dir", digits, "--run-dir", run, *more]

    def test_from_a_file_to_a_bundle(self, digits, tmp_path, command, capfd):
        (tmp_path / "my_blocks.py").write_text(from_docs("my_blocks.py"))
        flags = ["--model", self.MODEL, "--plugin", "my_blocks.py", "--cpus", "2", *STEPS]
        subprocess.run(
            self.train(digits, "whole", *flags), cwd=tmp_path, check=True, capture_output=True
        )

        # Killed after a few steps, and resumed: the same bits.
        killed = subprocess.Popen(self.train(digits, "run", *flags), cwd=tmp_path)
        while not list((tmp_path / "run" / "checkpoints").glob("*-step-000002.npz")):
            assert killed.poll() is None
            time.sleep(0.01)
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        assert not hashes(tmp_path / "run")
        resume = self.train(digits, "run", "--resume")
        done = subprocess.run(resume, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert hashes(tmp_path / "run") == hashes(tmp_path / "whole") != []

        # Evaluated, exported with other forms, and compared.
        run, out = tmp_path / "run", tmp_path / "bundle"
        capfd.readouterr()
        dmr("eval", run)
        assert f"test error {read_run(run).final('test_error'):.2f}%" in capfd.readouterr().out
        dmr("export", run, "--out", out, "--forms", "folded,fused,onnx")
        dmr("compare", run, tmp_path / "whole")
        assert self.MODEL in capfd.readouterr().out
        dmr("predict", out, out / "example.png")

        # Plain MXNet, in a process without this package.
        image = np.random.RandomState(0).standard_normal((2, 3, 32, 32)).astype(np.float32)
        np.save(tmp_path / "x.npy", image)
        code = (
            "import sys, mxnet as mx, numpy as np\n"
            "net = mx.gluon.SymbolBlock.imports('bundle/model-symbol.json', ['data'],"
            " 'bundle/model-0000.params')\n"
            "np.save('y.npy', net(mx.nd.array(np.load('x.npy'))).asnumpy())\n"
            "assert 'dmr_gluon' not in sys.modules\n"
        )
        done = command("-c", code, cwd=tmp_path, PYTHONPATH="")
        assert done.returncode == 0, done.stderr
        own = load_run(run)(mx.nd.array(image)).asnumpy()
        np.testing.assert_allclose(np.load(tmp_path / "y.npy"), own, rtol=1e-4, atol=1e-5)

        # Changed or gone: refused in one line, and the run's copy is the way out.
        plugins._IMPORTED.clear()
        with open(tmp_path / "my_blocks.py", "a") as file:
            file.write("# changed\n")
        with pytest.raises(DMRError, match="my_blocks.py, which has changed since; name the"):
            dmr("eval", run)
        os.remove(tmp_path / "my_blocks.py")
        with pytest.raises(DMRError, match="which is gone; .* --plugin .*run/my_blocks.py$"):
            dmr("export", run, "--out", tmp_path / "again")
        dmr("eval", run, "--plugin", run / "my_blocks.py")
        assert self.MODEL not in [cell.network for cell in cells_of(read_run(run).setup)]

    def test_the_refusal_is_one_line(self, digits, tmp_path, command):
        (tmp_path / "broken.py").write_text("import dmr_gluon\n\n1 / 0\n")
        where = ["--data-dir", digits, "--run-dir", tmp_path / "run", "--plugin"]
        for name, words in (
            ("broken.py", "ZeroDivisionError: division by zero (broken.py, line 3)"),
            ("gone.py", "no such file or module"),
            ("not_a.module", "no such file or module"),
        ):
            done = command(
                "train_cifar.py", *where, tmp_path / name if name.endswith("py") else name
            )
            assert done.returncode == 2 and words in done.stderr and done.stderr.count("\n") == 1
        assert not (tmp_path / "run").exists()


class TestBlocks:
    def test_a_block_of_ones_own_is_called_with_what_it_takes(self):
        class Block(mx.gluon.HybridBlock):
            def __init__(self, channels, stride, in_channels, prefix):
                super().__init__(prefix=prefix)
                with self.name_scope():
                    self.conv = nn.Conv2D(channels, 3, stride, 1, in_channels=in_channels)

            def hybrid_forward(self, F, x):
                return self.conv(x)

        dmr_gluon.register_block("mine", Block)
        net = get_model("cifar_mine14")
        net.initialize()
        assert net(mx.nd.zeros((2, 3, 32, 32))).shape == (2, 10)
        assert (net.spec.depth, net.spec.name) == (14, "cifar_mine14")
        assert get_spec("mine50").blocks == get_spec("resnet50").blocks

    def test_se_gates_what_the_branches_return(self):
        exec(from_docs("my_blocks.py"), {})
        net = get_model("cifar_se_merge_and_run8")
        net.initialize()
        x = mx.nd.random.uniform(shape=(2, 3, 32, 32))
        net(x)
        block = net.features[1][0]
        stem = net.features[0](x)
        branch = block.branches[0]
        *layers, se = branch._children.values()
        h = stem
        for layer in layers:
            h = layer(h)
        hidden = np.maximum(h.asnumpy().mean((2, 3)) @ se.squeeze.weight.data().asnumpy().T, 0)
        gate = 1 / (1 + np.exp(-hidden @ se.excite.weight.data().asnumpy().T))
        np.testing.assert_allclose(
            branch(stem).asnumpy(), h.asnumpy() * gate[:, :, None, None], rtol=1e-4, atol=1e-5
        )

    @pytest.mark.parametrize(
        "name, block, words",
        [
            ("merge_and_run", dmr_gluon.Residual, "choose another name"),
            ("dmrnet", dmr_gluon.Residual, "choose another name"),
            ("Mine", dmr_gluon.Residual, "small letters and underscores"),
            ("mine2", dmr_gluon.Residual, "small letters and underscores"),
            ("mine", "Residual", "inherits from HybridBlock"),
            ("mine", mx.nd.NDArray, "inherits from HybridBlock"),
        ],
    )
    def test_what_cannot_be_registered(self, name, block, words):
        with pytest.raises(DMRError, match=words):
            dmr_gluon.register_block(name, block)

    def test_registering_again_replaces(self):
        dmr_gluon.register_block("mine", dmr_gluon.Residual)
        dmr_gluon.register_block("mine", dmr_gluon.MergeAndRun)
        assert get_spec("cifar_mine14").streams == 2

    def test_an_unknown_like_is_refused(self):
        with pytest.raises(DMRError, match="like must be one of plain, residual"):
            dmr_gluon.register_block("mine", dmr_gluon.Residual, like="mean")


class TestMappings:
    def test_streams_are_mixed_as_the_matrix_says(self):
        matrix = np.array([[0.25, 0.75], [0.25, 0.75]])
        dmr_gluon.register_mapping("mine", lambda branches: matrix)
        assert get_spec("cifar_dmrnet14", mapping="mine").name == "cifar_dmrnet14_mine"
        block = models_blocks.MergeAndRun(4, 1, 4, mapping="mine", prefix="")
        block.initialize()
        streams = [mx.nd.random.normal(shape=(2, 4, 5, 5)) for _ in range(2)]
        runs = [branch(x).asnumpy() for branch, x in zip(block.branches, streams)]
        skips = np.tensordot(matrix, np.stack([x.asnumpy() for x in streams]), 1)
        for fused in (False, True):
            block.fused = fused
            for y, h, m in zip(block(streams), runs, skips):
                np.testing.assert_allclose(y.asnumpy(), np.maximum(h + m, 0), atol=1e-5)

    def test_a_row_of_zeros_has_no_skip_connection(self):
        dmr_gluon.register_mapping("mine", lambda branches: np.diag([1, 0]))
        block = models_blocks.MergeAndRun(4, 1, 4, mapping="mine", prefix="")
        block.initialize()
        x = mx.nd.random.normal(shape=(2, 4, 5, 5))
        second = block([x, x])[1].asnumpy()
        np.testing.assert_allclose(second, block.branches[1](x).relu().asnumpy(), atol=1e-6)

    def test_equation_five_holds_for_the_mapping_of_the_docs(self):
        from dmr_gluon.analysis.mapping import equation_five

        exec(from_docs("my_mapping.py"), {})
        net = get_model("cifar_dmrnet20_k4_pairs")
        net.initialize()
        assert equation_five(net, mx.nd.random.uniform(shape=(2, 3, 32, 32))) < 1e-5

    @pytest.mark.parametrize("matrix", [[[1, 1], [0, 2]], [[1, 0]], [[np.nan, 0], [0, 1]], 1])
    def test_what_is_not_idempotent_is_refused(self, matrix):
        dmr_gluon.register_mapping("mine", lambda branches: matrix)
        with pytest.raises(DMRError, match="with M M = M, not"):
            get_spec("cifar_dmrnet14_mine")

    @pytest.mark.parametrize("name", ["mean", "identity", "w", "grouped", "my_map", "Mine"])
    def test_names_that_are_taken_or_not_allowed(self, name):
        with pytest.raises(DMRError, match="cannot be registered"):
            dmr_gluon.register_mapping(name, np.eye)

    def test_the_grouped_form_is_the_papers_alone(self):
        dmr_gluon.register_mapping("mine", np.eye)
        with pytest.raises(DMRError, match="for the paper's blocks and mappings"):
            get_spec("cifar_dmrnet14_mine_grouped")


def with_dropout(classes, width=4):
    net = nn.HybridSequential()
    net.add(nn.Conv2D(width, 3, activation="relu"), nn.BatchNorm(), nn.Dropout(0.5))
    net.add(nn.GlobalAvgPool2D(), nn.Dense(classes))
    return net


class TestNetworks:
    def recipe(self, short_recipe, **changes):
        return replace(short_recipe, batch_size=32, steps=6, **changes)

    def options(self, digits, path, **more):
        return RunOptions(digits, str(path), cpus=2, checkpoint_steps=1, **more)

    def test_dropout_is_the_same_after_a_resume(self, short_recipe, digits, tmp_path, monkeypatch):
        dmr_gluon.register_network("my_net", with_dropout)
        recipe = self.recipe(short_recipe, model="my_net(width=3)")
        fit(recipe, self.options(digits, tmp_path / "whole"))
        run = tmp_path / "run"
        shutil.copytree(tmp_path / "whole", run)
        for path in (run / "checkpoints").glob("epoch-*"):
            if not path.name.endswith("step-000005.npz"):
                path.unlink()
        for path in run.glob("model-*"):
            path.unlink()
        mx.random.seed(99)
        events = [e for e in runlog.read(run / "log.jsonl") if e["event"] == "start"]
        runlog.write(run / "log.jsonl", events)
        fit(recipe, self.options(digits, run, resume=True))
        assert hashes(run) == hashes(tmp_path / "whole") != []
        assert get_model("my_net(width=3)", classes=7).spec.classes == 7

    @pytest.mark.parametrize(
        "how",
        ["builder", *(pytest.param(one, marks=pytest.mark.slow) for one in ("block", "ours"))],
    )
    def test_fit_takes_a_network(self, short_recipe, digits, tmp_path, how):
        given = {
            "builder": with_dropout,
            "block": with_dropout(10),
            "ours": get_model("cifar_dmrnet8(blocks=(1, 1, 2))"),
        }[how]
        run = tmp_path / "run"
        fit(self.recipe(short_recipe), self.options(digits, run), network=given)
        found = read_run(run)
        expected = {
            "builder": "with_dropout",
            "block": "hybridsequential",
            "ours": "cifar_dmrnet8(blocks=(1, 1, 2))",
        }[how]
        assert found.setup.network == expected and cells_of(found.setup) == []
        net = load_run(run)
        assert isinstance(net, CustomNetwork) == (how != "ours")
        assert net(mx.nd.zeros((2, 3, 32, 32))).shape == (2, 10)
        dmr("eval", run)
        bundle = export(run, tmp_path / "bundle")
        assert bundle["network"]["name"] == expected

    def test_it_is_resumed_from_python_with_the_same_network(self, short_recipe, digits, tmp_path):
        recipe, run = self.recipe(short_recipe), tmp_path / "run"
        fit(recipe, self.options(digits, run), network=with_dropout)
        fit(recipe, self.options(digits, run, resume=True), network=with_dropout)  # at its end
        (tmp_path / "plugin.py").touch()
        plugin = str(tmp_path / "plugin.py")
        with pytest.raises(DMRError, match="was started without a plugin; leave out --plugin"):
            fit(recipe, self.options(digits, run, resume=True, plugin=plugin), network=with_dropout)
        begun = replace(recipe, model="with_dropout")
        with pytest.raises(DMRError, match="resume it from Python with the same network"):
            fit(begun, self.options(digits, run, resume=True))
        with pytest.raises(DMRError, match="has other parameters than the checkpoint"):
            fit(recipe, self.options(digits, run, resume=True), network=_other)

    def test_an_estimate_leaves_a_run_that_is_named_alone(self, short_recipe, digits, short_run):
        recipe = self.recipe(short_recipe)
        assert fit(recipe, RunOptions(digits, short_run, resume=True, estimate=True)) is None

    def test_a_changed_network_of_ours_is_not_taken_for_the_papers(
        self, short_recipe, digits, tmp_path
    ):
        net = get_model("cifar_dmrnet8", norm_layer=nn.BatchNorm, norm_kwargs={"epsilon": 1e-3})
        fit(self.recipe(short_recipe), self.options(digits, tmp_path / "run"), network=net)
        assert read_run(tmp_path / "run").setup.network == "cifar_dmrnet8_changed"

    def test_a_patched_block_is_refused(self, short_recipe, digits, tmp_path, monkeypatch):
        class Patched(dmr_gluon.MergeAndRun):
            def hybrid_forward(self, F, streams):
                found = super().hybrid_forward(F, streams)
                return found * 2 if self.last else found

        with monkeypatch.context() as patched:
            patched.setitem(network.BLOCKS, "merge_and_run", Patched)
            fit(self.recipe(short_recipe), self.options(digits, tmp_path / "run"))
        with pytest.raises(DMRError, match="computes something else than cifar_dmrnet8"):
            load_run(tmp_path / "run")

    def test_a_network_of_another_shape_is_refused(self, short_recipe, digits, tmp_path):
        for given, words in (
            (lambda classes: with_dropout(classes + 1), "returns \\(2, 11\\) for images"),
            (lambda classes: nn.Sequential(), "must be a HybridBlock, not Sequential"),
            (lambda classes: 1 / 0, "ZeroDivisionError: division by zero \\(test_own"),
            (nn.Dense, "cannot be built: TypeError"),
        ):
            with pytest.raises(DMRError, match=words):
                fit(self.recipe(short_recipe), self.options(digits, tmp_path / "r"), network=given)
        assert not (tmp_path / "r" / "config.json").exists()

    @pytest.mark.parametrize("name", ["cifar_dmrnet14", "Mine", "my-net", "dmrnet"])
    def test_names_that_are_taken_or_not_allowed(self, name):
        with pytest.raises(DMRError, match="cannot be registered"):
            dmr_gluon.register_network(name, with_dropout)

    def test_the_network_of_the_docs(self):
        exec(from_docs("my_net.py"), {})
        net = get_model("cifar_wrn(name='cifar_resnet20_v1')", classes=3)
        net.initialize()
        assert net(mx.nd.zeros((2, 3, 32, 32))).shape == (2, 3)
        with pytest.raises(DMRError, match="--sync-bn: .* is MXNet's BatchNorm; build"):
            net.synchronise_bn(2)

    def test_a_name_with_options_is_a_call(self):
        assert get_spec("cifar_dmrnet14(blocks=(2, 2, 2))").name == "cifar_dmrnet14"
        for wrong in ("cifar_dmrnet14(3)", "cifar_dmrnet14(", "cifar_dmrnet14(blocks=open)"):
            with pytest.raises(DMRError, match="cannot be read; write NAME or NAME"):
                get_spec(wrong)
        with pytest.raises(DMRError, match="unknown network option 'depth'"):
            get_spec("cifar_dmrnet14(depth=3)")
        dmr_gluon.register_network("my_net", with_dropout)
        with pytest.raises(DMRError, match="cannot be built: TypeError"):
            get_model("my_net(depth=3)")
        with pytest.raises(DMRError, match="only its builder knows"):
            get_spec("my_net")


def _other(classes):
    return with_dropout(classes, width=5)


_other.__name__ = "with_dropout"


class TestExport:
    PREPARATION = Preparation(32, (125.0, 123.0, 114.0), (63.0, 62.0, 67.0))

    def test_a_network_of_an_own_loop(self, digits, tmp_path):
        net = with_dropout(10)
        net.initialize()
        x = mx.nd.random.normal(shape=(2, 3, 32, 32))
        net.hybridize()
        before, classes = net(x).asnumpy(), [f"class {i}" for i in range(10)]
        out = tmp_path / "bundle"
        export(net, out, classes=classes, preprocessing=self.PREPARATION, data_dir=digits)
        bundle = dmr_gluon.load_bundle(out)
        np.testing.assert_allclose(bundle.logits(x.asnumpy()), before, rtol=1e-4, atol=1e-5)
        assert bundle.classes == classes
        assert len(bundle.predict(out / "example.png")) == 5
        with open(out / "bundle.json") as file:
            assert json.load(file)["forms"]["plain"]["compared"]["error"] is not None

    def test_publish_takes_it_and_get_model_gives_it(self, tmp_path):
        dmr_gluon.register_network("my_net", with_dropout)
        net = get_model("my_net", classes=3)
        net.initialize()
        x = mx.nd.random.normal(shape=(2, 3, 32, 32))
        before, store = net(x).asnumpy(), tmp_path / "store"
        publish(net, store, classes="abc", preprocessing=self.PREPARATION)
        again = get_model("my_net", pretrained=True, root=store)
        assert again.classes == ["a", "b", "c"]
        np.testing.assert_allclose(again(x).asnumpy(), before, rtol=1e-5)

    def test_what_is_missing_is_said(self, short_run, tmp_path):
        net = with_dropout(3)
        with pytest.raises(DMRError, match="with classes and preprocessing, and without epoch"):
            export(net, tmp_path / "out")
        with pytest.raises(DMRError, match="is not initialised"):
            export(net, tmp_path / "out", classes="abc", preprocessing=self.PREPARATION)
        net.initialize()
        net(mx.nd.zeros((1, 3, 32, 32)))
        with pytest.raises(DMRError, match="returns \\(2, 3\\) .* logits of shape \\(2, 2\\)"):
            export(net, tmp_path / "out", classes="ab", preprocessing=self.PREPARATION)
        with pytest.raises(DMRError, match="leave them out"):
            export(short_run, tmp_path / "out", classes="ab")
