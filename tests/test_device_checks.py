"""``dmr verify --gpus``: every line is green here, and red where what it checks is broken."""

import json
import os
import shutil
import signal
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from dmr_gluon.cli import main as cli
from dmr_gluon.device_checks import arithmetic, data_parallel, runner, section, whole_run
from dmr_gluon.device_checks.checks import FAILED, MEASURED, PASSED, SKIPPED, bounded
from dmr_gluon.runs import log as runlog
from dmr_gluon.runs.directory import RunDirectory
from dmr_gluon.runtime import mx
from dmr_gluon.training.optimizer import NAG2016
from dmr_gluon.training.step import LossScale, TrainingStep

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
    names = [name for name in section.CHECKS if name != "tf32"]
    assert list(dict.fromkeys(check["section"] for check in checks)) == names


class TestArithmetic:
    @pytest.fixture(autouse=True)
    def one_subject(self, monkeypatch):
        monkeypatch.setattr(arithmetic, "SUBJECTS", arithmetic.SUBJECTS[2:3])

    def test_all_is_green(self):
        found = verdicts(arithmetic.check_arithmetic(TWO))
        assert set(found.values()) == {PASSED} and len(found) == 4

    @pytest.mark.parametrize("what", ["outputs", "gradients", "statistics"])
    def test_a_device_that_computes_something_else(self, monkeypatch, what):
        original = arithmetic._computed

        def computed(net, images, weights, device, dtype):
            found = original(net, images, weights, device, dtype)
            if device == mx.cpu(1):
                arrays = dict(zip(("outputs", "gradients", "statistics"), found))[what]
                name = sorted(arrays)[0]
                arrays[name] = arrays[name] * 1.1
            return found

        monkeypatch.setattr(arithmetic, "_computed", computed)
        first = next(arithmetic.check_arithmetic(TWO))
        assert first.verdict == FAILED and "MXNET_USE_FUSION=0" in first.advice

    def test_an_optimizer_without_weight_decay(self, monkeypatch):
        original = NAG2016._get_lr
        monkeypatch.setattr(NAG2016, "_get_lr", lambda *each: 0.99 * original(*each))
        found = list(verdicts(arithmetic.check_optimizers(TWO)).values())
        assert found == [FAILED, PASSED, FAILED]

    def test_the_bounds_of_tf32_are_looser(self):
        for deep in (False, True):
            strict, loose = (arithmetic.BOUNDS[name, deep] for name in ("float32", "TF32"))
            assert all(b is None or a < b for a, b in zip(strict, loose))
        checks = list(arithmetic.check_arithmetic(TWO, "TF32"))
        assert len(checks) == 1 and "<= 5e-03" in checks[0].figures


class TestKVStores:
    def test_all_are_green(self):
        found = list(data_parallel.check_kvstores(TWO))
        assert [check.verdict for check in found] == [PASSED, PASSED]
        assert "replicas equal" in found[0].figures

    def test_one_device_needs_none(self):
        (check,) = data_parallel.check_kvstores(TWO[:1])
        assert check.verdict == SKIPPED

    def test_the_weights_of_one_replica_changed(self, monkeypatch):
        original = TrainingStep.update

        def update(self, *arguments, **more):
            results = original(self, *arguments, **more)
            self.flat.arrays[0].list_data()[-1][:1] += 1e-6
            return results

        monkeypatch.setattr(TrainingStep, "update", update)
        for check in data_parallel.check_kvstores(TWO):
            assert check.verdict == FAILED and "cpu(1) has other weights" in check.figures
            assert "--kv-store" in check.advice

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
    """What the workers leave behind is made up; they themselves are in the slow test above."""

    @pytest.fixture
    def check(self, monkeypatch, tmp_path):
        losses, moves = data_parallel.steps_of(data_parallel.make_step(TWO[:1], accumulate=2))

        def check(status=0, factor=1.0, apart=0.0, workers=2):
            def run(command, **_):
                for rank in range(workers):
                    moved = factor * moves + apart * rank
                    np.savez(tmp_path / f"worker{rank}.npz", losses=losses, moves=moved)
                return SimpleNamespace(returncode=status, stderr="a worker died\n")

            monkeypatch.setattr(data_parallel, "subprocess", SimpleNamespace(run=run, PIPE=-1))
            (found,) = data_parallel.check_workers(TWO, str(tmp_path))
            return found

        return check

    def test_workers_that_do_what_one_device_does(self, check):
        assert check().verdict == PASSED

    @pytest.mark.parametrize(
        "broken, text",
        [
            ({"factor": 0.5}, "weights 5e-01"),
            ({"apart": 1e-6}, "different weights"),
            ({"status": 1}, "status 1: a worker died"),
            ({"workers": 1}, "status 0"),
        ],
    )
    def test_workers_that_do_not(self, check, broken, text):
        found = check(**broken)
        assert found.verdict == FAILED and text in found.figures and "dist_sync" in found.advice


class TestFloat16:
    def test_the_loss_scale_is_green(self):
        (check,) = data_parallel.check_float16(TWO[:1], count=20)
        assert check.verdict == PASSED and "scale 65536" in check.figures

    def test_a_loss_scale_of_0(self, monkeypatch, tmp_path, capfd):
        monkeypatch.setattr(LossScale, "FIRST", 0.0)
        monkeypatch.setitem(section.CHECKS, "float16", section.CHECKS["float16"])
        section.main("float16", "cpu", "0", str(tmp_path))
        (line,) = capfd.readouterr().out.splitlines()
        assert json.loads(line)["verdict"] == FAILED

    def test_a_scale_that_gradients_do_not_have(self, monkeypatch):
        monkeypatch.setattr(TrainingStep, "_backward", lambda self, losses: None)
        (check,) = data_parallel.check_float16(TWO[:1], count=5)
        assert check.verdict == FAILED and "docs/gpus.md" in check.advice


class TestSyncBN:
    def test_statistics_that_are_each_device_s_own(self, monkeypatch):
        from dmr_gluon.models.network import Network

        monkeypatch.setattr(Network, "synchronise_bn", lambda self, devices: None)
        (check,) = data_parallel.check_sync_bn(TWO)
        assert check.verdict == FAILED and "--sync-bn" in check.advice


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
        "changes, on_gpus, verdict",
        [
            ({}, False, PASSED),
            ({"parameters_sha256": "0" * 64}, False, FAILED),
            ({"train_loss": 100.0}, True, PASSED),  # the bits are the same
        ],
    )
    def test_resumed_on_the_same_devices(self, short_run, copied, changes, on_gpus, verdict):
        text = "stopped, resumed on the same devices"
        assert whole_run._resumed(short_run, copied(**changes), text, on_gpus).verdict == verdict

    def test_gpus_may_add_in_another_order_but_not_lose_the_momentum(
        self, short_run, copied, monkeypatch
    ):
        other, weights = copied(parameters_sha256="0" * 64), [np.ones(9), np.ones(9) * 1.01]
        monkeypatch.setattr(whole_run, "_weights", lambda path: weights[path != short_run])
        text = "stopped, resumed on the same devices"
        assert whole_run._resumed(short_run, other, text, True).verdict == PASSED
        weights[1] = np.ones(9) * 1.5
        assert whole_run._resumed(short_run, other, text, True).verdict == FAILED

    def test_resumed_on_one_device(self, short_run, copied):
        text = "stopped, resumed on one device"
        other = copied(train_loss=100.0)
        assert whole_run._resumed(short_run, other, text, True).verdict == FAILED

    def test_a_bundle_that_computes_something_else(self, short_run, digits, tmp_path, monkeypatch):
        shutil.copytree(short_run, tmp_path / "run")
        whole = SimpleNamespace(run_dir=str(tmp_path / "run"), data_dir=digits)
        (check,) = whole_run._check_export(whole, mx.cpu(1))
        assert check.verdict == PASSED
        original = whole_run.load_run

        def load(path, devices):
            net = original(path, devices)
            net.output.bias.set_data(net.output.bias.data(devices[0]) + 0.1)
            return net

        monkeypatch.setattr(whole_run, "load_run", load)
        (check,) = whole_run._check_export(whole, mx.cpu(1))
        assert check.verdict == FAILED


class TestRunner:
    def run(self, monkeypatch, code, patience=60):
        monkeypatch.setattr(runner, "SECTIONS", runner.SECTIONS[:1])
        monkeypatch.setattr(
            runner.child, "command", lambda *arguments: [sys.executable, "-c", code]
        )
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
        monkeypatch.setattr(runner, "GRACE", 0.1)
        (check,) = self.run(monkeypatch, code, patience=2)
        assert check.verdict == FAILED and "did not end within 2 s" in check.figures
        with pytest.raises(ProcessLookupError):
            os.kill(int((tmp_path / "pid").read_text()), signal.SIGCONT)

    def test_a_section_that_hangs_after_its_last_word(self, monkeypatch):
        monkeypatch.setattr(runner, "GRACE", 0.1)
        code = "import os, time; os.close(1); time.sleep(600)"
        (check,) = self.run(monkeypatch, code, patience=2)
        assert check.verdict == FAILED and "did not end within 2 s" in check.figures

    def test_a_failure_without_advice_gets_its_section_s(self, monkeypatch):
        line = json.dumps({"what": "a", "figures": "an error", "verdict": FAILED, "advice": ""})
        (check,) = self.run(monkeypatch, f"print('{line}')")
        assert check.verdict == FAILED and check.advice == runner.SECTIONS[0].advice

    def test_tf32_is_checked_where_there_is_such_a_gpu(self, monkeypatch):
        monkeypatch.setattr(runner, "_run", lambda *_: ())
        for capable, count in ((True, 8), (False, 7)):
            monkeypatch.setattr(runner, "have_tf32", lambda numbers, capable=capable: capable)
            assert len(list(runner.check_devices("gpu", [0, 1]))) == count
            assert len(list(runner.check_devices("cpu", [0, 1]))) == 7

    def test_float32_is_checked_without_tf32(self):
        named = {each.name: each.environment for each in runner.SECTIONS}
        assert "NVIDIA_TF32_OVERRIDE" not in named["tf32"]
        assert named["arithmetic"]["NVIDIA_TF32_OVERRIDE"] == "0"
        assert named["sync-bn"]["MXNET_GPU_WORKER_NTHREADS"] == "8"
        assert list(named) == list(section.CHECKS)


class TestCommand:
    @pytest.mark.parametrize("verdict, status", [(1e-3, None), (2.0, 1)])
    def test_it_says_and_ends(self, monkeypatch, capsys, verdict, status):
        check = bounded("something", {"difference": (verdict, 1e-2)}, "do something else")
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
        assert line["advice"] == ("do something else" if status else "")

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
