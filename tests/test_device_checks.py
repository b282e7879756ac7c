"""``dmr verify --gpus``: every check passes here, and fails if what it checks is broken."""

import json
import os
import shutil
import signal
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from dmr_gluon.cli import main as cli
from dmr_gluon.device_checks import arithmetic, data_parallel, runner, whole_run
from dmr_gluon.device_checks.checks import FAILED, MEASURED, PASSED, bounded
from dmr_gluon.runs import log as runlog
from dmr_gluon.runs.directory import RunDirectory
from dmr_gluon.runtime import mx
from dmr_gluon.system import worker_process
from dmr_gluon.training.optimizer import NAG2016
from dmr_gluon.training.step import TrainingStep

TWO = [mx.cpu(0), mx.cpu(1)]


def verdicts(checks):
    """By what was checked."""
    return {check.what: check.verdict for check in checks}


@pytest.mark.slow
def test_all_is_green_on_two_cpu_contexts(command):
    done = command("-m", "dmr_gluon.cli.main", "verify", "--cpus", "2", "--json")
    checks = json.loads(done.stdout)["checks"]
    wrong = [check for check in checks if check["verdict"] not in (PASSED, MEASURED)]
    assert not wrong and done.returncode == 0
    names = [section.name for section in runner.SECTIONS if section.name != "tf32"]
    assert list(dict.fromkeys(check["section"] for check in checks)) == names


class TestArithmetic:
    @pytest.fixture(autouse=True)
    def one_subject(self, monkeypatch):
        monkeypatch.setattr(arithmetic, "SUBJECTS", arithmetic.SUBJECTS[2:3])

    def test_all_is_green(self):
        found = verdicts(arithmetic.check_arithmetic(TWO))
        assert set(found.values()) == {PASSED} and len(found) == 4

    @pytest.mark.parametrize("factor", [1.1, np.nan])
    @pytest.mark.parametrize("what", ["outputs", "gradients", "statistics"])
    def test_a_device_that_computes_something_else(self, monkeypatch, what, factor):
        original = arithmetic._compute

        def compute(name, images, weights, device, dtype):
            found = original(name, images, weights, device, dtype)
            if device == mx.cpu(1):
                name = sorted(found[what])[-1]
                found[what][name] = found[what][name] * factor
            return found

        monkeypatch.setattr(arithmetic, "_compute", compute)
        first = next(arithmetic.check_arithmetic(TWO))
        assert first.verdict == FAILED and what in first.figures

    def test_an_optimizer_without_weight_decay(self, monkeypatch):
        original = NAG2016._get_lr
        monkeypatch.setattr(NAG2016, "_get_lr", lambda *each: 0.99 * original(*each))
        found = list(verdicts(arithmetic.check_optimizers(TWO)).values())
        assert found == [FAILED, PASSED, FAILED]

    def test_the_bounds_of_tf32_are_looser(self):
        for deep in (False, True):
            strict, loose = (arithmetic.BOUNDS[name, deep] for name in ("float32", "TF32"))
            assert all(b is None or a < b for a, b in zip(strict, loose))
        checks = list(arithmetic.check_tf32(TWO))
        assert len(checks) == 1 and "<= 5e-03" in checks[0].figures


class TestKVStores:
    def test_all_are_green(self):
        found = list(data_parallel.check_kvstores(TWO))
        assert [check.verdict for check in found] == [PASSED, PASSED]
        assert "replicas equal" in found[0].figures

    def test_the_weights_of_one_replica_changed(self, monkeypatch):
        original = TrainingStep.update

        def update(self, *arguments, **more):
            results = original(self, *arguments, **more)
            self.flat.arrays[0].list_data()[-1][:1] += 1e-6
            return results

        monkeypatch.setattr(TrainingStep, "update", update)
        for check in data_parallel.check_kvstores(TWO):
            assert check.verdict == FAILED and "devices have different weights" in check.figures

    def test_a_gradient_scaled(self, monkeypatch):
        original = mx.gluon.Trainer._allreduce_grads

        def allreduce(self):
            original(self)
            for parameter in self._params:
                gradients = parameter.list_grad()
                for gradient in gradients:
                    gradient *= 1.0 if len(gradients) == 1 else 0.5

        monkeypatch.setattr(mx.gluon.Trainer, "_allreduce_grads", allreduce)
        assert set(verdicts(data_parallel.check_kvstores(TWO)).values()) == {FAILED}

    def test_a_kvstore_that_drops(self, monkeypatch):
        monkeypatch.setattr(mx.gluon.Trainer, "_allreduce_grads", lambda self: None)
        for check in data_parallel.check_kvstores(TWO):
            assert check.verdict == FAILED


class TestWorkers:
    """The workers' files are made up; the slow test above runs the workers."""

    @pytest.fixture
    def check(self, monkeypatch, tmp_path):
        monkeypatch.chdir(tmp_path)
        found = data_parallel.train(data_parallel.make_step(TWO[:1], accumulate=2))

        def check(status=0, factor=1.0, apart=0.0):
            def call(command, **_):
                for rank in range(2):
                    weights = factor * found["weights"] + apart * rank
                    np.savez(f"worker{rank}.npz", losses=found["losses"], weights=weights)
                return status

            monkeypatch.setattr(data_parallel, "subprocess", SimpleNamespace(call=call))
            (check,) = data_parallel.check_workers(TWO)
            return check

        return check

    def test_workers_that_do_what_one_device_does(self, check):
        assert check().verdict == PASSED

    @pytest.mark.parametrize(
        "broken, text",
        [({"factor": 0.5}, ", weights 5e-01"), ({"apart": 1e-6}, "second worker 1e")],
    )
    def test_workers_that_do_not(self, check, broken, text):
        found = check(**broken)
        assert found.verdict == FAILED and text in found.figures

    def test_a_worker_that_fails_ends_the_section(self, check):
        with pytest.raises(SystemExit) as ended:
            check(status=3)
        assert ended.value.code == 3


class TestFloat16:
    def test_the_loss_scale_is_green(self):
        (check,) = data_parallel.check_float16(TWO[:1], count=20)
        assert check.verdict == PASSED and "scale 65536" in check.figures

    def test_a_scale_that_gradients_do_not_have(self, monkeypatch):
        monkeypatch.setattr(mx.autograd, "backward", lambda losses, heads: None)
        (check,) = data_parallel.check_float16(TWO[:1], count=5)
        assert check.verdict == FAILED


class TestSyncBN:
    def test_statistics_that_are_each_device_s_own(self, monkeypatch):
        from dmr_gluon.models.network import Network

        monkeypatch.setattr(Network, "synchronise_bn", lambda self, devices: None)
        (check,) = data_parallel.check_sync_bn(TWO)
        assert check.verdict == FAILED


class TestRun:
    @pytest.fixture
    def copied(self, short_run, tmp_path):
        """A copy of a run, with the last line of its log changed."""

        def copy(**changes):
            shutil.copytree(short_run, tmp_path / "copy")
            log = RunDirectory(str(tmp_path / "copy")).log
            lines = runlog.read(log)
            last = max(i for i, line in enumerate(lines) if line["event"] == "epoch")
            lines[last].update(changes)
            with open(log, "w", encoding="utf-8") as file:
                file.writelines(json.dumps(line) + "\n" for line in lines)
            return str(tmp_path / "copy")

        return copy

    @pytest.mark.parametrize(
        "changes, bounds, verdict",
        [
            ({}, None, PASSED),
            ({"parameters_sha256": "0" * 64}, None, FAILED),
            ({"train_loss": 100.0}, whole_run._SAME_GPUS, PASSED),  # the weights are the same
            ({"train_loss": 100.0, "parameters_sha256": "0"}, whole_run._ONE_DEVICE, FAILED),
        ],
    )
    def test_resumed(self, short_run, copied, monkeypatch, changes, bounds, verdict):
        monkeypatch.setattr(whole_run, "_weights", lambda path: np.ones(9))
        check = whole_run.check_resumed("resumed", short_run, copied(**changes), bounds)
        assert check.verdict == verdict

    def test_gpus_may_add_in_another_order_but_not_lose_the_momentum(
        self, short_run, copied, monkeypatch
    ):
        other, weights = copied(parameters_sha256="0" * 64), [np.ones(9), np.ones(9) * 1.01]
        monkeypatch.setattr(whole_run, "_weights", lambda path: weights[path != short_run])
        for factor, verdict in ((1.01, PASSED), (1.5, FAILED)):
            weights[1] = np.ones(9) * factor
            check = whole_run.check_resumed("resumed", short_run, other, whole_run._SAME_GPUS)
            assert check.verdict == verdict

    def test_a_bundle_that_computes_something_else(self, short_run, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        assert whole_run.check_export(short_run, mx.cpu(1)).verdict == PASSED
        original = whole_run.load_run

        def load(path, devices):
            net = original(path, devices)
            net.output.bias.set_data(net.output.bias.data(devices[0]) + 0.1)
            return net

        monkeypatch.setattr(whole_run, "load_run", load)
        assert whole_run.check_export(short_run, mx.cpu(1)).verdict == FAILED


class TestRunner:
    def run(self, monkeypatch, code, patience=60):
        monkeypatch.setattr(runner, "SECTIONS", runner.SECTIONS[:1])
        monkeypatch.setattr(runner, "command", lambda *arguments: [sys.executable, "-c", code])
        return [check for _, found in runner.check_devices("cpu", [0], patience) for check in found]

    def test_a_section_that_crashes(self, monkeypatch):
        line = json.dumps({"what": "a", "figures": "b", "verdict": PASSED, "advice": ""})
        end = "os.write(2, b'oh\\n'); os.kill(os.getpid(), 11)"
        code = f"import os; print('{line}', flush=True); {end}"
        first, second = self.run(monkeypatch, code)
        assert first.verdict == PASSED
        assert second.verdict == FAILED and second.figures == "ended by SIGSEGV: oh"
        assert "NaiveEngine" in second.advice

    def test_a_section_that_hangs(self, monkeypatch, tmp_path):
        code = (
            "import os, signal, time; signal.signal(15, signal.SIG_IGN); "
            f"open(r'{tmp_path / 'pid'}', 'w').write(str(os.getpid())); time.sleep(600)"
        )
        monkeypatch.setattr(worker_process, "GRACE", 0.1)
        (check,) = self.run(monkeypatch, code, patience=2)
        assert check.verdict == FAILED and "no answer within 2 s" in check.figures
        with pytest.raises(ProcessLookupError):
            os.kill(int((tmp_path / "pid").read_text()), signal.SIGCONT)

    def test_a_section_that_hangs_after_its_last_word(self, monkeypatch):
        monkeypatch.setattr(worker_process, "GRACE", 0.1)
        code = "import os, time; os.close(1); time.sleep(600)"
        (check,) = self.run(monkeypatch, code, patience=2)
        assert check.verdict == FAILED and "no answer within 2 s" in check.figures

    def test_a_section_that_raises(self, monkeypatch):
        (check,) = self.run(monkeypatch, "raise ValueError('oh')")
        assert check.verdict == FAILED
        assert check.figures == "ended by status 1: ValueError: oh"
        assert "NaiveEngine" in check.advice

    def test_a_section_really_raises(self, tmp_path, command):
        """In its own process: there is no GPU."""
        name = "dmr_gluon.device_checks.runner"
        done = command("-m", name, "float16", "gpu", "0", cwd=tmp_path)
        assert done.returncode == 1 and done.stdout == ""
        assert "MXNetError" in done.stderr.splitlines()[-1]

    def test_a_failed_check_gets_the_advice_of_its_section(self, monkeypatch):
        line = json.dumps({"what": "a", "figures": "b", "verdict": FAILED, "advice": ""})
        (check,) = self.run(monkeypatch, f"print('{line}')")
        assert check.verdict == FAILED and check.advice == runner.SECTIONS[0].advice

    def test_tf32_is_checked_where_there_is_such_a_gpu(self, monkeypatch):
        monkeypatch.setattr(runner, "_run", lambda *_: ())
        for capable, count in ((True, 8), (False, 7)):
            monkeypatch.setattr(runner, "have_tf32", lambda numbers, capable=capable: capable)
            assert len(list(runner.check_devices("gpu", [0, 1]))) == count
            assert len(list(runner.check_devices("cpu", [0, 1]))) == 7

    def test_a_single_device_has_nothing_to_sum(self, monkeypatch):
        monkeypatch.setattr(runner, "_run", lambda *_: ())
        names = {section.name for section, _ in runner.check_devices("cpu", [0])}
        assert names == {"arithmetic", "workers", "float16", "run", "speed"}

    def test_float32_is_checked_without_tf32(self):
        named = {each.name: each.environment for each in runner.SECTIONS}
        assert "NVIDIA_TF32_OVERRIDE" not in named["tf32"]
        assert named["arithmetic"]["NVIDIA_TF32_OVERRIDE"] == "0"
        assert named["sync-bn"]["MXNET_GPU_WORKER_NTHREADS"] == "8"


class TestCommand:
    @pytest.mark.parametrize("verdict, status", [(1e-3, None), (2.0, 1)])
    def test_it_says_and_ends(self, monkeypatch, capsys, verdict, status):
        check = bounded("something", {"difference": (verdict, 1e-2)})
        found = [(runner.SECTIONS[0], [check])]
        monkeypatch.setattr(runner, "check_devices", lambda kind, numbers: found)
        monkeypatch.setattr("dmr_gluon.doctor.describe", lambda: {"system": "a machine"})
        for arguments in (["--cpus", "2"], ["--cpus", "2", "--json"]):
            monkeypatch.setattr(sys, "argv", ["dmr", "verify", *arguments])
            if status:
                with pytest.raises(SystemExit) as ended:
                    cli.main()
                assert ended.value.code == status
            else:
                cli.main()
            out = capsys.readouterr().out
        (line,) = json.loads(out)["checks"]
        assert line["section"] == "arithmetic" and json.loads(out)["system"] == "a machine"
        assert line["verdict"] == (FAILED if status else PASSED)

    @pytest.mark.parametrize(
        "arguments, text",
        [
            (["--cpus", "2", "--full"], "--full is for the published numbers"),
            (["--gpus", "0"], "--gpus 0 asks for GPU 0"),
            (["--gpus", "0", "--cpus", "2"], "not both"),
            (["--cpus", "0"], "at least 1"),
        ],
    )
    def test_what_does_not_go_is_refused_in_one_line(self, command, arguments, text):
        done = command("-m", "dmr_gluon.cli.main", "verify", *arguments)
        assert done.returncode == 2 and text in done.stderr
        assert done.stderr.count("\n") == 1
